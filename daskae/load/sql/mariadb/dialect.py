"""MariaDB and MySQL as a target: rows arrive in large statements, and readers never wait for a publish.

Every CREATE and ALTER commits by itself there, so tables, columns and indexes are made before the transaction; see
:mod:`daskae.load.sql.ahead`. Existing rows are locked one by one, with the gaps between them: another program's write
waits, or makes this load wait and try again later. GET_LOCK keeps publishers apart on one server; on a cluster of
several that take writes, all runs must name the same one.
"""

import hashlib
import string
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from daskae.errors import LoadError
from daskae.load.base import TableParts
from daskae.load.sql.common import CommonDialect
from daskae.load.sql.dialect import POSITION, Existing, FoundColumn, Session
from daskae.load.sql.drift import Widening
from daskae.load.sql.mariadb import catalog
from daskae.load.sql.mariadb.copying import copy_rows
from daskae.load.sql.mariadb.failures import is_lost, mariadb_translated
from daskae.load.sql.mariadb.session import connect, publisher_lock, transaction
from daskae.load.sql.mariadb.values import sql_type
from daskae.load.sql.mariadb.widening import widen

_NAME_LENGTH = 64
_INDEX_PREFIX = "_daskae_key_"
# Both compare code points and tell trailing spaces apart.
_COLLATION, _MYSQL_COLLATION = "utf8mb4_nopad_bin", "utf8mb4_0900_bin"


class MariadbDialect(CommonDialect):
    """A database of a MariaDB or MySQL server.

    Parameters
    ----------
    url : sqlalchemy.URL
        ``mariadb://user:password@host/database``.
    timeout : float
        Seconds to wait for the server, another publisher or another writer.
    """

    name = "mariadb"
    title = "MariaDB"
    catalog = catalog
    ddl_around = True
    has_indexes_by_table = True
    has_typed_nulls = False
    has_isolation_levels = True

    def __init__(self, url: sa.URL, timeout: float) -> None:
        super().__init__(url, timeout)
        self.compiler: sa.Dialect = mysql.dialect()
        self.collation = _COLLATION
        self._password = str(url.password or "")
        self._url = url.set(drivername="mysql+pymysql")

    @property
    def table_options(self) -> Mapping[str, Any]:
        """Nothing is left to the defaults of the database, which may know one language only."""
        return {
            "mysql_engine": "InnoDB",
            "mysql_charset": "utf8mb4",
            "mysql_collate": self.collation,
            "mysql_row_format": "DYNAMIC",
        }

    @contextmanager
    def connecting(self) -> Iterator[sa.Connection]:
        """Connect, and see which of the two servers it is."""
        with connect(self._url, self.timeout) as connection:
            version: str = connection.exec_driver_sql("SELECT VERSION()").scalar_one()
            self.collation = _COLLATION if "mariadb" in version.lower() else _MYSQL_COLLATION
            yield connection

    @contextmanager
    def publishing(self) -> Iterator[Session]:
        """Connect and hold the lock of the database until the connection ends."""
        with (
            self.connecting() as connection,
            publisher_lock(connection, str(self._url.database), self.timeout, self.target),
        ):
            yield Session(self, connection, None)

    def transaction(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Repeatable read: what is locked stays as it is, with the gaps between the rows."""
        return transaction(connection)

    def translated(self) -> AbstractContextManager[None]:
        """Say what MariaDB says in words of a person's."""
        return mariadb_translated(self.target, self._password, self.timeout)

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        """Tell by the error, or by the state of the connection."""
        return error.connection_invalidated or is_lost(error.orig)

    def column_type(self, field: pa.Field, table: str, indexed: bool = False) -> sa.types.TypeEngine[Any]:
        """See :mod:`daskae.load.sql.mariadb.values`."""
        return sql_type(field, table, indexed, self.collation)

    def position_column(self) -> sa.Column[int]:
        """Declare the primary key, which rows are stored by."""
        return sa.Column(POSITION, sa.BigInteger, primary_key=True, autoincrement=False, quote=True)

    def moment(self, value: datetime) -> sa.BindParameter[Any]:
        """Write a time as it is."""
        return sa.literal(value, mysql.DATETIME(fsp=6))

    def check_name(self, name: str, where: str) -> None:
        """Refuse what the server has no names for."""
        if len(name) > _NAME_LENGTH:
            got, allowed = f"{len(name)} characters", f"{_NAME_LENGTH} characters"
            raise LoadError("a name is too long for MariaDB", where, got, allowed, "use a shorter name")
        if name[-1] in string.whitespace or max(name) > "\uffff":
            raise LoadError(
                "MariaDB cannot have such a name",
                where,
                repr(name),
                "a name without white space at its end and without characters above U+FFFF, such as emoji",
                "use another name",
            )

    def accepts(self, found: str, wanted: sa.types.TypeEngine[Any]) -> bool:
        """Take every type that holds all values of the wanted one and compares them alike."""
        return catalog.accepts(found, wanted.compile(self.compiler))

    def widen(
        self, session: Session, table: Existing, column: FoundColumn, wanted: sa.types.TypeEngine[Any]
    ) -> Widening | None:
        """Alter the type, where nothing depends on it."""
        return widen(session, table, column, wanted.compile(self.compiler))

    def index_columns(self, session: Session, table: str, index: str) -> list[str]:
        """Look into ``information_schema``."""
        return catalog.index_columns(session.connection, table, index)

    def index_name(self, table: str) -> str:
        """Name the index after the table, or after a hash of a long name."""
        name = f"{_INDEX_PREFIX}{table}"
        return name if len(name) <= _NAME_LENGTH else _INDEX_PREFIX + hashlib.sha256(table.encode()).hexdigest()[:32]

    def lock_tables(self, session: Session, tables: list[sa.Table]) -> None:
        """Lock all rows and the gaps between them: LOCK TABLES would commit, and keep readers out."""
        for table in tables:
            session.connection.execute(sa.select(sa.func.count()).select_from(table).with_for_update())

    def copy(
        self, session: Session, table: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch],
        marks: Mapping[str, sa.BindParameter[Any]],
    ) -> int:  # fmt: skip
        """Insert many rows a statement."""
        columns = [POSITION, *parts.schema.names]
        return copy_rows(session.connection, table.name, columns, parts, batches)

    def prepare(self, session: Session, stage: sa.Table, keys: tuple[str, ...]) -> None:
        """Index the keys, as MariaDB joins by little else."""
        index = sa.Index(sa.quoted_name(f"{stage.name}_keys", True), *(stage.c[key] for key in keys))
        session.connection.execute(sa.schema.CreateIndex(index))
