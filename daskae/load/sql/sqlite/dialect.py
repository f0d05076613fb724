"""SQLite as a target: the lock is a file beside the database, times are texts, and names have no bounds."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from daskae.load.base import TableParts
from daskae.load.ledger import iso_text
from daskae.load.lock import publisher_lock
from daskae.load.sql.dialect import POSITION, RESERVED_PREFIX, Existing, FoundColumn, Session
from daskae.load.sql.drift import Widening
from daskae.load.sql.files import check_database_file
from daskae.load.sql.sqlite import catalog
from daskae.load.sql.sqlite.copying import copy_rows
from daskae.load.sql.sqlite.failures import sqlite_translated
from daskae.load.sql.sqlite.session import connect, transaction
from daskae.load.sql.sqlite.values import sql_type
from daskae.load.sql.sqlite.widening import widen


class SqliteDialect:
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
    collation = "BINARY"
    stage_prefixes: tuple[str, ...] = ()
    rebuilds_indexes = True
    adopts = False
    table_options: Mapping[str, Any] = {}
    ddl_around = False
    has_key_indexes = True
    has_partial_indexes = True
    has_indexes_by_table = False
    has_update_from = True
    has_savepoints = True
    has_typed_nulls = True
    has_isolation_levels = False
    reserved: tuple[str, ...] = ("sqlite_", RESERVED_PREFIX)

    def __init__(self, url: sa.URL, timeout: float) -> None:
        self.target = url.render_as_string(hide_password=True)
        self.timeout = timeout
        self.compiler: sa.Dialect = sqlite.dialect()
        # Two names of one file must lead to one lock.
        self._path = Path(url.database or "").resolve()

    def check_place(self) -> None:
        """Refuse a missing folder, and what cannot be written."""
        check_database_file(self._path)

    def connecting(self) -> AbstractContextManager[sa.Connection]:
        """Connect, and make the file if there is none."""
        self.check_place()
        return connect(self._path, self.timeout, create=True)

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

    @contextmanager
    def publishing(self) -> Iterator[Session]:
        """Hold the lock file, and make the database if there is none."""
        lock = self._path.with_name(f"{self._path.name}-daskae-lock")
        with (
            publisher_lock(lock, self.timeout, self.target),
            connect(self._path, self.timeout, create=True) as connection,
        ):
            yield Session(self, connection, None)

    def transaction(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Take the write lock at once."""
        return transaction(connection)

    def translated(self) -> AbstractContextManager[None]:
        """Say what SQLite says in words of a person's."""
        return sqlite_translated(self.target, self.timeout)

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        """A file is not lost."""
        return False

    def column_type(self, field: pa.Field, table: str, indexed: bool = False) -> sa.types.TypeEngine[Any]:
        """See :mod:`daskae.load.sql.sqlite.values`."""
        return sql_type(field, table)

    def position_column(self) -> sa.Column[int]:
        """Give SQLite's own row number a name; it counts by itself."""
        return sa.Column(POSITION, sa.Integer, primary_key=True, quote=True)

    def moment(self, value: datetime) -> sa.BindParameter[Any]:
        """Write a time as ISO text."""
        return sa.literal(iso_text(value), sa.Text)

    def check_name(self, name: str, where: str) -> None:
        """Take any name: they are quoted and have no bounds."""

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

    def find_table(self, session: Session, name: str) -> Existing | None:
        """Look into ``sqlite_master``."""
        return catalog.find_table(session.connection, name)

    def find_stages(self, session: Session) -> list[str]:
        """Look into ``sqlite_master``."""
        return catalog.find_stages(session.connection)

    def index_columns(self, session: Session, table: str, index: str) -> list[str]:
        """Look into ``sqlite_master``."""
        return catalog.index_columns(session.connection, table, index)

    def index_name(self, table: str) -> str:
        """Name the index after the table."""
        return f"_daskae_key_{table}"

    def lock_tables(self, session: Session, tables: list[sa.Table]) -> None:
        """Do nothing: a transaction locks the whole file."""

    def copy(
        self, session: Session, table: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch],
        marks: Mapping[str, sa.BindParameter[Any]],
    ) -> int:  # fmt: skip
        """Insert many rows a statement."""
        values = {name: mark.value for name, mark in marks.items()}
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
