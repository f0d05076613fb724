"""A database that falls silent at any moment of a load: an answer in time, and the same command again ends it."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from daskae import silence
from daskae.errors import TargetLostError
from daskae.load.sql.mariadb import session as mariadb_session
from daskae.load.sql.postgresql import dialect as postgresql_dialect
from daskae.load.sql.postgresql import session as postgresql_session
from daskae.load.targets import open_dialect
from jobs.customer_metrics import main
from tests.fault_log import checked

from .black_hole import Way, black_hole
from .databases import Database, database_of_its_own
from .mariadb_server import MariadbServer
from .silent_scenes import Scene, own_port, sleep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIMEOUT = 2.0
"""Seconds of ``load.timeout_seconds``."""
BOUND = 60.0
"""What an answer may take, on a slow machine too: a look, a connection to look by, and one to see what became of it."""
ORDERS = "order_id,customer_id,order_date,amount\n"
FIRST = ORDERS + "1,C1,2024-01-05,10.50\n2,C1,2024-02-05,4.25\n3,C2,2024-01-07,7.00\n"
SECOND = ORDERS + "4,C2,2024-03-01,7.00\n5,C3,2024-03-02,1.25\n"


@pytest.fixture
def command(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Append a text of orders; the exit code, and what was said."""
    monkeypatch.setattr(silence, "PERIOD_SECONDS", 0.5)
    monkeypatch.setattr(silence, "_LEAST_PATIENCE", TIMEOUT)
    (tmp_path / "job.toml").write_text(f"[load]\ntimeout_seconds = {TIMEOUT}\n")

    def call(orders: str, url: str = scene.url) -> tuple[int, str]:
        (tmp_path / "orders.csv").write_text(orders)
        places = ["--config", str(tmp_path / "job.toml"), "--work-dir", str(tmp_path / "work"), "--to", url]
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


Command = Callable[..., tuple[int, str]]
FIRST_ROWS = [("C1", "14.75"), ("C2", "7")]
SECOND_ROWS = [("C2", "7"), ("C3", "1.25")]


def assert_ends(
    scene: Scene, command: Command, began: float, ended: tuple[int, str], loads: int = 2,
    codes: tuple[int, ...] = (75,), told: str = "answer",
) -> None:  # fmt: skip
    """It was told in time what is the matter; and the same command again, when all is well, ends it."""
    code, said = ended
    assert time.monotonic() - began < BOUND
    assert code in codes, said
    place = scene.url.partition("@")[2].partition("/")[0]
    for words in (told, "next:", "run the same command again", f"@{place}/") if code else ():
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


@pytest.mark.parametrize("server_here", ["postgresql"], indirect=True)
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


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("scene", ["silent proxy"], indirect=True)
@pytest.mark.parametrize("server_here", ["postgresql"], indirect=True)
def test_silence_on_the_portable_path(
    driver: str, scene: Scene, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    pytest.importorskip(driver)
    url = "portable+" + scene.plain_url.replace("+psycopg:", f"+{driver}:")
    assert command(FIRST, url)[0] == 0
    passed = at_point(monkeypatch, ".staging", scene.silence.open)
    began = time.monotonic()
    ended = command(SECOND, url)
    assert len(passed) == 1
    portable = replace(scene, database=replace(scene.database, name="portable"))
    # To look what became of the load it asks once more, in vain.
    assert_ends(portable, partial(command, url=url), began, ended, told="whether the load has arrived cannot be seen")


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
