"""Any database of SQLAlchemy's: generic types, rows by executemany, and statements that all of them know.

What it promises: the four strategies with the same contents and counts, all tables and the ledger in one transaction,
and values that are proven to be stored as they are. Of two publishers that have read the same ledger only one commits,
by the ledger's primary key. What it cannot promise, as each database has its own ways:

- Tables and columns are made before the transaction; those of a load that is killed stay, empty.
- Publishers of one user on one machine wait for each other. Others are not kept out: of two at once, one fails.
- Other programs are not kept from writing to the tables meanwhile, beyond what the database's own isolation does.
- Readers see whole loads if the database commits rows atomically and shows no uncommitted ones.
- Keys get no unique index: a query proves that they are unique. Texts compare as the database does, so keys that differ
  in case only may be refused as repeated ones, and large texts that cannot be compared take no upsert and no merge.
- Statements may take their time. A server that falls silent is found out if the driver tells the socket of its
  connection, as psycopg, psycopg2 and PyMySQL do; with others the load waits as long as the driver does.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.base import TableParts
from daskae.load.lock import publisher_lock
from daskae.load.sql.common import CommonDialect
from daskae.load.sql.dialect import POSITION, Session
from daskae.load.sql.portable.catalog import Catalog
from daskae.load.sql.portable.copying import copy_rows
from daskae.load.sql.portable.session import connect, lock_path, portable_translated, transaction
from daskae.load.sql.portable.values import sql_type


class PortableDialect(CommonDialect):
    """A database that SQLAlchemy and an installed driver can reach.

    Parameters
    ----------
    url : sqlalchemy.URL
        As SQLAlchemy takes it.
    timeout : float
        Seconds to wait for another publisher of this user on this machine.
    """

    name = "portable"
    catalog: Catalog
    ddl_around = True
    has_key_indexes = False
    has_update_from = False
    has_savepoints = False
    knows_isolation = False

    def __init__(self, url: sa.URL, timeout: float) -> None:
        super().__init__(url, timeout)
        self._url, self._password = url, str(url.password or "")
        self.compiler: sa.Dialect = sa.create_engine(url, poolclass=sa.NullPool).dialect
        self.title = self.compiler.name
        self.catalog = Catalog(self.compiler)

    def connecting(self) -> AbstractContextManager[sa.Connection]:
        """Connect."""
        return connect(self._url, self.target, self.timeout)

    @contextmanager
    def publishing(self) -> Iterator[Session]:
        """Hold the lock file of this user on this machine."""
        with (
            publisher_lock(lock_path(self.target), self.timeout, self.target),
            connect(self._url, self.target, self.timeout) as connection,
        ):
            yield Session(self, connection, None)

    def transaction(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Begin, commit and roll back by the driver's means."""
        return transaction(connection)

    def translated(self) -> AbstractContextManager[None]:
        """Hand on what the driver says."""
        return portable_translated(self.target, self._password)

    def column_type(self, field: pa.Field, table: str, indexed: bool = False) -> sa.types.TypeEngine[Any]:
        """See :mod:`daskae.load.sql.portable.values`."""
        return sql_type(field, table, indexed, self.compiler.supports_native_decimal)

    def position_column(self) -> sa.Column[int]:
        """Declare the primary key."""
        return sa.Column(POSITION, sa.BigInteger, primary_key=True, autoincrement=False, quote=True)

    def moment(self, value: datetime) -> sa.BindParameter[Any]:
        """Write a time as it is."""
        return sa.literal(value, sa.DateTime())

    def check_name(self, name: str, where: str) -> None:
        """Refuse what is too long for the database."""
        longest = self.compiler.max_identifier_length
        if len(name.encode()) > longest:
            got, allowed = f"{len(name.encode())} bytes", f"{longest} bytes"
            raise LoadError(f"a name is too long for {self.title}", where, got, allowed, "use a shorter name")

    def accepts(self, found: str, wanted: sa.types.TypeEngine[Any]) -> bool:
        """Take every type of the same kind that has the room."""
        return self.catalog.accepts(found, wanted)

    def copy(
        self, session: Session, table: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch],
        marks: Mapping[str, sa.BindParameter[Any]],
    ) -> int:  # fmt: skip
        """Insert by executemany, and read back."""
        with transaction(session.connection):
            return copy_rows(session.connection, table, parts, batches)

    def exact_sum(self, session: Session, column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> None:
        """Leave it: how it adds up, and whether it rounds, is not known."""

    def prepare(self, session: Session, stage: sa.Table, keys: tuple[str, ...]) -> None:
        """Index the keys, if the database takes an index on columns of their types; it is for speed only."""
        index = sa.Index(sa.quoted_name(f"{stage.name}_keys", True), *(stage.c[key] for key in keys))
        with suppress(sa.exc.DBAPIError), transaction(session.connection):
            session.connection.execute(sa.schema.CreateIndex(index))
