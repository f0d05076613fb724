"""Connections, transactions and the publisher's lock of MariaDB."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pymysql
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from daskae.load.failures import mask_secrets
from daskae.load.lock import wait_for_turn
from daskae.load.sql.mariadb.failures import is_silence
from daskae.silence import cut_when_silent, keep_alive, patience

_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"

_IDLE_CLIENT_SECONDS = 300  # eight hours by default


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
    arguments = {"charset": "utf8mb4", "sql_mode": _MODE, **_limits(max(2, round(timeout)))}
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    try:
        connection = engine.connect()
        target = mask_secrets(url.set(drivername="mariadb").render_as_string(hide_password=True))
        plain: Any = driver(connection)
        descriptor, answers = plain._sock.fileno(), partial(_answers, engine, arguments, timeout)
        keep_alive(descriptor)
        plain._read_timeout = None  # statements may take their time from now on, while the server answers
        # Closing the connection says something to the server, too.
        with cut_when_silent(descriptor, answers, target, timeout), connection:
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

    A client that was cut off has ended for the server when it has said nothing for some minutes.

    Raises
    ------
    TargetBusyError
        When somebody else still holds it after ``timeout`` seconds.
    """
    name = "daskae-" + hashlib.sha256(database.encode()).hexdigest()[:32]
    take = sa.select(sa.func.get_lock(name, 0))
    connection.exec_driver_sql(f"SET SESSION wait_timeout = {_IDLE_CLIENT_SECONDS}")
    wait_for_turn(lambda: connection.execute(take).scalar_one() == 1, timeout, target)
    yield  # closing the connection frees it


def driver(connection: sa.Connection) -> "pymysql.Connection[Any]":
    """Return the plain connection, for bulk inserts."""
    plain = connection.connection.driver_connection
    assert isinstance(plain, pymysql.Connection)
    return plain


def _limits(seconds: int) -> dict[str, int]:
    """How long to wait for a connection, and for what the server says first."""
    return {"connect_timeout": seconds, "read_timeout": seconds}


def _answers(engine: sa.Engine, arguments: Mapping[str, object], timeout: float) -> bool:
    """Whether the server lets somebody in, or says why it does not."""
    given, words = engine.dialect.create_connect_args(engine.url)
    try:
        engine.dialect.connect(*given, **{**words, **arguments, **_limits(round(patience(timeout)))}).close()
    except pymysql.Error as error:
        return not is_silence(error)
    return True
