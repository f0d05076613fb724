"""A database that falls silent at any moment of a load: an answer in time, and the same command again ends it."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from daskae.errors import TargetLostError
from daskae.load.sql import silence
from daskae.load.sql.mariadb import session as mariadb_session
from daskae.load.sql.postgresql import dialect as postgresql_dialect
from daskae.load.sql.postgresql import session as postgresql_session
from daskae.load.targets import open_dialect
from jobs.customer_metrics import main
from tests.fault_log import checked

from . import mariadb_server as mariadb_servers
from .black_hole import Silence, Stopped, Way, black_hole, silent_proxy, why_not
from .databases import Database, database_of_its_own, schema_of_its_own
from .mariadb_server import MariadbServer, mariadb_server
from .server import Server, postgresql_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIMEOUT = 2.0
"""Seconds of ``load.timeout_seconds``."""
BOUND = 60.0
"""What an answer may take, on a slow machine too: a look, a connection to look by, and one to see what became of it."""
ORDERS = "order_id,customer_id,order_date,amount\n"
FIRST = ORDERS + "1,C1,2024-01-05,10.50\n2,C1,2024-02-05,4.25\n3,C2,2024-01-07,7.00\n"
SECOND = ORDERS + "4,C2,2024-03-01,7.00\n5,C3,2024-03-02,1.25\n"


@pytest.fixture(scope="module")
def postgresql_here() -> Iterator[Server]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb_here() -> Iterator[MariadbServer]:
    if reason := mariadb_servers.why_not():
        pytest.skip(reason)
    with mariadb_server() as server:
        yield server


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server | MariadbServer:
    found: Server | MariadbServer = request.getfixturevalue(f"{request.param}_here")
    return found


@dataclass(frozen=True)
class Scene:
    """A database, and what can come before it."""

    database: Database
    url: str
    """What the command gets."""
    silence: Silence


@contextmanager
def silenced(fault: str, server: Server | MariadbServer) -> Iterator[Scene]:
    own = schema_of_its_own if isinstance(server, Server) else database_of_its_own
    with own(server.url, f"daskae_silence_{time.monotonic_ns()}") as database, ExitStack() as stack:
        if fault == "silent proxy":
            proxy = stack.enter_context(silent_proxy(server.address))
            yield Scene(database, database.url.replace(f":{server.address[1]}/", f":{proxy.port}/"), proxy)
        elif fault == "stopped server":
            stopped = Stopped(server.pid)
            stack.callback(stopped.close)
            yield Scene(database, database.url, stopped)
        else:
            yield Scene(database, database.url, stack.enter_context(black_hole(server.address[1])))


@pytest.fixture(params=["black hole", "silent proxy", "stopped server"])
def scene(request: pytest.FixtureRequest, server: Server | MariadbServer) -> Iterator[Scene]:
    if request.param == "black hole" and (reason := why_not()):
        pytest.skip(reason)
    with silenced(request.param, server) as made:
        yield made


@pytest.fixture
def command(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str]]:
    """Append a text of orders; the exit code, and what was said."""
    monkeypatch.setattr(silence, "PERIOD_SECONDS", 0.5)
    monkeypatch.setattr(silence, "_LEAST_PATIENCE", TIMEOUT)
    (tmp_path / "job.toml").write_text(f"[load]\ntimeout_seconds = {TIMEOUT}\n")

    def call(orders: str) -> tuple[int, str]:
        (tmp_path / "orders.csv").write_text(orders)
        places = ["--config", str(tmp_path / "job.toml"), "--work-dir", str(tmp_path / "work"), "--to", scene.url]
        engine = ["--strategy", "append", "--cluster", "inline", "--quiet", "--json"]
        code = main([str(tmp_path / "orders.csv"), *places, *engine])
        return code, capsys.readouterr().err

    return call


def at_point(monkeypatch: pytest.MonkeyPatch, ending: str, act: Callable[[], None]) -> list[str]:
    """Do something where a crash point of such a name is first passed; its name."""
    passed: list[str] = []

    def point(name: str) -> None:
        if name.endswith(ending) and not passed:
            passed.append(name)
            act()

    for module in [*sys.modules.values()]:
        if module.__name__.startswith("daskae.") and "crash_point" in vars(module):
            monkeypatch.setattr(module, "crash_point", point)
    return passed


def customers(database: Database) -> list[tuple[str, str]]:
    return sorted((row["customer_id"], str(row["total_revenue"])) for row in database.rows("customer_metrics"))


Command = Callable[[str], tuple[int, str]]
FIRST_ROWS = [("C1", "14.75"), ("C2", "7")]
SECOND_ROWS = [("C2", "7"), ("C3", "1.25")]


def assert_ends(
    scene: Scene, command: Command, began: float, ended: tuple[int, str], loads: int = 2,
    codes: tuple[int, ...] = (75,),
) -> None:  # fmt: skip
    """It was told in time what is the matter; and the same command again, when all is well, ends it."""
    code, said = ended
    assert time.monotonic() - began < BOUND
    assert code in codes, said
    place = scene.url.partition("@")[2].partition("/")[0]
    for words in ("answer", "next:", "run the same command again", f"@{place}/") if code else ():
        assert words in said
    assert "sesame" not in said
    scene.silence.close()
    end = time.monotonic() + 120
    while (again := command(SECOND))[0] == 75 and time.monotonic() < end:
        pass  # the server may still have to find out that the first one is gone
    assert again[0] == 0, again[1]
    assert customers(scene.database) == sorted([*FIRST_ROWS, *SECOND_ROWS] if loads == 2 else SECOND_ROWS)
    assert [status for *_, status in scene.database.ledger() if status != "failed"] == ["published"] * loads
    checked("contents")


def disturb(
    scene: Scene, command: Command, monkeypatch: pytest.MonkeyPatch, ending: str, way: Way = "both",
    codes: tuple[int, ...] = (75,),
) -> None:  # fmt: skip
    assert command(FIRST)[0] == 0
    passed = at_point(monkeypatch, ending, lambda: scene.silence.open(way))
    began = time.monotonic()
    ended = command(SECOND)
    assert len(passed) == 1
    assert_ends(scene, command, began, ended, codes=codes)


@pytest.mark.parametrize("ending", ["publish.before", ".staging", ".uncommitted"])
def test_silence_in_the_middle_of_a_load(
    ending: str, scene: Scene, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    disturb(scene, command, monkeypatch, ending)


def test_silence_from_the_beginning(scene: Scene, command: Command) -> None:
    assert command(FIRST)[0] == 0
    scene.silence.open()
    began = time.monotonic()
    assert_ends(scene, command, began, command(SECOND))


def test_silence_after_the_commit(scene: Scene, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is to tidy up, and to say goodbye."""
    disturb(scene, command, monkeypatch, ".committed", codes=(0, 75))


@pytest.mark.parametrize("scene", ["black hole"], indirect=True)
def test_answers_to_the_commit_are_swallowed(
    scene: Scene, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """It has been done, and nobody knows."""
    disturb(scene, command, monkeypatch, ".uncommitted", "answers")


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_silence_while_two_connections_copy(
    scene: Scene, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """As they do for a first load of many rows."""
    monkeypatch.setattr(postgresql_dialect, "_ROWS_FOR_TWO", 1)
    passed = at_point(monkeypatch, ".staging", scene.silence.open)
    began = time.monotonic()
    ended = command(SECOND)
    assert len(passed) == 1
    assert_ends(scene, command, began, ended, loads=1)


@contextmanager
def session(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[sa.Connection]:
    """A session of a load whose server is asked all the time, and whose kernel is impatient."""
    for name, value in (("PERIOD_SECONDS", 0.2), ("IDLE_SECONDS", 1), ("PROBE_SECONDS", 1), ("UNSENT_SECONDS", 3)):
        monkeypatch.setattr(silence, name, value)
    shorter = {name: max(1, value // 40) for name, value in postgresql_session._KEEPALIVE.items()}
    monkeypatch.setattr(postgresql_session, "_KEEPALIVE", shorter)
    dialect = open_dialect(scene.url, TIMEOUT)
    assert dialect is not None
    with dialect.translated(), dialect.publishing() as made:
        yield made.connection


def sleep(connection: sa.Connection, seconds: float) -> None:
    name = "pg_sleep" if connection.dialect.name == "postgresql" else "SLEEP"
    connection.exec_driver_sql(f"SELECT {name}({seconds})")


def own_port(connection: sa.Connection) -> int:
    plain: Any = connection.connection.driver_connection
    with socket.socket(fileno=os.dup((getattr(plain, "_sock", None) or plain).fileno())) as twin:
        return int(twin.getsockname()[1])


@pytest.mark.parametrize("scene", ["silent proxy"], indirect=True)
def test_a_long_statement_is_let_be(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with session(scene, monkeypatch) as connection:
        sleep(connection, 2.5 * TIMEOUT)
        assert "database-watch" in {thread.name for thread in threading.enumerate()}
    assert "database-watch" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize("scene", ["black hole"], indirect=True)
def test_a_path_that_is_gone_for_one_session_only(when: str, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers everybody else; a firewall has forgotten this one."""

    def work() -> None:
        with session(scene, monkeypatch) as connection, black_hole(own_port(connection)) as hole:
            timer = threading.Timer(0 if when == "before" else 1, hole.open)
            timer.start()
            if when == "before":
                timer.join()
            sleep(connection, 2 * BOUND)

    began = time.monotonic()
    with pytest.raises(TargetLostError, match=r"connection to the database was lost(.|\n)*run the same command again"):
        work()
    assert time.monotonic() - began < BOUND


def test_a_client_of_mariadb_that_says_nothing_loses_the_lock(
    mariadb_here: MariadbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was cut off is gone, and nothing tells the server."""
    monkeypatch.setattr(mariadb_session, "_IDLE_CLIENT_SECONDS", 1)
    with database_of_its_own(mariadb_here.url, "daskae_silence_lock") as database:
        silent, other = open_dialect(database.url), open_dialect(database.url, BOUND)
        assert silent is not None
        assert other is not None
        taken = False
        with suppress(sa.exc.DBAPIError), silent.publishing(), other.publishing():
            taken = True
        assert taken
