"""Whatever is killed and whenever, the same load again ends as if nothing had happened: every strategy and database."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from daskae.errors import LoadError, TargetBusyError
from daskae.load.base import FLAG_COLUMNS, Load, LoadOptions, Strategy

from .building import A, B, C, build_load, shop
from .databases import Database, database_of_its_own, schema_of_its_own
from .processes import PublishHolder, publish_killed_at, publish_together
from .proxy import cutting_proxy

POINTS: dict[str, tuple[str, ...]] = {
    "replace": ("staging:1", "staging:2", "staged", "deleted:1", "deleted:2", "uncommitted", "committed"),
    "append": ("staging:1", "staged", "deleted:2", "uncommitted", "committed"),
    "upsert": ("staging:2", "staged", "updated:1", "updated:2", "deleted:1", "uncommitted", "committed"),
    "merge": ("staging:1", "staged", "updated:2", "deleted:1", "deleted:2", "uncommitted", "committed"),
}
QUICK = {("append", "uncommitted"), ("append", "committed"), ("merge", "staging:1"), ("merge", "deleted:2"),
         ("merge", "committed"), ("upsert", "updated:1"), ("replace", "deleted:2")}  # fmt: skip
CASES = [
    pytest.param(strategy, point, marks=[] if (strategy, point) in QUICK else [pytest.mark.slow])
    for strategy, points in POINTS.items()
    for point in points
]


def loads(folder: Path, strategy: Strategy) -> tuple[Load, Load]:
    first = build_load(folder / "first", A, shop("north", 40))
    second = build_load(folder / "second", B, shop("south", 30), strategy)
    return first, replace(second, options=LoadOptions(on_missing="flag" if strategy == "merge" else "keep"))


def state(database: Database) -> dict[str, Any]:
    """All rows, the ledger without its own times, and the names of all tables."""
    return {
        "names": database.names(),
        "customers": database.rows("customer_metrics", metadata=True),
        "kpis": database.rows("kpis", metadata=True),
        "ledger": database.query(
            "SELECT sequence, load_id, run_id, strategy, status, tables, changes, message"
            " FROM _daskae_loads ORDER BY sequence"
        ),
    }


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Database:
    """Each of the databases with a connection that can be lost."""
    found: Database = request.getfixturevalue(request.param)
    return found


@contextmanager
def calm_database(database: Database, url: str) -> Iterator[Database]:
    """A second database of the same kind."""
    if database.name == "postgresql":
        with schema_of_its_own(url, f"{database.url.rpartition('=')[2]}_calm") as calm:
            yield calm
    elif database.name == "mariadb":
        with database_of_its_own(database.url, f"{database.url.rpartition('/')[2]}_calm") as calm:
            yield calm
    else:
        yield replace(database, **{
            name: getattr(database, name).replace("metrics.db", "calm.db") for name in ("url", "plain_url")
        })  # fmt: skip


@pytest.mark.parametrize(("strategy", "point"), CASES)
def test_killed_then_run_again(
    strategy: Strategy, point: str, database: Database, postgresql_url: str, tmp_path: Path
) -> None:
    first, second = loads(tmp_path, strategy)
    database.sink().publish(first)
    before = state(database)
    publish_killed_at(database.url, second, f"{database.name}.{point}")
    committed = point == "committed"
    if not committed:
        found = state(database)
        if database.ddl_around and strategy == "merge":  # columns that were added stay, empty
            for row in found["customers"] + found["kpis"]:
                assert [row.pop(name, default) for name, default in zip(FLAG_COLUMNS, (1, None), strict=True)] == [
                    1,
                    None,
                ]
        assert {**found, "names": None} == {**before, "names": None}
        assert {name for name in found["names"] - before["names"] if not name.startswith("_daskae_stage_")} == set()
    assert database.sink().publish(second).already_published == committed
    with calm_database(database, postgresql_url) as calm:
        for load in (first, second):
            calm.sink().publish(load)
        expected = state(calm)
    found = state(database)
    if committed and database.name != "sqlite":  # the staged tables of the dead run wait for the next one
        found["names"] = {name for name in found["names"] if not name.startswith("_daskae_stage_")}
    assert found == expected


@pytest.mark.parametrize("strategy", ["append", "merge"])
def test_processes_publishing_the_same_load_at_once(strategy: Strategy, database: Database, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north", 500), strategy)
    assert sorted(publish_together(database.url, load, 3)) == [False, True, True]
    assert len(database.rows("customer_metrics")) == 500
    assert database.ledger() == [(1, "a", strategy, "published")]


def test_another_publisher_is_waited_for_and_its_staged_rows_stay(database: Database, tmp_path: Path) -> None:
    first, second = loads(tmp_path, "upsert")
    with PublishHolder(database.url, first) as holder:
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
    strategy: Strategy, deliver: bool, server: Database, tmp_path: Path
) -> None:
    first, second = loads(tmp_path, strategy)
    server.sink().publish(first)
    url = sa.make_url(server.url)
    with cutting_proxy(str(url.host), int(url.port or 5432), deliver) as proxy:
        cut = replace_port(server, url, proxy.port)
        if deliver:
            receipt = cut.sink().publish(second)
            assert not receipt.already_published
            assert receipt.rows == {"customer_metrics": 30, "kpis": 1}
        else:
            with pytest.raises(LoadError, match=r"connection to the database was lost; nothing was published"):
                cut.sink().publish(second)
            assert not cut.sink().publish(second).already_published
        assert proxy.cuts == 1
    assert [row[1:] for row in server.ledger()] == [
        ("a", "replace", "published"), ("b", strategy, "published")
    ]  # fmt: skip
    assert len(server.rows("customer_metrics")) == (70 if strategy == "append" else 40)
    assert server.names() == {"customer_metrics", "kpis", "_daskae_loads"}


def replace_port(database: Database, server: sa.URL, port: int) -> Database:
    url = server.set(port=port).render_as_string(hide_password=False)
    return Database(database.name, url, url)


def test_a_session_ended_by_the_server_publishes_nothing(server: Database, tmp_path: Path) -> None:
    first, second = loads(tmp_path, "replace")
    server.sink().publish(first)
    with PublishHolder(server.url, second) as holder, server.connect() as connection:
        if server.name == "postgresql":
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'daskae' AND datname = current_database()"
            )
        else:
            others = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
            for number in connection.exec_driver_sql(others).scalars().all():
                connection.exec_driver_sql(f"KILL {number}")
        assert "connection to the database was lost" in holder.failure()
    assert {row["shop"] for row in server.rows("customer_metrics")} == {"north"}
    server.sink().publish(build_load(tmp_path, C, shop("west")))
    assert server.names() == {"customer_metrics", "kpis", "_daskae_loads"}


def test_a_table_locked_by_somebody_else_is_waited_for(postgresql: Database, tmp_path: Path) -> None:
    first, second = loads(tmp_path, "upsert")
    postgresql.sink().publish(first)
    with postgresql.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("LOCK TABLE kpis IN ROW EXCLUSIVE MODE")
        with pytest.raises(TargetBusyError, match=r"another program holds a table of the target; waited 0\.2 s"):
            postgresql.sink(timeout=0.2).publish(second)
        connection.exec_driver_sql("COMMIT")
    assert not postgresql.sink().publish(second).already_published


def test_a_writer_between_two_loads_changes_nothing_of_the_rule(database: Database, tmp_path: Path) -> None:
    first, second = loads(tmp_path, "upsert")
    sink = database.sink()
    sink.publish(first)
    sink.publish(second)
    assert sink.publish(second).already_published
    database.run("DELETE FROM customer_metrics WHERE customer_id = 'C1'")
    assert sink.publish(second).changes["customer_metrics"].inserted == 1


def test_the_schema_of_dead_runs_is_swept_but_not_that_of_others(postgresql: Database, tmp_path: Path) -> None:
    first, second = loads(tmp_path, "replace")
    publish_killed_at(postgresql.url, first, "postgresql.staged")
    assert any(name.startswith("_daskae_stage_") for name in postgresql.names())
    postgresql.sink().publish(second)
    assert postgresql.names() == {"customer_metrics", "kpis", "_daskae_loads"}
    with pytest.raises(psycopg.errors.UndefinedTable), psycopg.connect(postgresql.url.partition("?")[0]) as connection:
        connection.execute("SELECT * FROM customer_metrics")
