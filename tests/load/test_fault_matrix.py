"""Every fault at every crash point of every strategy on every target: the same command again ends as if undisturbed."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from daskae.errors import LoadError
from daskae.load.base import Strategy
from tests.fault_log import fault

from . import harm
from .databases import Database
from .harm import STRATEGIES, Harm, Site, assert_as_calm, assert_said, postgresql_site, state, two_loads
from .mariadb_server import MariadbServer, mariadb_server, why_not
from .processes import StoppedPublish
from .proxy import cutting_proxy
from .server import Server, postgresql_server

FEWEST_POINTS = 4

MATRIX: dict[str, tuple[Harm, ...]] = {
    "sqlite": (harm.kill_driver, harm.lock_database),
    "postgresql": (
        harm.kill_driver, harm.kill_server, harm.restart_server, harm.kill_backend, harm.end_session,
        harm.cut_connection, harm.lock_database,
    ),
    "mariadb": (
        harm.kill_driver, harm.kill_server, harm.restart_server, harm.end_session, harm.cut_connection,
    ),
    "duckdb": (harm.kill_driver,),
    "portable": (harm.kill_driver,),
    "parquet": (harm.kill_driver,),
}  # fmt: skip
# In the default run: these, at every fourth point.
QUICK = {
    ("sqlite", "kill_driver", "append"), ("sqlite", "lock_database", "merge"), ("parquet", "kill_driver", "merge"),
    ("postgresql", "kill_server", "append"), ("postgresql", "cut_connection", "upsert"),
    ("mariadb", "kill_driver", "merge"), ("duckdb", "kill_driver", "append"), ("portable", "kill_driver", "upsert"),
}  # fmt: skip
QUICK_FIRST = {("postgresql", "upsert"), ("sqlite", "replace")}
QUICK_STEP = 4
EVERY_CASE = [(name, fault, strategy) for name, faults in MATRIX.items() for fault in faults for strategy in STRATEGIES]
CASES = [
    pytest.param(*case, step, marks=marks, id=f"{case[0]}-{case[1].__name__}-{case[2]}{suffix}")
    for step, suffix, marks in ((1, "", [pytest.mark.slow]), (QUICK_STEP, "-quick", []))
    for case in EVERY_CASE
    if step == 1 or (case[0], case[1].__name__, case[2]) in QUICK
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that may be killed."""
    with postgresql_server() as found:
        yield found


@pytest.fixture(scope="module")
def other_server() -> Iterator[MariadbServer]:
    """A MariaDB server that may be killed."""
    if reason := why_not():
        pytest.skip(reason)
    with mariadb_server() as found:
        yield found


def site_of(
    name: str, request: pytest.FixtureRequest, folder: Path, killable: bool = False
) -> AbstractContextManager[Site]:  # fmt: skip
    if name == "postgresql":
        return postgresql_site(request.getfixturevalue("server"))
    if name == "mariadb" and killable:
        server = request.getfixturevalue("other_server")
        return harm.mariadb_site(server.url, server)
    if name == "mariadb":
        return harm.mariadb_site(request.getfixturevalue("mariadb_url"))
    files = {"sqlite": harm.sqlite_site, "duckdb": harm.duckdb_site, "portable": harm.portable_site}
    return files.get(name, harm.parquet_site)(folder)


def undisturbed(name: str, strategy: Strategy, request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    with site_of(name, request, folder) as site:
        for load in two_loads(folder, strategy):
            site.sink().publish(load)
        return state(site.target)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "fault", "strategy", "step"), CASES)
def test_disturbed_at_every_point_then_run_again(
    name: str, fault: Harm, strategy: Strategy, step: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    first, second = two_loads(tmp_path, strategy)
    calm = undisturbed(name, strategy, request, tmp_path)
    timeout = harm.BUSY_TIMEOUT if fault is harm.lock_database else 30.0
    points: list[str] = []
    for number in count(1, step):
        with site_of(name, request, tmp_path, fault in (harm.kill_server, harm.restart_server)) as site:
            site.sink().publish(first)
            before = state(site.target)
            with StoppedPublish(site.url, second, number, timeout=timeout) as publish:
                if publish.point is None:
                    break
                points.append(publish.point)
                fault(site, publish)
            found = state(site.target)
            for part in ("customer_metrics", "kpis", "ledger"):
                assert found[part] in (before[part], calm[part]), f"{part} at {points}"
            site.sink().publish(second)
            assert_as_calm(site.target, calm, points)
            assert site.sink().publish(second).already_published
    assert len(points) * step >= FEWEST_POINTS, points


FIRST = [
    pytest.param(name, fault, strategy, marks=[] if (name, strategy) in QUICK_FIRST else [pytest.mark.slow])
    for name, faults in MATRIX.items()
    for fault in faults
    if fault is not harm.lock_database  # there is nothing to lock yet
    for strategy in ("replace", "upsert")
    if (name, strategy) not in QUICK_FIRST or fault is harm.kill_driver
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "fault", "strategy"), FIRST)
def test_a_first_load_disturbed_at_every_point_then_run_again(
    name: str, fault: Harm, strategy: Strategy, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Where there is no table yet its rows take a shorter way, with points of its own."""
    _, load = two_loads(tmp_path, strategy)
    with site_of(name, request, tmp_path) as site:
        site.sink().publish(load)
        calm = state(site.target)
    points: list[str] = []
    for number in count(1):
        with site_of(name, request, tmp_path, fault in (harm.kill_server, harm.restart_server)) as site:
            with StoppedPublish(site.url, load, number) as publish:
                if publish.point is None:
                    break
                points.append(publish.point)
                fault(site, publish)
            names = site.target.names()
            assert "customer_metrics" not in names or site.target.rows("customer_metrics", metadata=True) in (
                [], calm["customer_metrics"],
            ), points  # fmt: skip
            site.sink().publish(load)
            assert_as_calm(site.target, calm, points)
            assert site.sink().publish(load).already_published
    assert len(points) >= FEWEST_POINTS, points


@pytest.mark.parametrize("deliver", [True, False])
@pytest.mark.parametrize("fatal", [True, False], ids=["server killed", "connection cut"])
@pytest.mark.parametrize(
    ("name", "strategy"),
    [
        pytest.param(name, strategy, marks=[] if (name, strategy) == ("postgresql", "append") else [pytest.mark.slow])
        for name in ("postgresql", "mariadb")
        for strategy in STRATEGIES
    ],
)
def test_disturbed_between_commit_and_answer_then_run_again(
    name: str, strategy: Strategy, fatal: bool, deliver: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    first, second = two_loads(tmp_path, strategy)
    calm = undisturbed(name, strategy, request, tmp_path)
    with site_of(name, request, tmp_path, killable=True) as site:
        assert isinstance(site.target, Database)
        assert site.server
        site.sink().publish(first)
        kill = partial(site.server.kill, f"{'after' if deliver else 'before'} it gets the commit") if fatal else None
        with cutting_proxy(*site.server.address, deliver, kill, name) as proxy:
            sink = Database(name, harm.through(site.target, proxy), "").sink()
            try:
                receipt = sink.publish(second)
            except LoadError as error:
                assert_said(str(error))
                receipt = None
            assert proxy.cuts == 1
        if fatal:
            site.server.start()
        assert (receipt is not None) == (deliver and not fatal)
        assert site.sink().publish(second).already_published == deliver
        assert_as_calm(site.target, calm)


@pytest.mark.parametrize("strategy", ["replace", "merge"])
def test_a_read_only_database_is_left_as_it_is_then_run_again(
    strategy: Strategy, server: Server, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    first, second = two_loads(tmp_path, strategy)
    calm = undisturbed("postgresql", strategy, request, tmp_path)
    with postgresql_site(server) as site, psycopg.connect(server.url, autocommit=True) as connection:
        site.sink().publish(first)
        before = state(site.target)
        connection.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        fault("read-only database", "before the publish", "server", "postgresql")
        try:
            with pytest.raises(LoadError, match=r"database takes no writes(.|\n)*next:"):
                site.sink().publish(second)
        finally:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
        assert state(site.target) == before
        site.sink().publish(second)
        assert_as_calm(site.target, calm)
