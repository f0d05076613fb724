"""SQLite as a target: the lock is a file beside the database, times are texts, and names have no bounds."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from daskae.errors import TargetBusyError
from daskae.faults import crash_point
from daskae.load.base import TableParts
from daskae.load.ledger import iso_text
from daskae.load.sql.common import FileDialect, as_integrity_error
from daskae.load.sql.dialect import POSITION, RESERVED_PREFIX, Existing, FoundColumn, Session
from daskae.load.sql.drift import Widening
from daskae.load.sql.sqlite import catalog
from daskae.load.sql.sqlite.copying import copy_rows
from daskae.load.sql.sqlite.failures import sqlite_translated
from daskae.load.sql.sqlite.newfile import appearing
from daskae.load.sql.sqlite.session import connect, transaction
from daskae.load.sql.sqlite.values import sql_type
from daskae.load.sql.sqlite.widening import widen
from daskae.load.totals import add_exactly

_VALUES_AT_ONCE = 10_000


class SqliteDialect(FileDialect):
    """A SQLite database file.

    Parameters
    ----------
    url : sqlalchemy.URL
        ``sqlite:///path.db``.
    timeout : float
        Seconds to wait for another publisher or writer before :class:`~daskae.errors.TargetBusyError`.
    """

    name = "sqlite"
    title = "SQLite"
    catalog = catalog
    collation = "BINARY"
    rebuilds_indexes = True
    has_partial_indexes = True
    reserved = ("sqlite_", RESERVED_PREFIX)

    def __init__(self, url: sa.URL, timeout: float) -> None:
        super().__init__(url, timeout)
        self.compiler: sa.Dialect = sqlite.dialect()

    def connecting(self) -> AbstractContextManager[sa.Connection]:
        """Connect, and make the file if there is none."""
        self.check_place()
        return connect(self._path, self.timeout, create=True)

    @contextmanager
    def publishing(self) -> Iterator[Session]:
        """Hold the lock file; a database that is not there yet appears at the end."""
        with (
            self.locked(),
            appearing(self._path, self.timeout) as place,
            connect(place, self.timeout, create=True, log=place == self._path) as connection,
        ):
            yield Session(self, connection, None)

    @contextmanager
    def reading(self) -> Iterator[Session | None]:
        """Connect; where there is no file yet, to a database in memory."""
        if not self._path.exists():
            engine = sa.create_engine("sqlite://", poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                yield Session(self, connection, None)
            return
        with connect(self._path, self.timeout) as connection:
            yield Session(self, connection, None)

    def exact_sum(self, session: Session, column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> Decimal:
        """Add up decimals, which are stored as reals, by their shortest texts: SQLite's own sum rounds."""
        total = Decimal(0)
        values = session.connection.execute(sa.select(column).where(*where, column.is_not(None)))
        for some in values.scalars().partitions(_VALUES_AT_ONCE):
            for value in some:
                number = Decimal(repr(value)) if isinstance(value, int | float) else Decimal("NaN")
                total = add_exactly(total, number)
        return total

    def transaction(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Take the write lock at once."""
        return transaction(connection)

    def translated(self) -> AbstractContextManager[None]:
        """Say what SQLite says in words of a person's."""
        return sqlite_translated(self.target, self.timeout)

    def column_type(self, field: pa.Field, table: str, indexed: bool = False) -> sa.types.TypeEngine[Any]:
        """See :mod:`daskae.load.sql.sqlite.values`."""
        return sql_type(field, table)

    def position_column(self) -> sa.Column[int]:
        """Give SQLite's own row number a name; it counts by itself."""
        return sa.Column(POSITION, sa.Integer, primary_key=True, quote=True)

    def moment(self, value: datetime) -> sa.BindParameter[Any]:
        """Write a time as ISO text."""
        return sa.literal(iso_text(value), sa.Text)

    def fold(self, name: str) -> str:
        """Ignore the case of ASCII letters."""
        return catalog.fold(name)

    def accepts(self, found: str, wanted: sa.types.TypeEngine[Any]) -> bool:
        """Take types that store and compare values alike; lengths and digits bind nothing here."""
        return catalog.accepts(found, wanted.compile(self.compiler))

    def widen(
        self, session: Session, table: Existing, column: FoundColumn, wanted: sa.types.TypeEngine[Any]
    ) -> Widening | None:
        """Write another type into the schema."""
        return widen(session.connection, table, column, wanted.compile(self.compiler))

    def index_columns(self, session: Session, table: str, index: str) -> list[str]:
        """Look into ``sqlite_master``."""
        return catalog.index_columns(session.connection, table, index)

    def copy(
        self, session: Session, table: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch],
        marks: Mapping[str, sa.BindParameter[Any]],
    ) -> int:  # fmt: skip
        """Insert many rows a statement."""
        values = {name: mark.value for name, mark in marks.items()}
        with as_integrity_error(sqlite3.IntegrityError):
            return copy_rows(session.connection, table.name, parts, batches, values)

    def adopt(self, session: Session, stage: sa.Table, name: str, required: tuple[str, ...]) -> None:
        """Rename the table; SQLite adds no constraints afterwards."""
        quote = self.compiler.identifier_preparer.quote_identifier
        session.connection.exec_driver_sql(f"ALTER TABLE {quote(stage.name)} RENAME TO {quote(name)}")

    def takes_rows_directly(self, session: Session, name: str) -> bool:
        """Unless triggers could change the rows: there is one writer, and it writes with one connection."""
        return not catalog.has_triggers(session.connection, name)

    def prepare(self, session: Session, stage: sa.Table, keys: tuple[str, ...]) -> None:
        """Index the keys, as SQLite joins by nothing else."""
        with transaction(session.connection):
            index = sa.Index(sa.quoted_name(f"{stage.name}_keys", True), *(stage.c[key] for key in keys))
            session.connection.execute(sa.schema.CreateIndex(index))

    def erase(self, session: Session) -> None:
        """Write the file anew without its free pages, and empty the write-ahead log."""
        session.connection.exec_driver_sql("VACUUM")
        crash_point("sqlite.vacuumed")
        if session.connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]:
            raise TargetBusyError(
                "the rows are removed, but another program still reads the old ones", self.target,
                hint="close it or wait for it, then run the same command again",
            )  # fmt: skip
