"""A database that falls silent while it is read: an answer in time, which says where, and what to do."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from daskae import silence
from daskae.config import InputSettings
from daskae.errors import InputLostError
from daskae.partition import Segment
from daskae.read import sql
from jobs.customer_metrics import main
from tests.support import until

from .black_hole import black_hole
from .silent_scenes import Scene, own_port, sleep

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE = 2.0
"""Seconds that a server has to answer."""
BOUND = 60.0
"""What it may take on a slow machine until it is told."""
MANY_ROWS = {
    "postgresql": "SELECT n, repeat('x', 1000) AS x FROM generate_series(1, 50000) AS s(n)",
    "mariadb": "SELECT seq AS n, repeat('x', 1000) AS x FROM seq_1_to_50000",
}
SLEEPERS = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
    "mariadb": "SELECT 1 FROM information_schema.processlist WHERE state = 'User sleep'",
}


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "PERIOD_SECONDS", 0.5)
    monkeypatch.setattr(silence, "_LEAST_PATIENCE", PATIENCE)
    monkeypatch.setattr(sql, "PATIENCE_SECONDS", PATIENCE)


def sleeping(scene: Scene, seconds: float) -> str:
    """A query that takes its time before it has a row."""
    asleep = f"pg_sleep({seconds})::text = ''" if scene.database.name == "postgresql" else f"SLEEP({seconds}) = 0"
    return f"SELECT 7 AS n FROM (SELECT 1 AS one) AS row_of_one WHERE {asleep}"


@contextmanager
def silent_once_it_sleeps(scene: Scene) -> Iterator[None]:
    def work() -> None:
        until(lambda: scene.database.query(SLEEPERS[scene.database.name]), "the statement that sleeps")
        scene.silence.open()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def assert_told(scene: Scene, work: Callable[[], object], what: str = "the database does not answer") -> None:
    began = time.monotonic()
    with pytest.raises(InputLostError, match=f"^{what}\n") as raised:
        work()
    assert time.monotonic() - began < BOUND
    assert raised.value.exit_code == 75
    text = str(raised.value)
    assert f":***@{scene.address[0]}:{scene.address[1]}/" in raised.value.where
    assert "run the same command again" in raised.value.hint
    assert "sesame" not in text
    assert raised.value.__cause__ is None


def segments(scene: Scene, query: str) -> list[Segment]:
    return sql.list_segments(scene.plain_url, InputSettings(query=query))


def test_silence_from_the_beginning(scene: Scene) -> None:
    scene.silence.open()
    assert_told(scene, lambda: segments(scene, "SELECT 1 AS n"))


@pytest.mark.parametrize("server_here", ["postgresql"], indirect=True)
def test_silence_at_the_first_questions(scene: Scene) -> None:
    """SQLAlchemy asks for the version and more, before anybody can watch the connection."""

    def creator() -> psycopg.Connection[tuple[object, ...]]:
        plain = psycopg.connect(scene.plain_url.replace("+psycopg:", ":"))
        scene.silence.open()
        return plain

    engine = sa.create_engine(scene.plain_url, creator=creator, poolclass=sa.NullPool)
    began = time.monotonic()
    with pytest.raises(InputLostError, match=r"the database does not answer(.|\n)*first questions"):
        silence.first_connection(engine, "here", PATIENCE, InputLostError)
    assert time.monotonic() - began < BOUND


def test_silence_in_the_middle_of_a_statement(scene: Scene) -> None:
    with silent_once_it_sleeps(scene):
        assert_told(scene, lambda: segments(scene, sleeping(scene, 600)))


def test_silence_between_rows(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "BATCH_ROWS", 1000)
    (segment,) = segments(scene, MANY_ROWS[scene.database.name])
    batches = sql.read_batches(segment, 0, ["n", "x"])
    assert next(batches).count == 1000
    scene.silence.open()
    assert_told(scene, lambda: list(batches))


@pytest.mark.parametrize("scene", ["silent proxy"], indirect=True)
def test_a_long_statement_is_let_be(scene: Scene) -> None:
    (segment,) = segments(scene, sleeping(scene, 1.5 * PATIENCE))
    (batch,) = sql.read_batches(segment, 0, ["n"])
    assert batch.cells["n"].to_list() == [7]
    assert "database-watch" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("scene", ["black hole"], indirect=True)
def test_a_path_that_is_gone_for_one_session_only(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers everybody else; a firewall has forgotten this one."""
    for name, value in (("IDLE_SECONDS", 1), ("PROBE_SECONDS", 1), ("UNSENT_SECONDS", 3)):
        monkeypatch.setattr(silence, name, value)

    def work() -> None:
        with sql._connected(scene.plain_url) as connection, black_hole(own_port(connection)) as hole:
            hole.open()
            sleep(connection, 2 * BOUND)

    assert_told(scene, work, "the connection to the database was lost")


@pytest.mark.parametrize("scene", ["silent proxy"], indirect=True)
@pytest.mark.parametrize("server_here", ["postgresql"], indirect=True)
def test_another_driver(scene: Scene) -> None:
    pytest.importorskip("psycopg2")
    url = scene.plain_url.replace("+psycopg:", "+psycopg2:")
    with silent_once_it_sleeps(scene):
        assert_told(scene, lambda: sql.list_segments(url, InputSettings(query=sleeping(scene, 600))))


@pytest.mark.parametrize("scene", ["silent proxy"], indirect=True)
def test_a_run_ends(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = "n AS order_id, n AS customer_id, '2024-01-05' AS order_date, n AS amount"
    query = f"SELECT {columns} FROM ({sleeping(scene, 600)}) AS orders"
    (tmp_path / "job.toml").write_text(f'[input]\nquery = """{query}"""\n')
    places = ["--config", f"{tmp_path}/job.toml", "--work-dir", f"{tmp_path}/work", "--to", f"{tmp_path}/out/"]
    with silent_once_it_sleeps(scene):
        assert main([scene.plain_url, *places, "--cluster", "inline", "--quiet"]) == 75
    said = capsys.readouterr().err
    assert "the database does not answer" in said
    assert "sesame" not in said
