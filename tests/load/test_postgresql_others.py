"""Other roles of a PostgreSQL server, and clients of it that are gone."""

import signal
from pathlib import Path

import pytest

from daskae.errors import LoadError, TargetBusyError
from daskae.load.base import Load
from daskae.load.targets import open_sink
from tests.fault_log import strike
from tests.support import CONTEXT, until

from .building import A, B, C, build_load, shop
from .databases import Database
from .processes import publish_killed_at
from .test_postgresql import role


def test_a_replace_of_rows_that_others_refer_to_needs_one_right_more(postgresql: Database, tmp_path: Path) -> None:
    postgresql.sink().publish(build_load(tmp_path, A, shop("north")))
    postgresql.run(
        "CREATE UNIQUE INDEX one_customer ON customer_metrics (customer_id)",
        "CREATE TABLE notes (customer_id TEXT REFERENCES customer_metrics (customer_id))",
    )
    schema = postgresql.url.rpartition("=")[2]
    tables = [f"SELECT, INSERT, DELETE ON {name}" for name in ("customer_metrics", "kpis")]
    with (
        role(postgresql, f"CREATE ON SCHEMA {schema}", "SELECT, INSERT, UPDATE ON _daskae_loads", *tables) as user,
        pytest.raises(LoadError, match=r"has not the right(.|\n)*no UPDATE on table customer_metrics"),
    ):
        user.sink().preflight(build_load(tmp_path / "second", B, shop("south")))


def test_staging_of_another_role_is_in_nobodys_way(postgresql: Database, tmp_path: Path) -> None:
    """Its run died; this role may not drop it, and does without."""
    load = build_load(tmp_path, A, shop("north"), "upsert")
    postgresql.sink().publish(load)
    second = build_load(tmp_path / "second", B, shop("south"), "upsert")
    publish_killed_at(postgresql.url, second, "postgresql.staged")
    left = {name for name in postgresql.names() if name.startswith("_daskae_stage_")}
    assert left
    schema = postgresql.url.rpartition("=")[2]
    tables = [f"SELECT, INSERT, UPDATE ON {name}" for name in ("customer_metrics", "kpis", "_daskae_loads")]
    with role(postgresql, f"CREATE ON SCHEMA {schema}", *tables) as user:
        assert user.sink().preflight(second) is None
        assert not user.sink().publish(second).already_published
    assert {row["shop"] for row in postgresql.rows("customer_metrics")} == {"south"}
    postgresql.sink().publish(build_load(tmp_path / "third", C, shop("west"), "upsert"))
    assert not left & postgresql.names()


@pytest.mark.slow
def test_the_server_looks_whether_its_client_is_there(postgresql: Database, tmp_path: Path) -> None:
    """A driver that is killed in the middle of a long statement holds its lock for seconds, not for hours."""
    postgresql.sink().publish(build_load(tmp_path, A, shop("north")))
    postgresql.run(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(120); RETURN new; END $$",
        "CREATE TRIGGER slow BEFORE INSERT ON customer_metrics FOR EACH STATEMENT EXECUTE FUNCTION wait()",
    )
    load = build_load(tmp_path / "second", B, shop("south"))
    child = CONTEXT.Process(target=_publish, args=(postgresql.url, load))
    child.start()
    waiting = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'daskae' AND wait_event = 'PgSleep'"
    until(lambda: bool(postgresql.query(waiting)), "the statement that sleeps")
    assert child.pid is not None
    strike(child.pid, signal.SIGKILL, "in the middle of a long statement", "publisher", "postgresql")
    child.join(120)
    with pytest.raises(TargetBusyError, match="another run is publishing"):
        postgresql.sink(timeout=0.1).publish(load)
    until(lambda: not postgresql.query(waiting), "the end of the session of a client that is gone", 60)
    postgresql.run("DROP TRIGGER slow ON customer_metrics")
    assert not postgresql.sink().publish(load).already_published


def _publish(url: str, load: Load) -> None:
    open_sink(url).publish(load)


def test_a_constraint_is_named_without_the_values_of_a_row(postgresql: Database, tmp_path: Path) -> None:
    """The server tells them in a line of its own; they may name a person."""
    postgresql.sink().publish(build_load(tmp_path, A, shop("north")))
    postgresql.run(
        "CREATE UNIQUE INDEX one_customer ON customer_metrics (customer_id)",
        "CREATE TABLE notes (customer_id TEXT REFERENCES customer_metrics (customer_id))",
        "INSERT INTO notes VALUES ('C2')",
    )
    with pytest.raises(LoadError, match="violates foreign key constraint") as raised:
        postgresql.sink().publish(build_load(tmp_path / "second", B, shop("south", 1)))
    (message,) = (row[0] for row in postgresql.query("SELECT message FROM _daskae_loads WHERE status = 'failed'"))
    assert "C2" not in f"{raised.value}{message}"
