"""Other publishers, readers and writers beside a publish; what is killed and cut is in test_fault_matrix.py."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from daskae.errors import LoadError, TargetBusyError
from daskae.load.base import LoadOptions, Strategy
from tests.fault_log import fault

from .building import A, B, C, build_load, shop
from .databases import Database
from .harm import end_sessions, through, two_loads
from .processes import StoppedPublish, publish_killed_at, publish_together
from .proxy import cutting_proxy


@pytest.fixture(params=["postgresql", "mariadb"])
def served(request: pytest.FixtureRequest) -> Database:
    """Each of the databases with a session that can be lost."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("strategy", ["append", "merge"])
def test_processes_publishing_the_same_load_at_once(strategy: Strategy, database: Database, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north", 500), strategy)
    assert sorted(publish_together(database.url, load, 3)) == [False, True, True]
    assert len(database.rows("customer_metrics")) == 500
    assert database.ledger() == [(1, "a", strategy, "published")]


def test_another_publisher_is_waited_for_and_its_staged_rows_stay(database: Database, tmp_path: Path) -> None:
    first, second = two_loads(tmp_path, "upsert")
    with StoppedPublish(database.url, first, named=".staged") as holder:
        with pytest.raises(TargetBusyError, match=r"another run is publishing(.|\n)*waited 0\.1 s"):
            database.sink(timeout=0.1).publish(second)
        holder.finish()
    assert database.ledger() == [(1, "a", "replace", "published")]
    database.sink().publish(second)
    assert len(database.rows("customer_metrics")) == 40


@pytest.mark.parametrize("strategy", ["replace", "merge"])
def test_a_polling_reader_sees_only_whole_loads(strategy: Strategy, database: Database, tmp_path: Path) -> None:
    sizes = {"north": 300, "south": 500}
    prepared = [
        build_load(tmp_path, key, shop(name, sizes[name]), strategy) for key, name in ((A, "north"), (B, "south"))
    ]
    prepared = [replace(load, options=LoadOptions(on_missing="delete")) for load in prepared]
    sink = database.sink()
    sink.publish(prepared[0])
    seen: list[tuple[Any, ...]] = []
    stop = threading.Event()

    def read() -> None:
        with database.connect() as connection:
            while not stop.is_set():
                connection.exec_driver_sql(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ" if database.name == "postgresql" else "BEGIN"
                )
                customers = connection.exec_driver_sql("SELECT shop, count(*) FROM customer_metrics GROUP BY 1").all()
                kpis = connection.exec_driver_sql("SELECT shop, value FROM kpis").all()
                connection.exec_driver_sql("COMMIT")
                seen.append((customers, kpis))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 200):
            sink.publish(prepared[number % 2])
            if len(seen) >= 50 and {rows[0][0] for rows, _ in seen[:]} == sizes.keys():
                break
    finally:
        stop.set()
        reader.join()
    assert len(seen) >= 50
    for customers, kpis in seen:
        assert customers == kpis
        ((name, rows),) = customers
        assert rows == sizes[name]


@pytest.mark.parametrize("deliver", [True, False])
@pytest.mark.parametrize("strategy", ["append", "merge"])
def test_a_connection_lost_at_the_commit_is_settled_by_the_ledger(
    strategy: Strategy, deliver: bool, mariadb: Database, tmp_path: Path
) -> None:
    first, second = two_loads(tmp_path, strategy)
    mariadb.sink().publish(first)
    url = sa.make_url(mariadb.url)
    with cutting_proxy(str(url.host), int(url.port or 0), deliver, name="mariadb") as proxy:
        cut = Database("mariadb", through(mariadb, proxy), "").sink()
        if deliver:
            receipt = cut.publish(second)
            assert not receipt.already_published
            assert receipt.rows == {"customer_metrics": 30, "kpis": 1}
        else:
            with pytest.raises(LoadError, match=r"connection to the database was lost; nothing was published"):
                cut.publish(second)
            assert not cut.publish(second).already_published
        assert proxy.cuts == 1
    assert [row[1:] for row in mariadb.ledger()] == [("a", "replace", "published"), ("b", strategy, "published")]
    assert len(mariadb.rows("customer_metrics")) == (70 if strategy == "append" else 40)
    assert mariadb.names() == {"customer_metrics", "kpis", "_daskae_loads"}


def test_a_session_ended_by_the_server_publishes_nothing(served: Database, tmp_path: Path) -> None:
    first, second = two_loads(tmp_path, "replace")
    served.sink().publish(first)
    with StoppedPublish(served.url, second, named=".staged") as holder:
        end_sessions(served, str(holder.point))
        assert "connection to the database was lost" in holder.failure()
    assert {row["shop"] for row in served.rows("customer_metrics")} == {"north"}
    served.sink().publish(build_load(tmp_path, C, shop("west")))
    assert served.names() == {"customer_metrics", "kpis", "_daskae_loads"}


def test_a_table_locked_by_somebody_else_is_waited_for(postgresql: Database, tmp_path: Path) -> None:
    first, second = two_loads(tmp_path, "upsert")
    postgresql.sink().publish(first)
    with postgresql.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("LOCK TABLE kpis IN ROW EXCLUSIVE MODE")
        fault("held lock", "a table, before the publish", "publisher", postgresql.name)
        with pytest.raises(TargetBusyError, match=r"another program holds a table of the target; waited 0\.2 s"):
            postgresql.sink(timeout=0.2).publish(second)
        connection.exec_driver_sql("COMMIT")
    assert not postgresql.sink().publish(second).already_published


def test_a_writer_between_two_loads_changes_nothing_of_the_rule(database: Database, tmp_path: Path) -> None:
    first, second = two_loads(tmp_path, "upsert")
    sink = database.sink()
    sink.publish(first)
    sink.publish(second)
    assert sink.publish(second).already_published
    database.run("DELETE FROM customer_metrics WHERE customer_id = 'C1'")
    assert sink.publish(second).changes["customer_metrics"].inserted == 1


def test_the_schema_of_dead_runs_is_swept_but_not_that_of_others(postgresql: Database, tmp_path: Path) -> None:
    first, second = two_loads(tmp_path, "replace")
    publish_killed_at(postgresql.url, first, "postgresql.staged")
    assert any(name.startswith("_daskae_stage_") for name in postgresql.names())
    postgresql.sink().publish(second)
    assert postgresql.names() == {"customer_metrics", "kpis", "_daskae_loads"}
    with pytest.raises(psycopg.errors.UndefinedTable), psycopg.connect(postgresql.url.partition("?")[0]) as connection:
        connection.execute("SELECT * FROM customer_metrics")
