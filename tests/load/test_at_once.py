"""Several runs into one target at the same time: they take turns, and nothing is lost, doubled or half done."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from daskae.load.base import LoadOptions, Strategy
from daskae.load.shape import Drift
from jobs.customer_metrics import main
from tests.fault_log import fault

from .building import A, B, C, build_load, shop
from .databases import Database
from .processes import StoppedPublish, publish_all_at_once

IDS = tuple(letter * 64 for letter in "abcdef")


@pytest.mark.parametrize("strategy", ["append", "upsert", pytest.param("replace", marks=pytest.mark.slow)])
def test_different_loads_at_once_all_get_in(strategy: Strategy, database: Database, tmp_path: Path) -> None:
    loads = [
        build_load(tmp_path, load_id, shop(load_id[:1], 100 + 10 * i), strategy) for i, load_id in enumerate(IDS[:4])
    ]
    assert publish_all_at_once(database.url, loads) == [False] * 4
    ledger = database.ledger()
    assert [row[0] for row in ledger] == [1, 2, 3, 4]
    assert {row[1] for row in ledger} == set("abcd")
    rows = [row["shop"] for row in database.rows("customer_metrics")]
    counts = {shop: rows.count(shop) for shop in set(rows)}
    last = ledger[-1][1]
    sizes = {letter: 100 + 10 * i for i, letter in enumerate("abcd")}
    if strategy == "append":
        assert counts == sizes
    elif strategy == "replace":
        assert counts == {last: sizes[last]}
    else:
        assert len(rows) == 130
        assert counts[last] >= sizes[last] - 10 * len(ledger)
    if strategy != "append":
        assert [row["shop"] for row in database.rows("kpis")] == [last]


def test_the_command_says_try_again_later(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orders.csv").write_text("order_id,customer_id,order_date,amount\n1,C1,2024-01-05,10.50\n")
    (tmp_path / "job.toml").write_text("[load]\ntimeout_seconds = 0.1\n")
    argv = [str(tmp_path / "orders.csv"), "--to", database.url, "--work-dir", str(tmp_path / "work"), "--quiet"]
    other = build_load(tmp_path, A, {"other": ((), shop("north")["kpis"][1])})
    with StoppedPublish(database.url, other, named=".staged") as holder:
        assert main([*argv, "--config", str(tmp_path / "job.toml")]) == 75
        said = capsys.readouterr().err
        who = "another program has the database open" if database.name == "duckdb" else "another run is publishing"
        assert f"{who}{'' if database.name == 'duckdb' else ' into the target'}; waited 0.1 s" in said
        assert "locked" not in said
        holder.finish()
    assert main([*argv, "--config", str(tmp_path / "job.toml")]) == 0
    assert [row[3] for row in database.ledger()] == ["published", "published"]


def test_a_foreign_writer_is_waited_for_and_named_in_plain_words(
    sqlite: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sqlite.sink().publish(build_load(tmp_path, A, shop("north")))
    (tmp_path / "orders.csv").write_text("order_id,customer_id,order_date,amount\n1,C1,2024-01-05,10.50\n")
    (tmp_path / "job.toml").write_text('strategy = "replace"\n[load]\ntimeout_seconds = 0.1\n')
    argv = [str(tmp_path / "orders.csv"), "--to", sqlite.url, "--work-dir", str(tmp_path / "work"), "--quiet"]
    sqlite.run("DROP TABLE customer_metrics", "DROP TABLE kpis")
    with closing(sqlite3.connect(sqlite.url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        fault("held lock", "by a writer", "driver", "sqlite")
        assert main([*argv, "--config", str(tmp_path / "job.toml")]) == 75
        said = capsys.readouterr().err
        assert "another program is writing to the database; waited 0.1 s" in said
        assert "database is locked" not in said
        other.execute("ROLLBACK")
    assert main([*argv, "--config", str(tmp_path / "job.toml")]) == 0


def test_what_a_table_was_altered_to_meanwhile_is_seen(database: Database, tmp_path: Path) -> None:
    """The plan is made again under the lock: a column that came while rows were staged is not added twice."""
    if database.name == "duckdb":
        pytest.skip("no other process can open it meanwhile")
    text = "LONGTEXT COLLATE utf8mb4_nopad_bin" if database.name == "mariadb" else "TEXT"
    sink = database.sink()
    sink.publish(build_load(tmp_path, A, {"t": (("id",), shop("x")["kpis"][1].rename_columns(["id", "n", "shop"]))}))
    wide = shop("y")["kpis"][1].rename_columns(["id", "n", "shop"]).append_column("more", [["z"]])
    second = replace(
        build_load(tmp_path, B, {"t": (("id",), wide)}, "upsert"), options=LoadOptions(update_columns=("n", "more"))
    )
    with StoppedPublish(database.url, second, named=".staged") as holder:
        database.run(f"ALTER TABLE t ADD COLUMN more {text}")
        holder.finish()
    assert [row["more"] for row in database.rows("t")] == ["z"]
    third = build_load(tmp_path, C, {"t": (("id",), wide)})
    with StoppedPublish(database.url, third, named=".staged") as holder:
        database.run("ALTER TABLE t ADD COLUMN must TEXT NOT NULL DEFAULT ''", "CREATE VIEW v AS SELECT more FROM t")
        holder.finish()
    assert [row["must"] for row in database.rows("t")] == [""]


def test_a_column_that_is_dropped_while_its_rows_are_staged_loses_none(database: Database, tmp_path: Path) -> None:
    """Rows with a value there would have to be quarantined, and they were not: so nothing is published."""
    if database.name == "duckdb":
        pytest.skip("no other process can open it meanwhile")
    table = shop("x")["kpis"][1].rename_columns(["id", "n", "more"])
    database.sink().publish(build_load(tmp_path, A, {"t": (("id",), table)}))
    second = replace(build_load(tmp_path, B, {"t": (("id",), table)}), drift=Drift("quarantine"))
    with StoppedPublish(database.url, second, named=".staged") as holder:
        database.run("ALTER TABLE t DROP COLUMN more")
        assert "the table was changed while rows were on their way to it" in holder.failure()
    assert database.rows("t") == [{"id": "customers", "n": 3}]
    assert database.sink().publish(second).changes["t"].rejected == 1
