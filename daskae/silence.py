"""A database that has fallen silent, or a network that lets nothing through, ends a session instead of hanging it.

A statement may take an hour, and nothing comes over its connection all that time. So the length of the silence tells
nothing; whether the server still answers does. While a session is open a thread asks it every now and then, on a new
connection, and cuts the session when there is no answer. Where the server answers and the session's own path is gone,
as behind a firewall that has forgotten it, the kernel finds out by its keepalives.

Not covered: drivers that do not tell the socket of a connection, beside those that need none.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from daskae.errors import DaskaeError, TargetLostError

SILENT = "the database does not answer"
LOOK = "look at the network and at the server, then run the same command again"
PERIOD_SECONDS = 10.0
"""How often to ask."""
_LEAST_PATIENCE, _MOST_PATIENCE = 10.0, 60.0
_JOIN_SECONDS = 1.0
IDLE_SECONDS, PROBE_SECONDS, PROBES = 30, 10, 3
"""Keepalives: when the first is sent, how often, and how many may stay without an answer."""
UNSENT_SECONDS = 120
"""How long the other side may not take what was sent: a server that is busy with its disk does not, for a while."""
_LIMITS = {"psycopg": ("connect_timeout",), "psycopg2": ("connect_timeout",),
           "pymysql": ("connect_timeout", "read_timeout")}  # fmt: skip
"""Arguments of drivers, by SQLAlchemy's name of them, that bound the wait for a connection."""


def patience(timeout: float) -> float:
    """Seconds that a server may take to answer: those to wait for others, within reason."""
    return min(max(timeout, _LEAST_PATIENCE), _MOST_PATIENCE)


@contextmanager
def cut_when_silent(
    descriptor: int, answers: Callable[[], bool], place: str, timeout: float, kind: type[DaskaeError] = TargetLostError
) -> Iterator[None]:
    """Watch the server of a connection while the body runs, and end the connection when it answers no more.

    Parameters
    ----------
    descriptor : int
        Of the connection's socket.
    answers : callable
        Asks the server something on a new connection, and returns whether there was an answer in time.
    place : str
        The database in words, for the error.
    timeout : float
        Seconds to wait for others.
    kind : type
        Of the error.

    Raises
    ------
    DaskaeError
        Of that kind, instead of the error that the driver has for a connection that was cut.
    """
    stop, cut = threading.Event(), threading.Event()
    # A twin of the descriptor, as the driver may close its own at any time, and the number may go to another file.
    with socket.socket(fileno=os.dup(descriptor)) as twin:
        watch = _Watch(twin, answers, stop, cut)
        thread = threading.Thread(target=watch.work, name="database-watch", daemon=True)
        thread.start()
        try:
            yield
        except Exception as error:
            if not cut.is_set() or isinstance(error, DaskaeError):
                raise
            got = f"no answer to a new connection in {patience(timeout):g} s, and none to what was sent"
            raise kind(SILENT, place, got, hint=LOOK) from error
        finally:
            stop.set()
            thread.join(_JOIN_SECONDS)  # one that waits for an answer goes by itself


def keep_alive(descriptor: int) -> None:
    """Let the kernel find out when the other side of a connection is gone."""
    options = {
        "TCP_KEEPIDLE": IDLE_SECONDS, "TCP_KEEPINTVL": PROBE_SECONDS, "TCP_KEEPCNT": PROBES,
        "TCP_USER_TIMEOUT": 1000 * UNSENT_SECONDS,
    }  # fmt: skip
    with socket.socket(fileno=os.dup(descriptor)) as twin:
        if twin.family == getattr(socket, "AF_UNIX", None):
            return
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options.items():
            if (number := getattr(socket, name, None)) is not None:  # not on every system
                twin.setsockopt(socket.IPPROTO_TCP, number, value)


@contextmanager
def watched(
    engine: Any, connection: Any, place: str, timeout: float, kind: type[DaskaeError] = TargetLostError
) -> Iterator[None]:
    """Watch the server of any of SQLAlchemy's connections while the body runs, if its driver tells the socket.

    Parameters
    ----------
    engine, connection : sqlalchemy.Engine, sqlalchemy.Connection
    place, timeout, kind
        See :func:`cut_when_silent`.
    """
    plain = connection.connection.driver_connection
    descriptor = _descriptor(plain)
    if descriptor is None:
        yield
        return
    keep_alive(descriptor)
    if "read_timeout" in first_limits(engine.url, timeout):
        plain._read_timeout = None  # statements may take their time from now on, while the server answers
    seconds = patience(timeout)
    try:
        with cut_when_silent(
            descriptor, lambda: _ends_within(partial(_ask, engine, seconds), seconds), place, timeout, kind
        ):
            yield
    finally:
        # PyMySQL would still look for rows on a connection that is closed, when it forgets their result, and complain.
        if getattr(plain, "_sock", plain) is None and getattr(plain, "_result", None) is not None:
            plain._result.unbuffered_active = False


def first_connection(engine: Any, place: str, timeout: float, kind: type[DaskaeError] = TargetLostError) -> Any:
    """Connect; what SQLAlchemy asks the server at first must be answered in time, too.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        With :func:`first_limits`; with a driver that has none it connects as long as that takes.
    place, timeout, kind
        See :func:`cut_when_silent`.

    Returns
    -------
    sqlalchemy.Connection

    Raises
    ------
    DaskaeError
        Of that kind, when there is no answer.
    """
    if engine.dialect.driver not in _LIMITS:
        return engine.connect()
    found: Future[Any] = Future()

    def connect() -> None:
        try:
            found.set_result(engine.connect())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=connect, name="database-connect", daemon=True).start()
    seconds = 1.5 * patience(timeout)  # so that the driver, which has waited as long as it may, says so itself
    try:
        return found.result(seconds)
    except TimeoutError:
        if found.done():
            raise
        raise kind(SILENT, place, f"no answer to the first questions in {seconds:g} s", hint=LOOK) from None


def first_limits(url: Any, timeout: float) -> dict[str, int]:
    """Return arguments that end the wait for a server that says nothing at first, but those that the URL has itself.

    Parameters
    ----------
    url : sqlalchemy.URL
    timeout : float
        Seconds to wait for others.
    """
    names = _LIMITS.get(url.get_driver_name(), ())
    return {name: round(patience(timeout)) for name in names if name not in url.query}


def _descriptor(plain: Any) -> int | None:
    """Return the socket of a connection, None if its driver does not tell."""
    tells = getattr(plain, "fileno", None) or getattr(getattr(plain, "_sock", None), "fileno", None)
    try:
        return None if tells is None else int(tells())
    except (OSError, ValueError):  # a file of its own on top of the socket
        return None


def _ask(engine: Any, seconds: float) -> None:
    """Open another connection; one that nobody waits for any more ends by itself, where the driver knows how."""
    given, words = engine.dialect.create_connect_args(engine.url)
    limits = dict.fromkeys(_LIMITS.get(engine.dialect.driver, ()), 2 * round(seconds))
    engine.dialect.connect(*given, **{**words, **limits}).close()


def _ends_within(work: Callable[[], object], seconds: float) -> bool:
    """Whether something ends in time; with an error, too, as a refusal is an answer."""
    ended = threading.Event()

    def run() -> None:
        with suppress(Exception):
            work()
        ended.set()

    threading.Thread(target=run, name="database-question", daemon=True).start()
    return ended.wait(seconds)


@dataclass(frozen=True)
class _Watch:
    """What the thread does."""

    twin: socket.socket
    answers: Callable[[], bool]
    stop: threading.Event
    cut: threading.Event

    def work(self) -> None:
        """Ask until there is no answer or no more need."""
        while not self.stop.wait(PERIOD_SECONDS):
            if not self.answers():
                if not self.stop.is_set():
                    self.cut.set()
                    with suppress(OSError):  # it is closed already
                        self.twin.shutdown(socket.SHUT_RDWR)
                return
