"""Connections, transactions and the publisher's lock of PostgreSQL."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

import psycopg
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from daskae.errors import LoadError
from daskae.load.failures import mask_secrets
from daskae.load.lock import wait_for_turn
from daskae.load.sql.postgresql.failures import is_silence
from daskae.silence import (
    IDLE_SECONDS,
    PROBE_SECONDS,
    PROBES,
    UNSENT_SECONDS,
    cut_when_silent,
    first_connection,
    patience,
)

# A client that was killed or cut off holds locks until the server sees that it is gone: by default after two hours, or
# at the end of its statement.
_DEAD_CLIENTS = {
    "tcp_keepalives_idle": f"{IDLE_SECONDS}",
    "tcp_keepalives_interval": f"{PROBE_SECONDS}",
    "tcp_keepalives_count": f"{PROBES}",
    "tcp_user_timeout": f"{UNSENT_SECONDS}s",
    "client_connection_check_interval": "5s",
}
# Staged rows are sorted and hashed by the transaction that publishes them. With the 4 MB that are PostgreSQL's default
# both go to disk in many pieces.
_WORK_MEM = "64MB"
_ENOUGH_MEMORY = f"""SELECT set_config('work_mem', '{_WORK_MEM}', false)
    WHERE pg_size_bytes(current_setting('work_mem')) < pg_size_bytes('{_WORK_MEM}')"""
_KEEPALIVE = {
    "keepalives_idle": IDLE_SECONDS,
    "keepalives_interval": PROBE_SECONDS,
    "keepalives_count": PROBES,
    "tcp_user_timeout": 1000 * UNSENT_SECONDS,
}


@contextmanager
def connect(url: sa.URL, schema: str, timeout: float) -> Iterator[sa.Connection]:
    """Open a connection in which every statement outside of :func:`transaction` commits by itself.

    Parameters
    ----------
    url : sqlalchemy.URL
        With psycopg as driver.
    schema : str
        Schema to work in; the first of the search path unless given.
    timeout : float
        Seconds to wait for the server, and for locks that others hold.
    """
    arguments = {"connect_timeout": max(2, round(timeout)), "client_encoding": "utf8", **_KEEPALIVE}
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    try:
        target = mask_secrets(url.set(drivername="postgresql").render_as_string(hide_password=True))
        connection: sa.Connection = first_connection(engine, target, timeout)
        descriptor, answers = driver(connection).fileno(), partial(_answers, engine, arguments, timeout)
        # Closing the connection says something to the server, too.
        with cut_when_silent(descriptor, answers, target, timeout), connection:
            _set(connection, "lock_timeout", f"{max(1, round(timeout * 1000))}ms")
            _set(connection, "application_name", "daskae")
            connection.exec_driver_sql(_ENOUGH_MEMORY)
            for name, value in _DEAD_CLIENTS.items():
                with suppress(sa.exc.DBAPIError):  # not on every system
                    _set(connection, name, value)
            if schema:
                _set(connection, "search_path", psycopg.sql.Identifier(schema).as_string())
            yield connection
    finally:
        engine.dispose()


@contextmanager
def transaction(connection: sa.Connection) -> Iterator[None]:
    """Commit at the end; on any error nothing has happened."""
    connection.exec_driver_sql("BEGIN")
    try:
        yield
        connection.exec_driver_sql("COMMIT")
    finally:
        plain = None if connection.invalidated else driver(connection)
        if (
            plain is not None
            and not plain.closed
            and plain.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
        ):
            plain.rollback()


def current_schema(connection: sa.Connection, schema: str) -> str:
    """Return the schema that new tables come into.

    Raises
    ------
    LoadError
        When there is none of this name.
    """
    found: str | None = connection.execute(sa.select(sa.func.current_schema())).scalar_one()
    if found is None:
        raise LoadError("there is no such schema", "--to", schema or "a search path without a schema", hint="create it")
    return found


@contextmanager
def publisher_lock(connection: sa.Connection, schema: str, timeout: float, target: str) -> Iterator[None]:
    """Hold the lock of all who publish into a schema; the server frees it when this connection ends, however it ends.

    Raises
    ------
    TargetBusyError
        When somebody else still holds it after ``timeout`` seconds.
    """
    key = int.from_bytes(hashlib.sha256(f"daskae {schema}".encode()).digest()[:8], "big", signed=True)
    take = sa.select(sa.func.pg_try_advisory_lock(key))
    wait_for_turn(lambda: bool(connection.execute(take).scalar_one()), timeout, target)
    yield  # closing the connection frees it


def driver(connection: sa.Connection) -> "psycopg.Connection[tuple[object, ...]]":
    """Return the plain psycopg connection, for COPY."""
    plain = connection.connection.driver_connection
    assert isinstance(plain, psycopg.Connection)
    return plain


def _answers(engine: sa.Engine, arguments: Mapping[str, object], timeout: float) -> bool:
    """Whether the server lets somebody in, or says why it does not."""
    given, words = engine.dialect.create_connect_args(engine.url)
    try:
        engine.dialect.connect(*given, **{**words, **arguments, "connect_timeout": round(patience(timeout))}).close()
    except psycopg.Error as error:
        return not is_silence(error)
    return True


def _set(connection: sa.Connection, name: str, value: str) -> None:
    connection.execute(sa.select(sa.func.set_config(name, value, False)))
