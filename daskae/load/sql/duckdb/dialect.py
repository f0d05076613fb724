"""DuckDB as a target: the lock is a file beside the database, and Arrow tables are copied in as they are.

One process at a time can open a DuckDB file: a run waits until others have closed it, and while it publishes no other
process can read. Readers in the same process see the old tables until the commit.

Keys get no unique index: DuckDB cannot build one in a transaction that has deleted rows, and one that is there makes a
replace of a quarter of a million rows take half a minute instead of two seconds. A query proves that they are unique.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.durable import sync
from daskae.load.base import TableParts
from daskae.load.sql.common import FileDialect
from daskae.load.sql.dialect import Existing, FoundColumn, Session
from daskae.load.sql.drift import Widening
from daskae.load.sql.duckdb import catalog
from daskae.load.sql.duckdb.copying import copy_rows
from daskae.load.sql.duckdb.engine import DuckdbEngine
from daskae.load.sql.duckdb.failures import duckdb_translated
from daskae.load.sql.duckdb.session import connect, transaction
from daskae.load.sql.duckdb.values import TYPES
from daskae.load.sql.duckdb.widening import widen


class DuckdbDialect(FileDialect):
    """A DuckDB database file.

    Parameters
    ----------
    url : sqlalchemy.URL
        ``duckdb:///path.duckdb``.
    timeout : float
        Seconds to wait for another publisher, or for a process that has the file open.
    """

    name = "duckdb"
    title = "DuckDB"
    catalog = catalog
    has_key_indexes = False
    has_savepoints = False

    def __init__(self, url: sa.URL, timeout: float) -> None:
        super().__init__(url, timeout)
        self.compiler: sa.Dialect = DuckdbEngine(paramstyle="qmark")

    def exact_sum(
        self, session: Session, column: sa.Column[Any], *where: sa.ColumnElement[bool]
    ) -> Decimal | None:  # fmt: skip
        """Let DuckDB add up, which does not where the sum has more than 38 digits."""
        try:
            return super().exact_sum(session, column, *where)
        except sa.exc.DBAPIError as error:
            if "overflow" not in str(error.orig).lower():
                raise
            return None

    @contextmanager
    def connecting(self) -> Iterator[sa.Connection]:
        """Connect, and make the file if there is none."""
        self.check_place()
        with connect(self._path, self.timeout, self.target) as connection:
            with suppress(OSError):  # not every file system has it
                sync(self._path.parent)  # DuckDB syncs what is in the file, not its name
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Session | None]:
        """Connect; where there is no file yet, to a database in memory."""
        place = self._path if self._path.exists() else Path(":memory:")
        with connect(place, self.timeout, self.target) as connection:
            yield Session(self, connection, None)

    def transaction(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Snapshot isolation; of two transactions that update the same row one fails."""
        return transaction(connection)

    def translated(self) -> AbstractContextManager[None]:
        """Say what DuckDB says in words of a person's."""
        return duckdb_translated(self.target)

    def column_type(self, field: pa.Field, table: str, indexed: bool = False) -> sa.types.TypeEngine[Any]:
        """See :mod:`daskae.load.sql.duckdb.values`."""
        return TYPES.declared(field, table)

    def moment(self, value: datetime) -> sa.BindParameter[Any]:
        """Write a time as it is."""
        return sa.literal(value, sa.TIMESTAMP())

    def accepts(self, found: str, wanted: sa.types.TypeEngine[Any]) -> bool:
        """Take every type that holds all values of the wanted one."""
        return catalog.accepts(found, wanted.compile(self.compiler))

    def widen(
        self, session: Session, table: Existing, column: FoundColumn, wanted: sa.types.TypeEngine[Any]
    ) -> Widening | None:
        """Alter the type, where nothing depends on it."""
        return widen(session, table, column, wanted.compile(self.compiler))

    def copy(
        self, session: Session, table: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch],
        marks: Mapping[str, sa.BindParameter[Any]],
    ) -> int:  # fmt: skip
        """Insert Arrow tables."""
        return copy_rows(session.connection, table, parts, batches)

    def prepare(self, session: Session, stage: sa.Table, keys: tuple[str, ...]) -> None:
        """Do nothing: DuckDB hashes."""
