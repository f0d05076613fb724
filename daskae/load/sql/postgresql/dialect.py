"""PostgreSQL as a target: the lock is an advisory one, rows arrive by COPY, and readers never wait."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from typing import Any

import psycopg
import pyarrow as pa
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects import postgresql

from daskae.errors import LoadError
from daskae.load.base import Load, TableParts
from daskae.load.sql.common import CommonDialect, as_integrity_error
from daskae.load.sql.ddl import quoted_name, quoted_table
from daskae.load.sql.dialect import POSITION, STAGE_PREFIX, Existing, FoundColumn, Session
from daskae.load.sql.digits import has_beyond
from daskae.load.sql.drift import Widening
from daskae.load.sql.postgresql import catalog
from daskae.load.sql.postgresql.copying import copy_rows, defaults
from daskae.load.sql.postgresql.failures import is_lost, postgresql_translated
from daskae.load.sql.postgresql.rights import missing_rights
from daskae.load.sql.postgresql.session import connect, current_schema, driver, publisher_lock, transaction
from daskae.load.sql.postgresql.values import TYPES
from daskae.load.sql.postgresql.widening import LARGEST_WHOLE, accepts, wider_type

_NAME_BYTES = 63  # a longer name is cut by the server without a word
_INDEX_PREFIX = "_daskae_key_"
_ROWS_FOR_TWO = 50_000  # a second connection takes some milliseconds to open


class PostgresqlDialect(CommonDialect):
    """A schema of a PostgreSQL database.

    Parameters
    ----------
    url : sqlalchemy.URL
        ``postgresql://user:password@host/database``; the schema is that of ``?schema=``, else the first of the user's
        search path.
    timeout : float
        Seconds to wait for the server, another publisher or another writer.
    """

    name = "postgresql"
    title = "PostgreSQL"
    collation = "C"
    stage_prefixes = ("UNLOGGED",)
    adopts = True
    has_partial_indexes = True
    has_isolation_levels = True

    def __init__(self, url: sa.URL, timeout: float) -> None:
        super().__init__(url, timeout)
        self.compiler: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        self._password = str(url.password or "")
        schema = url.query.get("schema", "")
        self._schema = schema if isinstance(schema, str) else schema[-1]
        self._url = url.set(drivername="postgresql+psycopg").difference_update_query(["schema"])

    def connecting(self) -> AbstractContextManager[sa.Connection]:
        """Connect."""
        return connect(self._url, self._schema, self.timeout)

    @contextmanager
    def reading(self) -> Iterator[Session | None]:
        """Connect."""
        with connect(self._url, self._schema, self.timeout) as connection:
            yield Session(self, connection, current_schema(connection, self._schema))

    @contextmanager
    def publishing(self) -> Iterator[Session]:
        """Connect and hold the advisory lock of the schema until the connection ends."""
        with connect(self._url, self._schema, self.timeout) as connection:
            schema = current_schema(connection, self._schema)
            with publisher_lock(connection, schema, self.timeout, self.target):
                yield Session(self, connection, schema)

    def transaction(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Read committed: what is written is locked, and nothing else is read."""
        return transaction(connection)

    def translated(self) -> AbstractContextManager[None]:
        """Say what PostgreSQL says in words of a person's."""
        return postgresql_translated(self.target, self._password, self.timeout)

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        """Tell by the error, or by the state of the connection."""
        return error.connection_invalidated or is_lost(error.orig)

    def column_type(self, field: pa.Field, table: str, indexed: bool = False) -> sa.types.TypeEngine[Any]:
        """See :mod:`daskae.load.sql.postgresql.values`."""
        return TYPES.declared(field, table)

    def moment(self, value: datetime) -> sa.BindParameter[Any]:
        """Write a time as it is."""
        return sa.literal(value, sa.TIMESTAMP())

    def check_name(self, name: str, where: str) -> None:
        """Refuse what the server would cut."""
        if len(name.encode()) > _NAME_BYTES:
            got, allowed = f"{len(name.encode())} bytes", f"{_NAME_BYTES} bytes"
            raise LoadError("a name is too long for PostgreSQL", where, got, allowed, "use a shorter name")

    def fold(self, name: str) -> str:
        """Return the name itself: quoted names are told apart by case."""
        return name

    def accepts(self, found: str, wanted: sa.types.TypeEngine[Any]) -> bool:
        """Take every type that holds all values of the wanted one."""
        return accepts(found, wanted.compile(self.compiler))

    def widen(
        self, session: Session, table: Existing, column: FoundColumn, wanted: sa.types.TypeEngine[Any]
    ) -> Widening | None:
        """Alter the type, where nothing depends on it."""
        kind = wider_type(column.type, wanted.compile(self.compiler))
        if kind is None:
            return None
        obstacle = catalog.find_obstacle(session.connection, str(session.schema), table.name, column.name)
        name, quoted = quoted_table(self, session.table(table.name)), quoted_name(self, column.name)
        large = (column.type, kind) == ("bigint", "DOUBLE PRECISION")
        if large and has_beyond(session, table.name, column.name, LARGEST_WHOLE):
            obstacle = f"it holds whole numbers beyond {LARGEST_WHOLE}"
        return Widening(kind, (f"ALTER TABLE {name} ALTER COLUMN {quoted} TYPE {kind}",), obstacle)

    def missing_rights(self, session: Session, load: Load) -> list[str]:
        """Ask the catalogue."""
        return missing_rights(session.connection, str(session.schema), load)

    def find_table(self, session: Session, name: str) -> Existing | None:
        """Look into ``pg_class``."""
        return catalog.find_table(session.connection, str(session.schema), name)

    def find_stages(self, session: Session) -> list[str]:
        """Look into ``pg_class``."""
        return catalog.find_stages(session.connection, str(session.schema))

    def index_columns(self, session: Session, table: str, index: str) -> list[str]:
        """Look into ``pg_index``."""
        return catalog.index_columns(session.connection, str(session.schema), table, index)

    def index_name(self, table: str) -> str:
        """Name the index after the table, or after a hash of a long name."""
        name = f"{_INDEX_PREFIX}{table}"
        if len(name.encode()) <= _NAME_BYTES:
            return name
        return _INDEX_PREFIX + hashlib.sha256(table.encode()).hexdigest()[:32]

    def lock_tables(self, session: Session, tables: list[sa.Table]) -> None:
        """Let readers in and keep writers out."""
        names = ", ".join(map(self.compiler.identifier_preparer.format_table, tables))
        session.connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")

    def copy(
        self, session: Session, table: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch],
        marks: Mapping[str, sa.BindParameter[Any]],
    ) -> int:  # fmt: skip
        """Send blocks of rows, by a second connection too where they are many and the table is nobody else's."""
        place = sql.Identifier(str(session.schema), table.name)
        columns = [*((POSITION,) if POSITION in table.c else ()), *parts.schema.names]
        values = {name: mark.value for name, mark in marks.items()}
        if not table.name.startswith(STAGE_PREFIX):
            constants = [pa.scalar(value) for value in values.values()]
            connection = driver(session.connection)
            with as_integrity_error(psycopg.IntegrityError):
                return copy_rows([connection], place, [*columns, *values], parts, batches, constants)
        with ExitStack() as stack:
            connections = [session.connection]
            if parts.rows >= _ROWS_FOR_TWO:
                connections.append(stack.enter_context(connect(self._url, self._schema, self.timeout)))
            with defaults(driver(session.connection), place, values):
                return copy_rows(list(map(driver, connections)), place, columns, parts, batches)

    def takes_rows_directly(self, session: Session, name: str) -> bool:
        """Unless something acts on every row. Readers see none of it before the commit, and other writers wait."""
        return not catalog.acts_on_rows(session.connection, str(session.schema), name)

    def adopt(self, session: Session, stage: sa.Table, name: str, required: tuple[str, ...]) -> None:
        """Rename the table; the constraint comes afterwards, since it is named after the table."""
        plain, place = driver(session.connection), sql.Identifier(str(session.schema), stage.name)
        plain.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(place, sql.Identifier(name)))
        place = sql.Identifier(str(session.schema), name)
        for column in map(sql.Identifier, required):
            plain.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL").format(place, column))

    def prepare(self, session: Session, stage: sa.Table, keys: tuple[str, ...]) -> None:
        """Let the planner know how many rows there are; no index is needed to hash them."""
        session.connection.exec_driver_sql(f"ANALYZE {self.compiler.identifier_preparer.format_table(stage)}")
