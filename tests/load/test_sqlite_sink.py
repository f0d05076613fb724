import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from daskae.errors import ExchangeError, LoadError
from daskae.load.base import Load, LoadOptions, Sink
from daskae.load.targets import open_sink

from .building import LOADED_AT, A, B, C, build_load, one_table, query, shop, write_parts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.db"


@pytest.fixture
def sink(path: Path) -> Sink:
    return open_sink(f"sqlite:///{path}")


def shops(path: Path) -> list[tuple[Any, ...]]:
    return query(path, "SELECT shop, count(*) FROM customer_metrics GROUP BY 1 ORDER BY 1")


def ledger(path: Path) -> list[tuple[Any, ...]]:
    return query(path, "SELECT sequence, substr(load_id, 1, 1), strategy, status FROM _daskae_loads ORDER BY sequence")


def test_the_parts_are_concatenated_in_order(sink: Sink, path: Path, tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "p", "t", ("n",), pa.table({"n": range(25_000)}), cuts=(0, 7, 7, 12_345))
    receipt = sink.publish(Load(A, "run", "replace", 0, LOADED_AT, (parts,)))
    assert receipt.rows == {"t": 25_000}
    assert query(path, "SELECT n FROM t ORDER BY rowid") == [(n,) for n in range(25_000)]


def test_an_empty_table_is_published(sink: Sink, path: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, A, shop("north", 0)))
    assert shops(path) == []
    assert query(path, "SELECT shop FROM kpis") == [("north",)]


def test_the_receipt_names_the_targets(sink: Sink, path: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    assert sink.preflight(load) is None
    assert not path.exists()
    receipt = sink.publish(load)
    assert (receipt.load_id, receipt.already_published) == (A, False)
    assert receipt.rows == {"customer_metrics": 3, "kpis": 1}
    assert receipt.targets["kpis"] == f"sqlite:///{path}: kpis"


def test_a_preflight_needs_no_rows(sink: Sink, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    planned = replace(load, tables=tuple(replace(parts, files=(), rows=0) for parts in load.tables))
    assert sink.preflight(planned) is None
    sink.publish(load)
    receipt = sink.preflight(planned)
    assert receipt is not None
    assert receipt.rows == {"customer_metrics": 3, "kpis": 1}


def test_the_same_load_twice_is_there_once(sink: Sink, path: Path, tmp_path: Path) -> None:
    for strategy in ("append", "replace"):
        load = replace(build_load(tmp_path, A, shop("north")), strategy=strategy)
        sink.publish(load)
        receipt = sink.publish(load)
        assert receipt.already_published
        assert sink.preflight(load) == receipt
        assert shops(path) == [("north", 3)]
        assert len(ledger(path)) == 1


def test_replace_a_b_a_publishes_three_times(sink: Sink, path: Path, tmp_path: Path) -> None:
    first, second = build_load(tmp_path, A, shop("north")), build_load(tmp_path, B, shop("south", 5))
    for load in (first, second, first):
        assert sink.preflight(load) is None
        assert not sink.publish(load).already_published
    assert shops(path) == [("north", 3)]
    assert ledger(path) == [
        (1, "a", "replace", "replaced"),
        (2, "b", "replace", "replaced"),
        (3, "a", "replace", "published"),
    ]
    tables, message = query(path, "SELECT tables, message FROM _daskae_loads ORDER BY sequence")[0]
    assert json.loads(tables) == {"customer_metrics": 3, "kpis": 1}
    assert message == "replaced by sequence 2"


def test_append_keeps_loads_apart_until_a_replace_wipes_them(sink: Sink, path: Path, tmp_path: Path) -> None:
    first = build_load(tmp_path, A, shop("north"), "append")
    second = build_load(tmp_path, B, shop("south"), "append")
    for load in (first, second, first, second):
        sink.publish(load)
    assert shops(path) == [("north", 3), ("south", 3)]
    assert len(ledger(path)) == 2

    sink.publish(build_load(tmp_path, C, shop("west")))
    assert shops(path) == [("west", 3)]
    assert not sink.publish(first).already_published
    assert shops(path) == [("north", 3), ("west", 3)]
    assert [row[3] for row in ledger(path)] == ["replaced", "replaced", "published", "published"]


def test_replace_after_append_of_the_same_load_takes_the_others_out(sink: Sink, path: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"), "append")
    sink.publish(load)
    sink.publish(build_load(tmp_path, B, shop("south"), "append"))
    assert not sink.publish(replace(load, strategy="replace")).already_published
    assert shops(path) == [("north", 3)]
    assert sink.publish(replace(load, strategy="replace")).already_published


def test_a_replace_leaves_the_tables_of_other_loads(sink: Sink, path: Path, tmp_path: Path) -> None:
    sink.publish(one_table(tmp_path, pa.table({"n": [1]}), name="other", load_id=C))
    sink.publish(build_load(tmp_path, A, shop("north")))
    sink.publish(build_load(tmp_path, B, shop("south")))
    assert query(path, "SELECT n FROM other") == [(1,)]
    assert [row[3] for row in ledger(path)] == ["published", "replaced", "published"]


def test_an_appended_load_that_lost_one_table_is_made_whole_again(sink: Sink, path: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"), "append")
    sink.publish(load)
    sink.publish(one_table(tmp_path, shop("south")["kpis"][1], ("metric",), "kpis", B))
    assert not sink.publish(load).already_published
    assert shops(path) == [("north", 3)]
    assert query(path, "SELECT shop FROM kpis ORDER BY 1") == [("north",), ("south",)]


@pytest.mark.parametrize("damage", ["DELETE FROM kpis", "DROP TABLE kpis", "ALTER TABLE kpis DROP COLUMN _load_id"])
def test_rows_taken_away_by_hand_come_back(damage: str, sink: Sink, path: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"), "append")
    sink.publish(load)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP INDEX _daskae_key_kpis")
        database.execute(damage)
        if "COLUMN" in damage:
            database.execute("DELETE FROM kpis")
    assert sink.preflight(load) is None
    assert not sink.publish(load).already_published
    assert query(path, "SELECT shop FROM kpis") == [("north",)]
    assert shops(path) == [("north", 3)]


def test_the_unique_index_follows_the_strategy(sink: Sink, path: Path, tmp_path: Path) -> None:
    def index() -> list[str]:
        names = query(path, "SELECT name FROM pragma_index_info('_daskae_key_customer_metrics') ORDER BY seqno")
        return [name for (name,) in names]

    sink.publish(build_load(tmp_path, A, shop("north")))
    assert index() == ["customer_id"]
    sink.publish(build_load(tmp_path, B, shop("south"), "append"))
    assert index() == ["customer_id", "_load_id"]
    sink.publish(build_load(tmp_path, C, shop("west")))
    assert index() == ["customer_id"]


def test_what_others_hung_on_a_table_survives_a_replace(sink: Sink, path: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, A, shop("north")))
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript("""
            CREATE VIEW best AS SELECT * FROM customer_metrics WHERE spent > 0;
            CREATE INDEX by_shop ON customer_metrics (shop);
            CREATE TABLE seen (customer_id TEXT);
            CREATE TRIGGER watch AFTER INSERT ON customer_metrics
                BEGIN INSERT INTO seen VALUES (new.customer_id); END;
            ALTER TABLE customer_metrics ADD COLUMN note TEXT;
        """)
    sink.publish(build_load(tmp_path, B, shop("south")))
    assert query(path, "SELECT customer_id, shop, note FROM best") == [("C1", "south", None), ("C2", "south", None)]
    assert query(path, "SELECT count(*) FROM seen") == [(3,)]
    assert query(path, "SELECT tbl_name FROM sqlite_master WHERE name = 'by_shop'") == [("customer_metrics",)]


def test_a_new_column_is_added_to_the_table(sink: Sink, path: Path, tmp_path: Path) -> None:
    sink.publish(one_table(tmp_path, pa.table({"id": ["x"]}), ("id",), load_id=A))
    wider = pa.table({"day": [date(2011, 1, 1)], "id": ["x"]})
    sink.publish(replace(one_table(tmp_path, wider, ("id",), load_id=B), strategy="append"))
    assert query(path, "SELECT id, day, typeof(day) FROM t ORDER BY rowid") == [
        ("x", None, "null"),
        ("x", "2011-01-01", "text"),
    ]


def test_an_empty_table_of_the_user_is_adopted(sink: Sink, path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE T (row INTEGER PRIMARY KEY NOT NULL, ID TEXT, tag TEXT NOT NULL DEFAULT 'new')")
    sink.publish(one_table(tmp_path, pa.table({"id": ["x", "y"]}), ("id",)))
    assert query(path, "SELECT row, id, tag FROM t") == [(1, "x", "new"), (2, "y", "new")]
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


@pytest.mark.parametrize(
    ("ddl", "difference"),
    [
        ("CREATE TABLE t (id INTEGER)", "column id is INTEGER, not TEXT"),
        ("CREATE TABLE t (id)", "column id is without a type, not TEXT"),
        ("CREATE TABLE t (id TEXT, must INTEGER NOT NULL)", "column must is NOT NULL without a default"),
        ("CREATE TABLE t (raw TEXT, id TEXT AS (upper(raw)))", "column id is computed by the database"),
        ("CREATE TABLE t (id TEXT); INSERT INTO t VALUES ('mine')", "rows that daskae did not put there"),
        ("CREATE VIEW t AS SELECT 1 AS id", "belongs to a view"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_beforehand(
    ddl: str, difference: str, sink: Sink, path: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(ddl)
    before = path.read_bytes()
    load = one_table(tmp_path, pa.table({"id": ["x"]}), ("id",))
    for step in (sink.preflight, sink.publish):
        with pytest.raises(LoadError, match=difference):
            step(load)
    assert path.read_bytes() == before


def test_repeated_keys_are_named_and_nothing_changes(sink: Sink, path: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, A, shop("north")))
    ids = [f"C{number % 8}" for number in range(16)]
    bad = {**shop("south"), "customer_metrics": (("customer_id",), pa.table({"customer_id": ids}))}
    with pytest.raises(LoadError, match=r"more than once(.|\n)*\(C0\), \(C1\), \(C2\), \(C3\), \(C4\) \.\.\."):
        sink.publish(build_load(tmp_path, B, bad))
    assert shops(path) == [("north", 3)]
    assert ledger(path) == [(1, "a", "replace", "published"), (2, "b", "replace", "failed")]
    assert query(path, "SELECT name FROM sqlite_master WHERE name LIKE '\\_daskae\\_stage%' ESCAPE '\\'") == []


def test_null_keys_are_named(sink: Sink, tmp_path: Path) -> None:
    table = pa.table({"month": ["2011-01", "2011-02", None], "period": [0, None, 1]})
    load = replace(one_table(tmp_path, table, ("month", "period")), options=LoadOptions(null_keys="error"))
    with pytest.raises(LoadError, match=r"key is null(.|\n)*\(2011-02, null\), \(null, 1\)"):
        sink.publish(load)


def test_a_unique_index_of_the_user_can_refuse_the_rows(sink: Sink, path: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, A, shop("north", 1)))
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE UNIQUE INDEX one_row_a_shop ON customer_metrics (shop)")
    with pytest.raises(LoadError, match=r"a rule of the database refuses the rows(.|\n)*customer_metrics\.shop"):
        sink.publish(build_load(tmp_path, B, shop("south")))
    assert shops(path) == [("north", 1)]


def test_rows_swallowed_by_a_trigger_are_noticed(sink: Sink, path: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, A, shop("north")))
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TRIGGER eat BEFORE INSERT ON customer_metrics WHEN new.customer_id = 'C1' "
            "BEGIN SELECT RAISE(IGNORE); END"
        )
    with pytest.raises(LoadError, match="2 rows arrived"):
        sink.publish(build_load(tmp_path, B, shop("south")))
    assert shops(path) == [("north", 3)]


def test_a_renamed_table_does_not_keep_the_index(sink: Sink, path: Path, tmp_path: Path) -> None:
    load = one_table(tmp_path, pa.table({"id": ["x"]}), ("id",))
    sink.publish(load)
    with closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE t RENAME TO t_last_year")
    sink.publish(load)
    assert query(path, "SELECT tbl_name FROM sqlite_master WHERE name = '_daskae_key_t'") == [("t",)]
    assert query(path, "SELECT id FROM t_last_year") == [("x",)]


def test_rows_that_do_not_add_up_are_refused(sink: Sink, path: Path, tmp_path: Path) -> None:
    load = one_table(tmp_path, pa.table({"n": [1, 2]}))
    with pytest.raises(LoadError, match=r"do not add up(.|\n)*2 rows arrived(.|\n)*3 rows announced"):
        sink.publish(replace(load, tables=(replace(load.tables[0], rows=3),)))
    assert query(path, "SELECT name FROM sqlite_master") == []


def test_a_damaged_part_is_named(sink: Sink, tmp_path: Path) -> None:
    load = one_table(tmp_path, pa.table({"n": [1, 2]}))
    (part,) = load.tables[0].files
    part.write_bytes(b"rubbish")
    with pytest.raises(ExchangeError, match=r"cannot be read(.|\n)*000\.arrow"):
        sink.publish(load)
    part.unlink()
    with pytest.raises(ExchangeError, match=r"000\.arrow"):
        sink.publish(load)
    other = one_table(tmp_path, pa.table({"other": [1]}), load_id=B).tables[0]
    with pytest.raises(ExchangeError, match="other columns than the table"):
        sink.publish(replace(load, tables=(replace(load.tables[0], files=other.files),)))
