"""Connections and transactions of DuckDB, where one process at a time can open a file."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import sqlalchemy as sa

from daskae.errors import TargetBusyError
from daskae.load.sql.duckdb.engine import Connection, make_engine

_POLL_SECONDS = 0.05
_LOCKED = "Could not set lock"


@contextmanager
def connect(path: Path, timeout: float, target: str) -> Iterator[sa.Connection]:
    """Open the database, and make it if there is none; every statement outside :func:`transaction` commits by itself.

    Raises
    ------
    TargetBusyError
        When another process still has it open after ``timeout`` seconds.
    """
    engine = make_engine(str(path))
    try:
        with _open(engine, timeout, target) as connection:
            yield connection
    finally:
        engine.dispose()


def _open(engine: sa.Engine, timeout: float, target: str) -> sa.Connection:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return engine.connect()
        except sa.exc.DBAPIError as error:
            if _LOCKED not in str(error.orig):
                raise
            if time.monotonic() >= deadline:
                raise TargetBusyError(
                    f"another program has the database open; waited {timeout:g} s",
                    where=target,
                    got=str(error.orig).partition(" See also")[0],
                    hint="close it or wait for it, then run the same command again",
                ) from None
        time.sleep(_POLL_SECONDS)


@contextmanager
def transaction(connection: sa.Connection) -> Iterator[None]:
    """Commit at the end; on any error nothing has happened."""
    connection.exec_driver_sql("BEGIN")
    done = False
    try:
        yield
        connection.exec_driver_sql("COMMIT")
        done = True
    finally:
        if not done:
            with suppress(duckdb.Error):  # a commit that failed has rolled back
                driver(connection).execute("ROLLBACK")


def driver(connection: sa.Connection) -> "duckdb.DuckDBPyConnection":
    """Return the plain connection, for Arrow tables."""
    plain = connection.connection.driver_connection
    assert isinstance(plain, Connection)
    return plain.plain
