"""DuckDB as a target: the lock is a file beside the database, and Arrow tables are copied in as they are.

One process at a time can open a DuckDB file: a run waits until others have closed it, and while it publishes no other
process can read. Readers in the same process see the old tables until the commit.

Keys get no unique index: DuckDB cannot build one in a transaction that has deleted rows, and one that is there makes a
replace of a quarter of a million rows take half a minute instead of two seconds. A query proves that they are unique.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.load.base import TableParts
from daskae.load.failures import mask_secrets
from daskae.load.lock import publisher_lock
from daskae.load.sql.dialect import POSITION, RESERVED_PREFIX, Existing, FoundColumn, Session
from daskae.load.sql.drift import Widening
from daskae.load.sql.duckdb import catalog
from daskae.load.sql.duckdb.copying import copy_rows
from daskae.load.sql.duckdb.engine import DuckdbEngine
from daskae.load.sql.duckdb.failures import duckdb_translated
from daskae.load.sql.duckdb.session import connect, transaction
from daskae.load.sql.duckdb.values import TYPES
from daskae.load.sql.duckdb.widening import widen
from daskae.load.sql.files import check_database_file


class DuckdbDialect:
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
    collation = ""
    table_options: Mapping[str, Any] = {}
    stage_prefixes: tuple[str, ...] = ()
    rebuilds_indexes = False
    adopts = False
    ddl_around = False
    has_key_indexes = False
    has_partial_indexes = False
    has_indexes_by_table = False
    has_update_from = True
    has_savepoints = False
    has_typed_nulls = True
    has_isolation_levels = False
    reserved: tuple[str, ...] = (RESERVED_PREFIX,)

    def __init__(self, url: sa.URL, timeout: float) -> None:
        self.target = mask_secrets(url.render_as_string(hide_password=True))
        self.timeout = timeout
        self.compiler: sa.Dialect = DuckdbEngine(paramstyle="qmark")
        # Two names of one file must lead to one lock.
        self._path = Path(url.database or "").resolve()

    def check_place(self) -> None:
        """Refuse a missing folder, and what cannot be written."""
        check_database_file(self._path)

    def connecting(self) -> AbstractContextManager[sa.Connection]:
        """Connect, and make the file if there is none."""
        self.check_place()
        return connect(self._path, self.timeout, self.target)

    @contextmanager
    def reading(self) -> Iterator[Session | None]:
        """Connect; where there is no file yet, to a database in memory."""
        place = self._path if self._path.exists() else Path(":memory:")
        with connect(place, self.timeout, self.target) as connection:
            yield Session(self, connection, None)

    @contextmanager
    def publishing(self) -> Iterator[Session]:
        """Hold the lock file, and make the database if there is none."""
        lock = self._path.with_name(f"{self._path.name}-daskae-lock")
        with (
            publisher_lock(lock, self.timeout, self.target),
            connect(self._path, self.timeout, self.target) as connection,
        ):
            yield Session(self, connection, None)

    def transaction(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Snapshot isolation; of two transactions that update the same row one fails."""
        return transaction(connection)

    def translated(self) -> AbstractContextManager[None]:
        """Say what DuckDB says in words of a person's."""
        return duckdb_translated(self.target)

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        """A file is not lost."""
        return False

    def column_type(self, field: pa.Field, table: str, indexed: bool = False) -> sa.types.TypeEngine[Any]:
        """See :mod:`daskae.load.sql.duckdb.values`."""
        return TYPES.declared(field, table)

    def position_column(self) -> sa.Column[int]:
        """Declare a plain number, which comes with the rows."""
        return sa.Column(POSITION, sa.BigInteger, quote=True)

    def moment(self, value: datetime) -> sa.BindParameter[Any]:
        """Write a time as it is."""
        return sa.literal(value, sa.TIMESTAMP())

    def check_name(self, name: str, where: str) -> None:
        """Take any name: they are quoted and have no bounds."""

    def fold(self, name: str) -> str:
        """Ignore the case of letters."""
        return str(name).lower()

    def accepts(self, found: str, wanted: sa.types.TypeEngine[Any]) -> bool:
        """Take every type that holds all values of the wanted one."""
        return catalog.accepts(found, wanted.compile(self.compiler))

    def widen(
        self, session: Session, table: Existing, column: FoundColumn, wanted: sa.types.TypeEngine[Any]
    ) -> Widening | None:
        """Alter the type, where nothing depends on it."""
        return widen(session, table, column, wanted.compile(self.compiler))

    def find_table(self, session: Session, name: str) -> Existing | None:
        """Look into ``duckdb_tables()``."""
        return catalog.find_table(session.connection, name)

    def find_stages(self, session: Session) -> list[str]:
        """Look into ``duckdb_tables()``."""
        return catalog.find_stages(session.connection)

    def index_columns(self, session: Session, table: str, index: str) -> list[str]:
        """Find none: no index is made."""
        return []

    def index_name(self, table: str) -> str:
        """Name the index that is not made."""
        return f"_daskae_key_{table}"

    def lock_tables(self, session: Session, tables: list[sa.Table]) -> None:
        """Do nothing: other processes are kept out, and an update of the same rows in this one is a conflict."""

    def copy(
        self, session: Session, table: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch],
        marks: Mapping[str, sa.BindParameter[Any]],
    ) -> int:  # fmt: skip
        """Insert Arrow tables."""
        return copy_rows(session.connection, table, parts, batches)

    def adopt(self, session: Session, stage: sa.Table, name: str, required: tuple[str, ...]) -> None:
        """Never asked for: :attr:`adopts` is false."""

    def takes_rows_directly(self, session: Session, name: str) -> bool:
        """Stage all rows."""
        return False

    def prepare(self, session: Session, stage: sa.Table, keys: tuple[str, ...]) -> None:
        """Do nothing: DuckDB hashes."""
