"""Real servers that something comes before: what tests of silence have in common."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from .black_hole import Silence, Stopped, black_hole, silent_proxy
from .databases import Database, database_of_its_own, schema_of_its_own
from .mariadb_server import MariadbServer
from .server import Server


@dataclass(frozen=True)
class Scene:
    """A database, and what can come before it."""

    database: Database
    address: tuple[str, int]
    """Where it is found."""
    silence: Silence

    @property
    def url(self) -> str:
        """What the command gets."""
        return self._here(self.database.url)

    @property
    def plain_url(self) -> str:
        """What SQLAlchemy takes."""
        return self._here(self.database.plain_url)

    def _here(self, url: str) -> str:
        before, at, after = url.partition("@")
        return f"{before}{at}{self.address[0]}:{self.address[1]}/{after.partition('/')[2]}"


@contextmanager
def silenced(fault: str, server: Server | MariadbServer) -> Iterator[Scene]:
    """Make a database that can fall silent in one of the ways."""
    own = schema_of_its_own if isinstance(server, Server) else database_of_its_own
    with own(server.url, f"daskae_silence_{time.monotonic_ns()}") as database, ExitStack() as stack:
        if fault == "silent proxy":
            proxy = stack.enter_context(silent_proxy(server.address))
            yield Scene(database, (server.address[0], proxy.port), proxy)
        elif fault == "stopped server":
            stopped = Stopped(server.pid)
            stack.callback(stopped.close)
            yield Scene(database, server.address, stopped)
        else:
            yield Scene(database, server.address, stack.enter_context(black_hole(server.address[1])))


def sleep(connection: sa.Connection, seconds: float) -> None:
    name = "pg_sleep" if connection.dialect.name == "postgresql" else "SLEEP"
    connection.exec_driver_sql(f"SELECT {name}({seconds})")


def own_port(connection: sa.Connection) -> int:
    plain: Any = connection.connection.driver_connection
    with socket.socket(fileno=os.dup((getattr(plain, "_sock", None) or plain).fileno())) as twin:
        return int(twin.getsockname()[1])
