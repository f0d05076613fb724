"""Columns that come to hold more, in place, on MariaDB and DuckDB: what is widened, what is refused, and kills."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from daskae.errors import LoadError
from daskae.load.base import Strategy
from daskae.load.sql.duckdb.widening import wider_type
from daskae.load.sql.mariadb.widening import wider_types

from .building import MONEY, A, B, C
from .databases import Database
from .processes import publish_killed_at
from .test_drift import OLD, UNSAFE, changes, load

TIME = datetime(2012, 1, 1, 8, 30)
BINARY = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"

SAFE: dict[str, tuple[str, str, pa.Array, Any, Any]] = {
    "small to large": ("SMALLINT", "-7", pa.array([2**40], pa.int64()), -7, 2**40),
    "whole to decimal": ("BIGINT", "7", pa.array([Decimal("2.5")], MONEY), 7, Decimal("2.5")),
    "whole to float": ("BIGINT", str(2**47 - 1), pa.array([0.5]), 2**47 - 1, Decimal("0.5")),
    "few to many digits": ("DECIMAL(6, 2)", "1234.56", pa.array([Decimal("99999.1234")], MONEY), Decimal("1234.56"),
        Decimal("99999.1234")),
    "short to long float": ("FLOAT", "0.25", pa.array([0.1]), Decimal("0.25"), Decimal("0.1")),
    "day to time": ("DATE", "'2011-12-01'", pa.array([TIME], pa.timestamp("us")), "2011-12-01 00:00:00", str(TIME)),
}  # fmt: skip


@pytest.fixture(params=["mariadb", "duckdb"])
def other(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


def columns(database: Database, more: str = "") -> str:
    key, time = (f"VARCHAR(255) {BINARY}", "DATETIME(6)") if database.name == "mariadb" else ("TEXT", "TIMESTAMP")
    marks = f"_load_id {key}, _loaded_at {time}, _source_rows BIGINT"
    return f"id {key}, {more}{', ' if more else ''}{marks}"


def make(database: Database, kind: str, *rows: str) -> None:
    database.run(
        f"CREATE TABLE t ({columns(database, f'x {kind}')})",
        *(f"INSERT INTO t VALUES ('old', {row}, 'mine', NULL, 1)" for row in rows),
    )


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("strategy", ["append", pytest.param("upsert", marks=pytest.mark.slow)])
def test_evolve_widens_a_type_in_place(name: str, strategy: Strategy, other: Database, tmp_path: Path) -> None:
    kind, literal, value, old, new = SAFE[name]
    make(other, f"{kind} DEFAULT {literal}", literal)
    other.run("CREATE VIEW others AS SELECT id, x FROM t")
    second = load(tmp_path, pa.table({"id": ["new"], "x": value}), B, strategy)
    frozen = load(tmp_path / "2", pa.table({"id": ["new"], "x": value}), C, strategy, policy="freeze")
    with pytest.raises(LoadError, match=r"column x is .*, not .*, and it is frozen"):
        other.sink().preflight(frozen)
    planned = changes(other, second)["t"]
    assert (planned.change, planned.notes[0].split(" ")[:3]) == ("alter", ["column", "x", "becomes"])
    assert other.sink().preflight(second) is None
    assert changes(other, second)["t"] == planned
    other.sink().publish(second)
    assert {row["id"]: row["x"] for row in other.rows("t")} == {"old": old, "new": new}
    assert len(other.query("SELECT * FROM others")) == 2
    assert changes(other, second)["t"].change == "keep"
    assert other.sink().preflight(frozen) is None
    other.run("INSERT INTO t (id) VALUES ('default')")
    assert {row["id"]: row["x"] for row in other.rows("t")}["default"] == old


@pytest.mark.parametrize("name", [name for name in UNSAFE if name != "float to decimal"])
def test_an_unsafe_change_of_type_is_refused_beforehand(name: str, other: Database, tmp_path: Path) -> None:
    kind, value = UNSAFE[name]
    kind = "DATETIME(6)" if (other.name, kind) == ("mariadb", "TIMESTAMP") else kind
    make(other, kind)
    with pytest.raises(LoadError, match=r"column x is .*, not "):
        other.sink().preflight(load(tmp_path, pa.table({"id": ["a"], "x": value})))


def test_whole_numbers_that_a_float_would_change_are_not_widened(other: Database, tmp_path: Path) -> None:
    make(other, "BIGINT", str(2**53 + 1))
    with pytest.raises(LoadError, match=r"column x is .*, not .*it holds whole numbers beyond"):
        other.sink().preflight(load(tmp_path, pa.table({"id": ["b"], "x": [0.5]}), strategy="append"))


MONEYED = pa.table({"id": ["a"], "x": pa.array([Decimal("0.5")], MONEY)})


@pytest.mark.parametrize(
    ("declared", "more", "obstacle"),
    [
        ("x INT UNIQUE", "CREATE TABLE child (n INT, FOREIGN KEY (n) REFERENCES t (x))", "foreign key child_"),
        ("x INT, twice INT AS (x * 2) STORED", "", "the generated column twice"),
        ("x INT NOT NULL AUTO_INCREMENT UNIQUE", "", "its AUTO_INCREMENT"),
    ],
)  # fmt: skip
def test_what_depends_on_a_type_of_mariadb_is_named_beforehand(
    declared: str, more: str, obstacle: str, mariadb: Database, tmp_path: Path
) -> None:
    mariadb.run(f"CREATE TABLE t ({columns(mariadb, declared)})", *([more] if more else []))
    with pytest.raises(LoadError, match=f"column x is int.*, not(.|\n)*these depend on its type: {obstacle}"):
        mariadb.sink().preflight(load(tmp_path, MONEYED))


@pytest.mark.parametrize(
    ("after", "obstacle"),
    [("PARTITION BY HASH (x)", "the partitions of the table"), ("WITH SYSTEM VERSIONING", "the history")],
)
def test_tables_that_mariadb_does_not_alter_freely_stay(
    after: str, obstacle: str, mariadb: Database, tmp_path: Path
) -> None:
    mariadb.run(f"CREATE TABLE t ({columns(mariadb, 'x INT')}) {after}")
    with pytest.raises(LoadError, match=f"these depend on its type: {obstacle}"):
        mariadb.sink().preflight(load(tmp_path, MONEYED))


def test_all_else_that_mariadb_knows_of_a_column_stays(mariadb: Database, tmp_path: Path) -> None:
    declared = "`x ``%s``` INT NOT NULL DEFAULT 7 COMMENT 'what, ''it'' is\\n%d' CHECK (`x ``%s``` > 0)"
    note = f"note TEXT {BINARY} DEFAULT 'none' COMMENT 'a, b'"
    with mariadb.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE t ({columns(mariadb, f'{declared}, {note}')})".replace("%", "%%"))
        before = connection.exec_driver_sql("SHOW CREATE TABLE t").one()[1]
    table = pa.table({"id": ["a"], "x `%s`": pa.array([Decimal("0.5")], MONEY), "note": ["x" * 70_000]})
    mariadb.sink().publish(load(tmp_path, table))
    with mariadb.connect() as connection:
        after = connection.exec_driver_sql("SHOW CREATE TABLE t").one()[1]
    lines = [line for line in after.split("\n") if "_daskae_key_" not in line]
    wanted = before.replace("int(11)", "decimal(38,4)").replace("`note` text", "`note` longtext")
    wanted = wanted.replace("DEFAULT 7 ", "DEFAULT 7.0000 ")
    assert [line.rstrip(",") for line in lines] == [line.rstrip(",") for line in wanted.split("\n")]


@pytest.mark.parametrize(
    ("ddl", "obstacle"),
    [
        ("CREATE INDEX by_id ON t (id)", "index by_id"),
        ("CREATE TABLE child (n BIGINT REFERENCES t (y))", "a foreign key of table child"),
    ],
)
def test_what_depends_on_a_table_of_duckdb_is_named_beforehand(
    ddl: str, obstacle: str, duckdb: Database, tmp_path: Path
) -> None:
    duckdb.run(f"CREATE TABLE t ({columns(duckdb, 'x BIGINT, y BIGINT UNIQUE')})", ddl)
    with pytest.raises(LoadError, match=f"column x is BIGINT, not(.|\n)*these depend on its type: {obstacle}"):
        duckdb.sink().preflight(load(tmp_path, MONEYED))


@pytest.mark.parametrize(
    ("declared", "obstacle"),
    [
        ("x BIGINT UNIQUE", "a UNIQUE constraint"),
        ("x BIGINT CHECK (x > 0)", "a CHECK constraint"),
        ("x BIGINT, twice BIGINT GENERATED ALWAYS AS (x * 2)", "the generated column twice"),
    ],
)
def test_what_depends_on_a_column_of_duckdb_is_named_beforehand(
    declared: str, obstacle: str, duckdb: Database, tmp_path: Path
) -> None:
    duckdb.run(f"CREATE TABLE t ({columns(duckdb, declared)})")
    with pytest.raises(LoadError, match=f"these depend on its type: {obstacle}"):
        duckdb.sink().preflight(load(tmp_path, MONEYED))


def test_a_widening_that_is_not_published_leaves_no_trace_in_duckdb(duckdb: Database, tmp_path: Path) -> None:
    """The load fails in the transaction, after the column was altered: its keys are there already."""
    make(duckdb, "BIGINT", "1", "2")
    wider = pa.table({"id": ["old"], "x": pa.array([Decimal("0.5")], MONEY)})
    with pytest.raises(LoadError, match="several rows of a key"):
        duckdb.sink().publish(load(tmp_path, wider, B, "upsert"))
    kinds = dict(duckdb.query("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 't'"))
    assert kinds["x"] == "BIGINT"


def test_a_widening_that_is_not_published_keeps_every_value_in_mariadb(mariadb: Database, tmp_path: Path) -> None:
    make(mariadb, "BIGINT", "1", "2")
    rows = mariadb.rows("t", metadata=True)
    wider = pa.table({"id": ["old"], "x": pa.array([Decimal("0.5")], MONEY)})
    with pytest.raises(LoadError, match="several rows of a key"):
        mariadb.sink().publish(load(tmp_path, wider, B, "upsert"))
    assert mariadb.rows("t", metadata=True) == rows
    assert changes(mariadb, load(tmp_path / "2", wider, B, "append"))["t"].change == "alter"  # the index on the keys
    mariadb.sink().publish(load(tmp_path / "3", wider, C, "append"))
    assert sorted(row["x"] for row in mariadb.rows("t")) == [Decimal("0.5"), 1, 2]


def test_a_widening_that_died_half_way_is_finished(mariadb: Database, tmp_path: Path) -> None:
    make(mariadb, "BIGINT", str(10**14))
    second = load(tmp_path, pa.table({"id": ["new"], "x": [0.5]}), B, "append")
    first, last = (text for text in changes(mariadb, second)["t"].statements if "MODIFY" in text)
    assert ("DECIMAL(15,0)" in first, "DOUBLE" in last) == (True, True)
    mariadb.run(first)
    assert last in changes(mariadb, second)["t"].statements
    assert first not in changes(mariadb, second)["t"].statements
    mariadb.sink().publish(second)
    assert {row["id"]: row["x"] for row in mariadb.rows("t")} == {"old": 10**14, "new": Decimal("0.5")}


def test_a_number_that_came_in_meanwhile_is_not_changed(mariadb: Database, tmp_path: Path) -> None:
    """The step that could lose digits is refused by the server, whatever was looked at beforehand."""
    make(mariadb, "BIGINT")
    second = load(tmp_path, pa.table({"id": ["new"], "x": [0.5]}), B, "append")
    first = next(text for text in changes(mariadb, second)["t"].statements if "MODIFY" in text)
    mariadb.run(f"INSERT INTO t VALUES ('old', {2**53 + 1}, 'mine', NULL, 1)")
    with pytest.raises(Exception, match="Out of range value"):
        mariadb.run("SET sql_mode = 'STRICT_ALL_TABLES'", first)
    assert mariadb.query("SELECT x FROM t") == [(2**53 + 1,)]


@pytest.mark.slow
@pytest.mark.parametrize("point", ["staged", "deleted:1", "uncommitted", "committed"])
def test_a_kill_while_tables_are_altered_leaves_old_or_new(point: str, other: Database, tmp_path: Path) -> None:
    other.sink().publish(load(tmp_path, OLD.append_column("d", [[date(2011, 12, 1)] * 2]), A))
    rows = other.rows("t")
    cells = {"n": pa.array([Decimal("0.5")], MONEY), "d": [TIME], "more": ["x"]}
    second = load(tmp_path / "2", pa.table({"id": ["c"], **cells}), B, "append")
    publish_killed_at(other.url, second, f"{other.name}.{point}")
    if point != "committed":
        assert [(row["id"], row["n"]) for row in other.rows("t")] == [(row["id"], row["n"]) for row in rows]
    assert other.sink().publish(second).already_published == (point == "committed")
    assert [(row["id"], row["n"], row["d"], row["more"]) for row in other.rows("t")] == [
        ("a", 1, "2011-12-01 00:00:00", None),
        ("b", 2, "2011-12-01 00:00:00", None),
        ("c", Decimal("0.5"), str(TIME), "x"),
    ]
    assert changes(other, second)["t"].change == "keep"


@pytest.mark.parametrize(
    ("found", "wanted", "steps"),
    [
        ("smallint(5) unsigned", "BIGINT", ("BIGINT",)), ("bigint(20) unsigned", "BIGINT", ()),
        ("tinyint(1)", "BIGINT", ()), ("tinyint(4)", "BIGINT", ("BIGINT",)), ("int", "BIGINT", ("BIGINT",)),
        ("decimal(15,0)", "BIGINT", ("BIGINT",)), ("decimal(19,0)", "BIGINT", ()), ("decimal(9,1)", "BIGINT", ()),
        ("bigint(20) unsigned", "NUMERIC(38, 4)", ("NUMERIC(38, 4)",)), ("int(11) zerofill", "NUMERIC(38, 4)", ()),
        ("decimal(60,10)", "NUMERIC(38, 4)", ("NUMERIC(60, 10)",)), ("decimal(65,0)", "NUMERIC(38, 4)", ()),
        ("int(11)", "DOUBLE", ("DOUBLE",)), ("bigint(20)", "DOUBLE", ("DECIMAL(15,0)", "DOUBLE")),
        ("decimal(15,0)", "DOUBLE", ("DOUBLE",)), ("decimal(16,0)", "DOUBLE", ()), ("float", "DOUBLE", ("DOUBLE",)),
        ("datetime(3)", "DATETIME(6)", ("DATETIME(6)",)), ("timestamp(6)", "DATETIME(6)", ()),
        ("text collate utf8mb4_nopad_bin", "LONGTEXT COLLATE utf8mb4_nopad_bin", ("LONGTEXT",)),
        ("text collate latin1_bin", "LONGTEXT COLLATE utf8mb4_nopad_bin", ()), ("date", "BIGINT", ()),
    ],
)  # fmt: skip
def test_types_that_mariadb_goes_through(found: str, wanted: str, steps: tuple[str, ...]) -> None:
    assert wider_types(found, wanted) == steps


@pytest.mark.parametrize(
    ("found", "wanted", "wider"),
    [
        ("UINTEGER", "BIGINT", "BIGINT"), ("UBIGINT", "BIGINT", None), ("BOOLEAN", "BIGINT", None),
        ("UBIGINT", "DECIMAL(38,4)", "NUMERIC(38, 4)"), ("HUGEINT", "DECIMAL(38,4)", None),
        ("DECIMAL(20,6)", "DECIMAL(38,4)", None), ("DECIMAL(9,2)", "DECIMAL(20,0)", "NUMERIC(22, 2)"),
        ("DECIMAL(9,2)", "DOUBLE", None), ("TIMESTAMP_NS", "TIMESTAMP", None),
        ("TIMESTAMP_S", "TIMESTAMP", "TIMESTAMP"),
    ],
)  # fmt: skip
def test_types_that_duckdb_changes_to(found: str, wanted: str, wider: str | None) -> None:
    assert wider_type(found, wanted) == wider
