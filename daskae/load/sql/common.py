"""What databases have in common. A dialect says what it does otherwise; nothing here is for one of them alone."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from daskae.load.failures import mask_secrets
from daskae.load.lock import publisher_lock
from daskae.load.sql.dialect import POSITION, RESERVED_PREFIX, Dialect, Existing, Session
from daskae.load.sql.files import check_database_file


@contextmanager
def as_integrity_error(kind: type[Exception]) -> Iterator[None]:
    """Turn what a driver raises for rows that a constraint refuses into SQLAlchemy's error of that name."""
    try:
        yield
    except kind as error:
        raise sa.exc.IntegrityError(None, None, error) from error


class Catalog(Protocol):
    """Looks tables up in a database."""

    def find_table(self, connection: sa.Connection, name: str) -> Existing | None:
        """Look a table up; raise LoadError when the name belongs to something else."""

    def find_stages(self, connection: sa.Connection) -> list[str]:
        """List the staged tables."""


class CommonDialect(Dialect):
    """A database that can do most things, in the usual way.

    Parameters
    ----------
    url : sqlalchemy.URL
        Where it is.
    timeout : float
        Seconds to wait for others.
    """

    collation = ""
    stage_prefixes: tuple[str, ...] = ()
    rebuilds_indexes = False
    adopts = False
    ddl_around = False
    has_key_indexes = True
    has_partial_indexes = False
    has_indexes_by_table = False
    has_update_from = True
    has_savepoints = True
    has_typed_nulls = True
    has_isolation_levels = False
    knows_isolation = True
    reserved: tuple[str, ...] = (RESERVED_PREFIX,)
    catalog: Catalog

    def __init__(self, url: sa.URL, timeout: float) -> None:
        self.target = mask_secrets(url.render_as_string(hide_password=True))
        self.timeout = timeout

    @property
    def table_options(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def check_place(self) -> None:
        """Leave everything to the server."""

    @contextmanager
    def reading(self) -> Iterator[Session | None]:
        """Connect."""
        with self.connecting() as connection:
            yield Session(self, connection, None)

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        """Tell by what SQLAlchemy knows of the driver's errors."""
        return error.connection_invalidated

    def position_column(self) -> sa.Column[int]:
        """Declare a plain number, which comes with the rows."""
        return sa.Column(POSITION, sa.BigInteger, quote=True)

    def check_name(self, name: str, where: str) -> None:
        """Take any name: they are quoted and have no bounds."""

    def fold(self, name: str) -> str:
        """Ignore the case of letters."""
        return str(name).lower()  # SQLAlchemy's quoted names do not change their case

    def find_table(self, session: Session, name: str) -> Existing | None:
        """Look into the catalogue."""
        return self.catalog.find_table(session.connection, name)

    def find_stages(self, session: Session) -> list[str]:
        """Look into the catalogue."""
        return self.catalog.find_stages(session.connection)

    def index_columns(self, session: Session, table: str, index: str) -> list[str]:
        """Find none, as where :attr:`has_key_indexes` is false."""
        return []

    def index_name(self, table: str) -> str:
        """Name the index after the table."""
        return f"_daskae_key_{table}"

    def lock_tables(self, session: Session, tables: list[sa.Table]) -> None:
        """Do nothing, where there is no statement for it or no need."""

    def adopt(self, session: Session, stage: sa.Table, name: str, required: tuple[str, ...]) -> None:
        """Do nothing: not asked for where :attr:`adopts` is false."""

    def exact_sum(
        self, session: Session, column: sa.Column[Any], *where: sa.ColumnElement[bool]
    ) -> Decimal | None:  # fmt: skip
        """Let the database add up; where it gives a float, the column is not one that it adds up exactly."""
        total = session.connection.execute(sa.select(sa.func.sum(column)).where(*where)).scalar_one()
        return None if isinstance(total, float) else Decimal(total or 0)

    def takes_rows_directly(self, session: Session, name: str) -> bool:
        """Stage all rows."""
        return False


class FileDialect(CommonDialect):
    """A database in a file, with a lock file beside it."""

    def __init__(self, url: sa.URL, timeout: float) -> None:
        super().__init__(url, timeout)
        # Two names of one file must lead to one lock.
        self._path = Path(url.database or "").resolve()

    def check_place(self) -> None:
        """Refuse a missing folder, and what cannot be written."""
        check_database_file(self._path)

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock file."""
        lock = self._path.with_name(f"{self._path.name}-daskae-lock")
        return publisher_lock(lock, self.timeout, self.target)

    @contextmanager
    def publishing(self) -> Iterator[Session]:
        """Hold the lock file, and make the database if there is none."""
        with self.locked(), self.connecting() as connection:
            yield Session(self, connection, None)

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        """A file is not lost."""
        return False
