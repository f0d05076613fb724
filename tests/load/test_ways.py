"""However short the way of the rows is, the table comes out the same."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from daskae.errors import LoadError, TargetBusyError
from daskae.load.audits import LoadCheck
from daskae.load.base import Load, LoadOptions, Strategy
from daskae.load.sql import sink
from daskae.load.sql.dialect import Session
from daskae.load.sql.drift import plan_table
from daskae.load.sql.sink import SqlSink
from daskae.load.sql.ways import Way, choose_way

from .building import A, B, C, build_load, one_table, shop, write_parts
from .databases import Database

DIRECT: dict[str, Way] = {"postgresql": "direct", "sqlite": "direct"}
STAGED = LoadOptions(duplicates="last")
"""Duplicates are taken out of staged rows, so the rows take the long way."""

_POSTGRESQL_SHAPE = """SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name <> '_daskae_loads'
    ORDER BY table_name, ordinal_position"""
_POSTGRESQL_NAMES = """SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()
    UNION ALL SELECT conname FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
    UNION ALL SELECT relname || relpersistence::text FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace"""
_SQLITE_SHAPE = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name"


def shape(database: Database) -> list[Any]:
    """Columns, constraints and indexes, under whatever names they have."""
    if database.name == "sqlite":
        return [tuple(str(cell) for cell in row) for row in database.query(_SQLITE_SHAPE)]
    schema = database.url.rpartition("=")[2]
    names = sorted(str(row[0]).replace(schema, "s") for row in database.query(_POSTGRESQL_NAMES))
    return [*database.query(_POSTGRESQL_SHAPE), *names]


@contextmanager
def session_of(database: Database) -> Iterator[Session]:
    """Look into a database as the sink does."""
    target = database.sink()
    assert isinstance(target, SqlSink)
    with target._dialect.publishing() as session:
        yield session


def way_of(session: Session, load: Load) -> Way:
    return choose_way(session, load, plan_table(session.dialect, session, load.tables[0], load))


@pytest.mark.parametrize("strategy", ["replace", "append", "upsert", "merge"])
def test_tables_are_the_same_whichever_way_the_rows_came(
    strategy: Strategy, database: Database, tmp_path: Path
) -> None:
    load = build_load(tmp_path, A, shop("north", 30), strategy)
    options = LoadOptions(on_missing="flag" if strategy == "merge" else "keep")
    database.sink().publish(replace(load, options=options))
    short = shape(database), database.rows("customer_metrics", metadata=True), database.ledger()
    database.run("DROP TABLE customer_metrics", "DROP TABLE kpis", "DROP TABLE _daskae_loads")
    database.sink().publish(replace(load, options=replace(options, duplicates="last")))
    assert (shape(database), database.rows("customer_metrics", metadata=True), database.ledger()) == short


@pytest.mark.parametrize(
    ("strategy", "options", "first", "again"),
    [
        ("replace", LoadOptions(), {"postgresql": "adopt", "sqlite": "direct"}, DIRECT),
        ("append", LoadOptions(), {"postgresql": "adopt", "sqlite": "direct"}, DIRECT),
        ("upsert", LoadOptions(), {"postgresql": "adopt"}, {}),
        ("merge", LoadOptions(), {"postgresql": "adopt"}, {}),
        ("replace", STAGED, {}, {}),
        ("append", LoadOptions(null_keys="match"), {}, {}),
    ],
)
def test_the_way_follows_from_the_load_and_from_what_is_there(
    strategy: Strategy, options: LoadOptions, first: dict[str, Way], again: dict[str, Way], database: Database,
    tmp_path: Path,
) -> None:  # fmt: skip
    load = replace(build_load(tmp_path, A, shop("north"), strategy), options=options)
    with session_of(database) as session:
        assert way_of(session, load) == first.get(database.name, "copy")
    database.sink().publish(load)
    with session_of(database) as session:
        assert way_of(session, load) == again.get(database.name, "copy")


def test_triggers_checks_and_new_columns_need_a_stage(sqlite: Database, tmp_path: Path) -> None:
    table = pa.table({"id": ["x"], "n": [1]})
    load = one_table(tmp_path / "one", table, ("id",))
    wider = one_table(tmp_path / "two", table.append_column("m", pa.array([2])), ("id",), load_id=B)
    sqlite.sink().publish(load)
    with session_of(sqlite) as session:
        assert way_of(session, wider) == "copy"
        assert way_of(session, replace(load, checks=(LoadCheck("empty", "SELECT * FROM {staged}"),))) == "copy"
    sqlite.run(
        "CREATE TABLE log (id TEXT)", "CREATE TRIGGER t_in AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.id); END"
    )
    with session_of(sqlite) as session:
        assert way_of(session, load) == "copy"
    sqlite.sink().publish(wider)
    assert sqlite.query("SELECT id FROM log") == [("x",)]


@pytest.mark.parametrize("strategy", ["replace", "append"])
def test_repeated_keys_are_named_without_a_stage_too(strategy: Strategy, database: Database, tmp_path: Path) -> None:
    twice = pa.table({"id": ["x", "y", "x"], "n": [1, 2, 3]})
    load = replace(one_table(tmp_path / "bad", twice, ("id",)), strategy=strategy)
    for before in range(2):
        with pytest.raises(LoadError, match=r"more than once(.|\n)*\(x\)"):
            database.sink().publish(load)
        assert len(database.names() - {"t", "_daskae_loads"}) == 0
        if not before:
            database.sink().publish(one_table(tmp_path / "good", twice.slice(0, 2), ("id",), load_id=B))
    assert [row["n"] for row in database.rows("t")] == [1, 2]


def test_repeated_keys_are_named_where_the_index_is_there_already(database: Database, tmp_path: Path) -> None:
    twice = pa.table({"id": ["x", "y", "x"], "n": [1, 2, 3]})
    for number, load_id in enumerate((B, C)):
        good = one_table(tmp_path / str(number), twice.slice(0, 2), ("id",), load_id=load_id)
        database.sink().publish(replace(good, strategy="append"))
    with pytest.raises(LoadError, match=r"more than once(.|\n)*\(x\)"):
        database.sink().publish(replace(one_table(tmp_path / "bad", twice, ("id",)), strategy="append"))
    assert sorted(row["n"] for row in database.rows("t")) == [1, 1, 2, 2]


_TRIGGER = """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO log VALUES (new.id); RETURN new; END $$"""


def test_what_acts_on_rows_needs_a_stage_in_postgresql(postgresql: Database, tmp_path: Path) -> None:
    load = one_table(tmp_path / "one", pa.table({"id": ["x"], "n": [1]}), ("id",))
    postgresql.sink().publish(load)
    with session_of(postgresql) as session:
        assert way_of(session, load) == "direct"
    postgresql.run(
        "CREATE TABLE log (id TEXT)",
        _TRIGGER,
        "CREATE TRIGGER t_in BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()",
    )
    with session_of(postgresql) as session:
        assert way_of(session, load) == "copy"
    postgresql.sink().publish(replace(load, load_id=B))
    assert postgresql.query("SELECT id FROM log") == [("x",)]


def test_rows_in_order_of_their_key_carry_all_that_others_do(postgresql: Database, tmp_path: Path) -> None:
    parts = pa.table({"id": [f"C{n * 7919 % 1000:04d}" for n in range(1000)], "n": range(1000)}).sort_by("id")
    load = build_load(tmp_path, A, {"t": (("id",), parts)})
    scattered = [parts.take(list(range(first, 1000, 3))) for first in range(3)]
    whole = pa.concat_tables(scattered)
    several = write_parts(tmp_path / "parts", "t", ("id",), whole, (334, 667))
    load = replace(load, tables=(several,))
    postgresql.sink().publish(load)
    first = postgresql.rows("t", metadata=True)
    with session_of(postgresql) as session:
        assert way_of(session, load) == "direct"
    postgresql.sink().publish(replace(load, load_id=B))
    assert [{**row, "_load_id": A} for row in postgresql.rows("t", metadata=True)] == first
    assert len(first) == 1000
    # They lie in the table in this order.
    assert [row[0] for row in postgresql.query("SELECT id FROM t ORDER BY ctid")] == sorted(parts["id"].to_pylist())


def test_rows_left_out_on_the_short_way_are_kept(database: Database, tmp_path: Path) -> None:
    table = pa.table({"id": ["x", None, "y"], "n": [1, 2, 3]})
    load = replace(one_table(tmp_path, table, ("id",)), rejects=tmp_path / "left_out")
    receipt = database.sink().publish(load)
    assert (receipt.rows["t"], receipt.changes["t"].rejected) == (2, 1)
    assert [(found.rows, found.samples[0]["n"]) for found in receipt.rejected] == [(1, 2)]
    assert [row["n"] for row in database.rows("t")] == [1, 3]


def test_a_table_that_somebody_makes_meanwhile_is_left_alone(
    postgresql: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_table(point: str) -> None:
        if point == "postgresql.staged":
            postgresql.run("CREATE TABLE kpis (mine TEXT)")

    monkeypatch.setattr(sink, "crash_point", make_table)
    with pytest.raises(TargetBusyError, match=r"another program has made a table(.|\n)*table kpis"):
        postgresql.sink().publish(build_load(tmp_path, A, shop("north")))
    assert postgresql.names() == {"kpis"}
    assert postgresql.query("SELECT mine FROM kpis") == []


def test_a_reader_keeps_the_old_rows_while_new_ones_go_straight_in(sqlite: Database, tmp_path: Path) -> None:
    sqlite.sink().publish(build_load(tmp_path / "one", A, shop("north", 5)))
    path = sqlite.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM customer_metrics").fetchone() == (5,)
        sqlite.sink().publish(build_load(tmp_path / "two", B, shop("south", 2000)))
        assert reader.execute("SELECT count(*), max(shop) FROM customer_metrics").fetchone() == (5, "north")
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*), max(shop) FROM customer_metrics").fetchone() == (2000, "south")
