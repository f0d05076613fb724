"""What can be done to a publish at any of its crash points, and the targets that it can be done to.

A fault harms a publish that stands still at a crash point, lets it go on or not, and leaves things so that the same
command can be run again. The matrix in test_fault_matrix.py loops over all points that a publish passes, by number, so
a new crash point is in it by being there.
"""

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from daskae.load.base import FLAG_COLUMNS, Load, LoadOptions, Sink, Strategy
from tests.fault_log import checked, fault, strike

from .building import A, B, build_load, shop
from .databases import Database, Folder, Target, database_of_its_own, schema_of_its_own
from .mariadb_server import MariadbServer
from .processes import StoppedPublish
from .proxy import CuttingProxy, cutting_proxy
from .server import Server

STRATEGIES: tuple[Strategy, ...] = ("replace", "append", "upsert", "merge")
BUSY_TIMEOUT = 0.3
_numbers = count()


@dataclass(frozen=True)
class Site:
    """A fresh target and what may be done around it."""

    target: Target
    url: str
    """What the disturbed publish gets; it may lead through a proxy."""
    server: Server | MariadbServer | None = None
    proxy: CuttingProxy | None = None

    def sink(self) -> Sink:
        return self.target.sink()


def two_loads(folder: Path, strategy: Strategy) -> tuple[Load, Load]:
    """One that is there, and one that is disturbed: it changes, adds and takes away, in two tables."""
    first = build_load(folder / "first", A, shop("north", 40))
    second = build_load(folder / "second", B, shop("south", 30), strategy)
    return first, replace(second, options=LoadOptions(on_missing="flag" if strategy == "merge" else "keep"))


def state(target: Target) -> dict[str, Any]:
    """All rows, all names, and what the ledger says of the loads that are there."""
    if isinstance(target, Folder):
        entries = [(e.load_id, e.run_id, e.strategy, e.status, e.tables, e.changes) for e in target.entries()]
    else:
        columns = "load_id, run_id, strategy, status, tables, changes"
        entries = target.query(f"SELECT {columns} FROM _daskae_loads WHERE status <> 'failed' ORDER BY sequence")
    tables = {name: target.rows(name, metadata=True) for name in ("customer_metrics", "kpis")}
    if isinstance(target, Database) and target.ddl_around:
        for row in (row for rows in tables.values() for row in rows):
            if row.get(FLAG_COLUMNS[0]) == 1:  # columns that were added for a load that failed stay, with this in them
                assert [row.pop(name) for name in FLAG_COLUMNS] == [1, None]
    return {"names": target.names(), "ledger": entries, **tables}


def assert_as_calm(target: Target, calm: dict[str, Any], said: object = "") -> None:
    """Compare what is there with what is there when nothing has disturbed the same loads."""
    assert state(target) == calm, said
    checked("contents")


@contextmanager
def sqlite_site(folder: Path) -> Iterator[Site]:
    url = f"sqlite:///{folder}/{next(_numbers)}.db"
    yield Site(Database("sqlite", url, url), url)


@contextmanager
def duckdb_site(folder: Path) -> Iterator[Site]:
    url = f"duckdb:///{folder}/{next(_numbers)}.duckdb"
    yield Site(Database("duckdb", url, url), url)


@contextmanager
def portable_site(folder: Path) -> Iterator[Site]:
    url = f"sqlite:///{folder}/{next(_numbers)}.db"
    yield Site(Database("portable", f"portable+{url}", url), f"portable+{url}")


@contextmanager
def parquet_site(folder: Path) -> Iterator[Site]:
    target = Folder(f"{folder}/out-{next(_numbers)}")
    yield Site(target, target.url)


@contextmanager
def postgresql_site(server: Server) -> Iterator[Site]:
    """A schema, and a proxy in front of it that this process can cut."""
    with (
        schema_of_its_own(server.url, f"daskae_faults_{os.getpid()}_{next(_numbers)}") as database,
        cutting_proxy(*server.address, name="postgresql") as proxy,
    ):
        yield Site(database, through(database, proxy), server, proxy)


@contextmanager
def mariadb_site(url: str, server: MariadbServer | None = None) -> Iterator[Site]:
    """A database, and a proxy in front of it; the server too, where it may be killed."""
    place = sa.make_url(url)
    with (
        database_of_its_own(url, f"daskae_faults_{os.getpid()}_{next(_numbers)}") as database,
        cutting_proxy(str(place.host), int(place.port or 3306), name="mariadb") as proxy,
    ):
        yield Site(database, through(database, proxy), server, proxy)


def through(database: Database, proxy: CuttingProxy) -> str:
    """The URL of a database by way of a proxy."""
    return sa.make_url(database.url).set(port=proxy.port).render_as_string(hide_password=False)


Harm = Callable[[Site, StoppedPublish], None]


def kill_driver(site: Site, publish: StoppedPublish) -> None:
    publish.kill()


def kill_server(site: Site, publish: StoppedPublish) -> None:
    """The server dies at once with all its processes, and is back when the same command is run again."""
    assert site.server
    site.server.kill(str(publish.point))
    failure = publish.failure()
    site.server.start()
    assert_said(failure)


def restart_server(site: Site, publish: StoppedPublish) -> None:
    """The server dies and is back before the publish notices."""
    assert site.server
    site.server.kill(str(publish.point))
    site.server.start()
    assert_said(publish.failure())


def kill_backend(site: Site, publish: StoppedPublish) -> None:
    """One process of the server dies, so the server ends all sessions and recovers."""
    assert site.server
    for pid in _sessions(site):
        strike(pid, signal.SIGKILL, str(publish.point), "backend of the server", site.target.name)
    assert_said(publish.failure())
    site.server.wait()


def end_session(site: Site, publish: StoppedPublish) -> None:
    assert isinstance(site.target, Database)
    end_sessions(site.target, str(publish.point))
    assert_said(publish.failure())


def cut_connection(site: Site, publish: StoppedPublish) -> None:
    assert site.proxy
    site.proxy.cut(str(publish.point))
    assert_said(publish.failure())


def lock_database(site: Site, publish: StoppedPublish) -> None:
    """Somebody else takes what the publish needs, as far as it can be had, and keeps it for longer than is waited."""
    if isinstance(site.target, Database) and site.target.name == "sqlite":
        with closing(sqlite3.connect(site.url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:  # the publish has it
                assert_said(publish.failure())
                return
            fault("held lock", str(publish.point), "publisher", site.target.name)
            assert_said(publish.failure())
            other.execute("ROLLBACK")
        return
    with closing(psycopg.connect(site.target.url.partition("?")[0])) as other:
        other.execute(f"SET search_path = {site.target.url.rpartition('=')[2]}")
        try:
            other.execute("LOCK TABLE customer_metrics, kpis IN SHARE ROW EXCLUSIVE MODE NOWAIT")
        except psycopg.errors.LockNotAvailable:
            other.rollback()
        else:
            fault("held lock", str(publish.point), "publisher", site.target.name)
        assert_said(publish.failure())
        other.rollback()


def end_sessions(database: Database, where: str) -> None:
    """Let the server end all sessions of publishes."""
    with database.connect() as connection:
        if database.name == "postgresql":
            ended = connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'daskae' AND datname = current_database()"
            ).all()
            fault("ended session", where, "publisher", database.name, count=len(ended))
            return
        others = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        for number in connection.exec_driver_sql(others).scalars().all():
            connection.exec_driver_sql(f"KILL {number}")
            fault("ended session", where, "publisher", database.name)


def assert_said(failure: str) -> None:
    """Whatever a publish fails with, it names the target and the next step, and neither a password nor a lock."""
    if failure:
        assert "next:" in failure
        assert "where:" in failure
    assert "sesame" not in failure
    assert "database is locked" not in failure


def _sessions(site: Site) -> list[int]:
    """Processes of the server that work for the publish."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'daskae' AND datname = current_database()"
    with closing(psycopg.connect(site.target.url.partition("?")[0], autocommit=True)) as connection:
        return [pid for (pid,) in connection.execute(query)]
