"""Connections and transactions of SQLite as this project wants them: explicit, durable, with a bounded wait."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

_CACHE_KIB = 16 << 10  # an index over a million keys is sorted in memory of this size, or else in files


@contextmanager
def connect(path: Path, timeout: float, create: bool = False, log: bool = True) -> Iterator[sa.Connection]:
    """Open the database; every statement outside :func:`transaction` commits by itself.

    Parameters
    ----------
    path : Path
        The database file.
    timeout : float
        Seconds a statement waits for another writer.
    create : bool, default False
        Whether a missing file is made.
    log : bool, default True
        Whether a database without any content gets write-ahead logging; that of any other is left as it is.
    """
    address = f"file:{quote(str(path))}?mode={'rwc' if create else 'rw'}"
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, timeout=timeout),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
    )
    try:
        with engine.connect() as connection:
            if create and log and connection.exec_driver_sql("PRAGMA page_count").scalar_one() == 0:
                begin_log(driver(connection))
            connection.exec_driver_sql("PRAGMA synchronous = FULL")
            connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
            yield connection
    finally:
        engine.dispose()


def begin_log(database: sqlite3.Connection) -> None:
    """Write ahead from now on, so that readers and the writer never wait for each other."""
    database.execute("PRAGMA journal_mode = WAL")


@contextmanager
def transaction(connection: sa.Connection) -> Iterator[None]:
    """Take the write lock at once, commit at the end; on any error nothing has happened."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    finally:
        if driver(connection).in_transaction:  # a full disk has rolled back by itself
            driver(connection).rollback()


def driver(connection: sa.Connection) -> sqlite3.Connection:
    """Return the plain sqlite3 connection, for bulk inserts."""
    plain = connection.connection.driver_connection
    assert isinstance(plain, sqlite3.Connection)
    return plain
