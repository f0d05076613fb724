"""Connections, transactions and the publisher's lock of MariaDB."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from daskae.load.lock import wait_for_turn

_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


@contextmanager
def connect(url: sa.URL, timeout: float) -> Iterator[sa.Connection]:
    """Open a connection in which every statement outside of :func:`transaction` commits by itself.

    Parameters
    ----------
    url : sqlalchemy.URL
        With PyMySQL as driver.
    timeout : float
        Seconds to wait for the server, and for locks that others hold; the server counts whole ones.
    """
    arguments = {"connect_timeout": max(2, round(timeout)), "charset": "utf8mb4", "sql_mode": _MODE}
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    try:
        with engine.connect() as connection:
            seconds = max(1, math.ceil(timeout))
            connection.exec_driver_sql(
                f"SET SESSION innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}"
            )
            # Only at this level do the locks on rows keep others from inserting between them.
            connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection
    finally:
        engine.dispose()


@contextmanager
def transaction(connection: sa.Connection) -> Iterator[None]:
    """Commit at the end; on any error nothing has happened but DDL, and what was done before it.

    ``autocommit`` is off rather than ``START TRANSACTION`` sent, so that what follows DDL is in a transaction again.
    """
    connection.exec_driver_sql("SET autocommit = 0")
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    finally:
        if not connection.invalidated:
            plain = driver(connection)
            with suppress(pymysql.Error):  # a connection that is lost has rolled back
                plain.rollback()
                plain.query("SET autocommit = 1")


@contextmanager
def publisher_lock(connection: sa.Connection, database: str, timeout: float, target: str) -> Iterator[None]:
    """Hold the lock of all who publish into a database; the server frees it when this connection ends, however it ends.

    Raises
    ------
    TargetBusyError
        When somebody else still holds it after ``timeout`` seconds.
    """
    name = "daskae-" + hashlib.sha256(database.encode()).hexdigest()[:32]
    take = sa.select(sa.func.get_lock(name, 0))
    wait_for_turn(lambda: connection.execute(take).scalar_one() == 1, timeout, target)
    yield  # closing the connection frees it


def driver(connection: sa.Connection) -> "pymysql.Connection[Any]":
    """Return the plain connection, for bulk inserts."""
    plain = connection.connection.driver_connection
    assert isinstance(plain, pymysql.Connection)
    return plain
