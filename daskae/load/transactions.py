"""Transactions for people who write their own sink: isolation level, savepoints, all or nothing.

::

    with open_transaction("postgresql://user@host/shop", isolation="serializable") as work:
        work.execute("INSERT INTO totals VALUES (:day, :sum)", {"day": day, "sum": total})
        with work.savepoint() as point:
            work.execute("INSERT INTO details SELECT * FROM staged")
            if too_many:
                point.rollback()

All of it is there when the body ends, or nothing after an error. An error inside a savepoint's body undoes what was
done since, and goes on; who catches it outside of that body keeps the rest.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from typing import Any, Literal, get_args

import pyarrow as pa
import sqlalchemy as sa

from daskae.errors import LoadError, SettingsError
from daskae.load.targets import open_dialect

Isolation = Literal["read committed", "repeatable read", "serializable"]


class Savepoint:
    """A place in a transaction that one can go back to."""

    def __init__(self, connection: sa.Connection, name: str) -> None:
        self._connection, self._name = connection, name
        self.released = False
        """Whether it is gone, so that there is no way back to it."""

    def rollback(self) -> None:
        """Undo everything since the savepoint, which stays."""
        self._connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {self._name}")

    def release(self) -> None:
        """Forget the savepoint and keep what was done since."""
        if not self.released:
            self._connection.exec_driver_sql(f"RELEASE SAVEPOINT {self._name}")
            self.released = True


class Transaction:
    """An open transaction."""

    def __init__(self, connection: sa.Connection, savepoints: bool = True) -> None:
        self._savepoints = savepoints
        self.connection = connection
        """For all that SQLAlchemy can do; it must not commit or roll back."""
        self._numbers = count(1)

    def execute(
        self, statement: str | sa.Executable, values: Mapping[str, Any] | list[Mapping[str, Any]] | None = None
    ) -> "sa.CursorResult[Any]":  # fmt: skip
        """Run a statement, SQL text or one of SQLAlchemy's; values are bound by name, never spliced into it."""
        text = sa.text(statement) if isinstance(statement, str) else statement
        return self.connection.execute(text, values)

    @contextmanager
    def savepoint(self) -> Iterator[Savepoint]:
        """Set a savepoint; an error in the body undoes what the body did.

        Raises
        ------
        LoadError
            On DuckDB, which has none.
        """
        if not self._savepoints:
            raise LoadError("this database has no savepoints", hint="do it in a transaction of its own")
        point = Savepoint(self.connection, f"daskae_{next(self._numbers)}")
        self.connection.exec_driver_sql(f"SAVEPOINT {point._name}")
        try:
            yield point
        except BaseException:
            if not point.released:
                point.rollback()
                point.release()
            raise
        point.release()


def open_transaction(
    url: str, isolation: Isolation | None = None, timeout: float = 30.0
) -> AbstractContextManager[Transaction]:  # fmt: skip
    """Open a database and run the body in one transaction.

    Parameters
    ----------
    url : str
        ``sqlite:///file.db``, ``postgresql://user@host/database`` or that of any other database a load can go to.
        MariaDB commits what was done so far before every CREATE, ALTER and DROP.
    isolation : {"read committed", "repeatable read", "serializable"}, optional
        Isolation level; the database's own unless given. SQLite is always serializable, DuckDB a snapshot.
    timeout : float, default 30
        Seconds to wait for other writers.

    Raises
    ------
    SettingsError
        When the URL is not that of a database, or its isolation cannot be chosen.
    LoadError
        When the database refuses; it is as it was before. Other errors of the body pass as they are.
    TargetBusyError
        When somebody else holds what is needed.
    """
    dialect = open_dialect(url, timeout)
    if dialect is None:
        raise SettingsError(
            "a transaction needs a database", got=url.partition(":")[0], allowed="sqlite, postgresql, mariadb, duckdb"
        )

    if isolation is not None and (isolation not in get_args(Isolation) or not dialect.knows_isolation):
        raise SettingsError(
            "the isolation level cannot be had", "isolation", isolation,
            ", ".join(get_args(Isolation)) if dialect.knows_isolation else f"the one that {dialect.title} has",
        )  # fmt: skip

    @contextmanager
    def run() -> Iterator[Transaction]:
        try:
            with dialect.translated(), dialect.connecting() as connection, dialect.transaction(connection):
                if isolation and dialect.has_isolation_levels:
                    connection.exec_driver_sql(f"SET TRANSACTION ISOLATION LEVEL {isolation.upper()}")
                try:
                    yield Transaction(connection, dialect.has_savepoints)
                except (OSError, pa.ArrowException) as error:  # of a file, say, which is not the database's fault
                    raise _OfTheBodyError(error) from error
        except _OfTheBodyError as undone:
            raise undone.error from undone.error.__cause__

    return run()


class _OfTheBodyError(Exception):
    """Carries an error past those who take it for one of the database."""

    def __init__(self, error: Exception) -> None:
        self.error = error
