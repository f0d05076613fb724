"""Tables that have other columns than the result: what each policy does, on both databases, and what it refuses."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daskae.errors import LoadError
from daskae.load.base import Changes, Load, LoadOptions, Strategy
from daskae.load.shape import POLICIES, Drift, DriftPolicy, Shaping, TableChange
from daskae.load.sql.postgresql.widening import accepts, wider_type

from .building import MONEY, A, B, C, one_table
from .databases import Database
from .processes import publish_killed_at

OLD = pa.table({"id": ["a", "b"], "n": pa.array([1, 2], pa.int64())})
NEW = OLD.append_column("note", pa.array([None, "x"], pa.string()))
MEDIUM = "id TEXT, n BIGINT, _load_id TEXT, _loaded_at TIMESTAMP, _source_rows BIGINT"


def load(folder: Path, table: pa.Table, load_id: str = B, strategy: Strategy = "replace", **drift: Any) -> Load:
    made = one_table(folder, table, ("id",), load_id=load_id)
    policy = drift.pop("policy", "evolve")
    return replace(made, strategy=strategy, drift=Drift(policy, drift), rejects=folder / "left_out")


def changes(database: Database, load: Load) -> dict[str, TableChange]:
    sink = database.sink()
    assert isinstance(sink, Shaping)
    return {change.table: change for change in sink.plan_changes(load)}


def columns(database: Database, table: str = "t") -> list[str]:
    (row,) = database.rows(table, metadata=True)[:1]
    return [name for name in row if not name.startswith("_")]


def state(database: Database) -> Any:
    """Everything there is, and how it is declared."""
    if database.name == "sqlite":
        shape: Any = database.query("SELECT name, sql FROM sqlite_master ORDER BY 1")
    else:
        shape = database.query(
            "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod) FROM pg_attribute a"
            " JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = current_schema()::regnamespace AND attnum > 0"
            " AND NOT attisdropped ORDER BY 1, 2"
        )
    return shape, {name: database.rows(name, metadata=True) for name in sorted(database.names())}


@pytest.mark.parametrize("strategy", ["replace", "append", "upsert"])
def test_evolve_adds_a_new_column(strategy: Strategy, database: Database, tmp_path: Path) -> None:
    database.sink().publish(load(tmp_path, OLD, A))
    second = load(tmp_path / "second", NEW, B, strategy)
    planned = changes(database, second)["t"]
    assert (planned.change, planned.notes) == ("alter", ("column note is added",))
    assert "ADD COLUMN" in planned.statements[0]
    assert "note" not in columns(database)
    database.sink().publish(second)
    assert columns(database) == ["id", "n", "note"]
    assert {row["note"] for row in database.rows("t")} == {None, "x"}
    assert changes(database, second)["t"].change == "keep"


def test_freeze_refuses_a_new_column_before_anything_is_done(database: Database, tmp_path: Path) -> None:
    database.sink().publish(load(tmp_path, OLD, A))
    before = state(database)
    second = load(tmp_path / "second", NEW, policy="freeze")
    for step in (database.sink().preflight, database.sink().publish):
        with pytest.raises(
            LoadError, match=r"does not fit(.|\n)*table t(.|\n)*note is not in the table, and it is fro"
        ):
            step(second)
    assert state(database) == before
    only_this = load(tmp_path / "third", NEW, policy="freeze", note="evolve")
    database.sink().publish(only_this)
    assert columns(database) == ["id", "n", "note"]


@pytest.mark.parametrize("strategy", ["replace", "upsert", "merge"])
def test_ignore_leaves_a_new_column_out(strategy: Strategy, database: Database, tmp_path: Path) -> None:
    database.sink().publish(load(tmp_path, OLD, A))
    more = pa.concat_tables([NEW, pa.table({"id": ["c"], "n": pa.array([3], pa.int64()), "note": ["y"]})])
    second = load(tmp_path / "second", more, B, strategy, note="ignore")
    assert changes(database, second)["t"].notes == ("column note is not in the table: left out",)
    receipt = database.sink().publish(second)
    assert receipt.rows == {"t": 3}
    assert columns(database) == ["id", "n"]
    assert [row["id"] for row in database.rows("t")] == ["a", "b", "c"]


@pytest.mark.parametrize("strategy", ["replace", "append", "upsert"])
def test_quarantine_keeps_rows_with_a_value_in_a_new_column(
    strategy: Strategy, database: Database, tmp_path: Path
) -> None:
    database.sink().publish(load(tmp_path, OLD.slice(0, 0), A))
    doubled = pa.concat_tables([NEW, NEW.slice(1), NEW.slice(0, 1)])
    second = replace(
        load(tmp_path / "second", doubled, B, strategy, policy="quarantine"), options=LoadOptions(duplicates="first")
    )
    receipt = database.sink().publish(second)
    assert receipt.changes == {"t": Changes(inserted=1, rejected=2, duplicates=1)}
    assert [row["id"] for row in database.rows("t")] == ["a"]
    assert columns(database) == ["id", "n"]
    found = {rejected.reason: rejected for rejected in receipt.rejected}
    kept = found["column_drift"]
    assert (kept.rows, kept.samples) == (2, ({"id": "b", "n": 2, "note": "x"},) * 2)
    assert kept.file is not None
    assert pq.read_table(kept.file).select(["_reason", "_row", "note"]).to_pylist() == [
        {"_reason": "column_drift", "_row": 2, "note": "x"},
        {"_reason": "column_drift", "_row": 3, "note": "x"},
    ]
    assert database.query("SELECT rows_rejected FROM _daskae_loads ORDER BY sequence")[-1] == (2,)
    assert database.sink().publish(second).already_published


@pytest.mark.parametrize("policy", POLICIES)
def test_a_column_that_vanished_stays_with_its_rows(policy: DriftPolicy, database: Database, tmp_path: Path) -> None:
    database.sink().publish(load(tmp_path, NEW, A))
    second = load(tmp_path / "second", OLD.slice(0, 1), B, "upsert", policy=policy)
    if policy == "freeze":
        with pytest.raises(LoadError, match="column note is not in the result, and it is frozen"):
            database.sink().preflight(second)
        second = load(tmp_path / "second", OLD.slice(0, 1), B, "upsert", policy=policy, note="ignore")
    (note,) = changes(database, second)["t"].notes
    assert note == "column note is not in the result: new rows have none or its default"
    database.sink().publish(second)
    assert [row["note"] for row in database.rows("t")] == [None, "x"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_column_that_must_have_a_value_and_gets_none_is_refused(
    policy: DriftPolicy, database: Database, tmp_path: Path
) -> None:
    database.run("CREATE TABLE t (id TEXT, n BIGINT, must TEXT NOT NULL)")
    with pytest.raises(LoadError, match="column must is NOT NULL without a default"):
        database.sink().preflight(load(tmp_path, OLD, policy=policy))


@pytest.mark.parametrize("policy", ["ignore", "quarantine"])
def test_a_key_is_never_left_out(policy: DriftPolicy, database: Database, tmp_path: Path) -> None:
    database.run("CREATE TABLE t (n BIGINT)")
    with pytest.raises(LoadError, match="column id is not in the table, and a key cannot be left out"):
        database.sink().preflight(load(tmp_path, OLD, policy=policy))


@pytest.mark.parametrize("options", [{"update_columns": ("note",)}, {"only_if_newer": "note"}])
def test_a_column_that_an_option_needs_is_never_left_out(
    options: dict[str, Any], database: Database, tmp_path: Path
) -> None:
    database.sink().publish(load(tmp_path, OLD, A))
    second = replace(load(tmp_path / "2", NEW, B, "upsert", policy="ignore"), options=LoadOptions(**options))
    with pytest.raises(LoadError, match="update_columns or only_if_newer need it"):
        database.sink().preflight(second)


WIDENINGS: dict[str, tuple[str, str, pa.Array, Any, Any]] = {
    "whole to decimal": ("BIGINT", "7", pa.array([Decimal("2.5")], MONEY), Decimal(7), Decimal("2.5")),
    "whole to float": ("BIGINT", str(2**47 - 1), pa.array([0.5]), Decimal(2**47 - 1), Decimal("0.5")),
    "day to time": (
        "DATE",
        "'2011-12-01'",
        pa.array([datetime(2012, 1, 1, 8, 30)], pa.timestamp("us")),
        "2011-12-01 00:00:00",
        "2012-01-01 08:30:00",
    ),
    "short to long text": ("VARCHAR(3)", "'abc'", pa.array(["abcdef"]), "abc", "abcdef"),
    "few to many digits": (
        "NUMERIC(6, 2)",
        "1234.56",
        pa.array([Decimal("99999.1234")], MONEY),
        Decimal("1234.56"),
        Decimal("99999.1234"),
    ),
}


@pytest.mark.parametrize("name", WIDENINGS)
@pytest.mark.parametrize("strategy", ["append", pytest.param("upsert", marks=pytest.mark.slow)])
def test_evolve_widens_a_type_in_place(name: str, strategy: Strategy, database: Database, tmp_path: Path) -> None:
    kind, literal, value, old, new = WIDENINGS[name]
    database.run(
        f"CREATE TABLE t (id TEXT, x {kind}, _load_id TEXT, _loaded_at TIMESTAMP, _source_rows BIGINT)",
        f"INSERT INTO t VALUES ('old', {literal}, 'mine', NULL, 1)",
        "CREATE INDEX by_x ON t (x)",
        "CREATE VIEW others AS SELECT id FROM t",
    )
    second = load(tmp_path, pa.table({"id": ["new"], "x": value}), B, strategy)
    planned = changes(database, second)["t"]
    before = state(database)
    assert database.sink().preflight(second) is None
    assert state(database) == before
    database.sink().publish(second)
    assert {row["id"]: row["x"] for row in database.rows("t")} == {"old": old, "new": new}
    assert len(database.query("SELECT * FROM others")) == 2
    assert changes(database, second)["t"].change == "keep"
    if database.name == "postgresql" or name in ("whole to decimal", "whole to float", "day to time"):
        assert any("becomes" in note for note in planned.notes)
        refusing = load(tmp_path / "2", pa.table({"id": ["new"], "x": value}), C, strategy, policy="freeze")
        assert database.sink().preflight(refusing) is None
    if database.name == "sqlite":
        assert database.query("PRAGMA integrity_check") == [("ok",)]
        assert database.query("SELECT count(*) FROM t INDEXED BY by_x WHERE x >= 0") == [(2,)]


def test_a_widened_type_is_seen_by_connections_that_are_open(database: Database, tmp_path: Path) -> None:
    database.sink().publish(load(tmp_path, OLD, A))
    wider = pa.table({"id": ["c"], "n": pa.array([Decimal("0.5")], MONEY)})
    with database.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar_one() == 2
        database.sink().publish(load(tmp_path / "2", wider, B, "append"))
        kind = (
            "pg_typeof(n)::text"
            if database.name == "postgresql"
            else "(SELECT type FROM pragma_table_info('t') WHERE name = 'n')"
        )
        assert connection.exec_driver_sql(f"SELECT DISTINCT lower({kind}) FROM t").all() == [("numeric",)]
        assert connection.exec_driver_sql("SELECT sum(n) FROM t").scalar_one() == 3.5


def test_a_widening_that_is_not_published_leaves_no_trace(database: Database, tmp_path: Path) -> None:
    database.sink().publish(load(tmp_path, OLD, A))
    before = state(database)[0]
    bad = pa.table({"id": ["c", "c"], "n": pa.array([Decimal("0.5")] * 2, MONEY), "more": [1, 2]})
    with pytest.raises(LoadError, match="more than once"):
        database.sink().publish(load(tmp_path / "2", bad, B, "append"))
    assert state(database)[0] == before


UNSAFE: dict[str, tuple[str, pa.Array]] = {
    "text to number": ("TEXT", pa.array([1], pa.int64())),
    "number to text": ("BIGINT", pa.array(["x"])),
    "float to decimal": ("DOUBLE PRECISION", pa.array([Decimal(1)], MONEY)),
    "boolean to number": ("BOOLEAN", pa.array([1], pa.int64())),
    "time to day": ("TIMESTAMP", pa.array([date(2011, 12, 1)])),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_change_of_type_is_refused_beforehand(name: str, database: Database, tmp_path: Path) -> None:
    kind, value = UNSAFE[name]
    database.run(f"CREATE TABLE t (id TEXT, x {kind})")
    table = pa.table({"id": ["a"], "x": value})
    for policy in ("evolve", "freeze"):
        with pytest.raises(LoadError, match=rf"column x is (?i:{kind})[\w ]*, not"):
            database.sink().preflight(load(tmp_path / policy, table, policy=policy))
    database.sink().publish(load(tmp_path, table, x="ignore"))
    assert database.query("SELECT id, x FROM t") == [("a", None)]
    receipt = database.sink().publish(load(tmp_path / "q", table, C, x="quarantine"))
    assert receipt.changes["t"].rejected == 1


def test_whole_numbers_that_a_float_would_change_are_not_widened(database: Database, tmp_path: Path) -> None:
    database.run(f"CREATE TABLE t ({MEDIUM})", f"INSERT INTO t VALUES ('a', {2**53 + 1}, 'mine', NULL, 1)")
    with pytest.raises(LoadError, match=r"column n is (?i:bigint), not .*it holds whole numbers beyond"):
        database.sink().preflight(load(tmp_path, pa.table({"id": ["b"], "n": [0.5]}), strategy="append"))


@pytest.mark.parametrize(
    ("ddl", "obstacle"),
    [
        ("CREATE VIEW best AS SELECT id FROM t WHERE n > 1", "view best"),
        ("CREATE MATERIALIZED VIEW best AS SELECT n FROM t", "view best"),
        ("CREATE TABLE child (n BIGINT REFERENCES t (n))", "constraint child_n_fkey"),
        ("CREATE TRIGGER x BEFORE UPDATE OF n ON t EXECUTE FUNCTION suppress_redundant_updates_trigger()", "trigger x"),
        ("ALTER TABLE t ADD COLUMN twice BIGINT GENERATED ALWAYS AS (n * 2) STORED", "column twice"),
    ],
)  # fmt: skip
def test_what_depends_on_a_type_is_named_beforehand(
    ddl: str, obstacle: str, postgresql: Database, tmp_path: Path
) -> None:
    postgresql.run(f"CREATE TABLE t ({MEDIUM}, UNIQUE (n))", ddl)
    wider = pa.table({"id": ["c"], "n": pa.array([Decimal("0.5")], MONEY)})
    with pytest.raises(LoadError, match=f"column n is bigint, not(.|\n)*these depend on its type: .*{obstacle}"):
        postgresql.sink().preflight(load(tmp_path, wider))


def test_a_table_of_another_role_is_not_altered(postgresql: Database, tmp_path: Path) -> None:
    role = postgresql.url.rpartition("=")[2]
    postgresql.run(
        f"CREATE TABLE t ({MEDIUM})", f"CREATE ROLE {role} LOGIN PASSWORD 'sesame'",
        f"GRANT ALL ON SCHEMA {role} TO {role}", f"GRANT ALL ON t TO {role}",
    )  # fmt: skip
    mine = replace(postgresql, url=postgresql.url.replace("//daskae:", f"//{role}:"))
    try:
        with pytest.raises(LoadError, match="column note is added; but it belongs to another role"):
            mine.sink().preflight(load(tmp_path, NEW))
    finally:
        postgresql.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("ddl", "obstacle"),
    [
        ("CREATE TABLE t (id TEXT, x INTEGER PRIMARY KEY)", "it is a primary key"),
        ("CREATE TABLE t (id TEXT, x INTEGER /* , x INTEGER */)", "cannot be found in the text"),
        ("CREATE TABLE t (id TEXT, x INTEGER) STRICT", "it is a STRICT table"),
    ],
)
def test_what_sqlite_cannot_change_is_refused_beforehand(
    ddl: str, obstacle: str, sqlite: Database, tmp_path: Path
) -> None:
    sqlite.run(ddl)
    with pytest.raises(LoadError, match=obstacle):
        sqlite.sink().preflight(load(tmp_path, pa.table({"id": ["a"], "x": pa.array([Decimal(1)], MONEY)})))


def test_days_get_no_time_where_a_trigger_watches(sqlite: Database, tmp_path: Path) -> None:
    sqlite.run("CREATE TABLE t (id TEXT, x DATE)", "CREATE TRIGGER look AFTER UPDATE ON t BEGIN SELECT 1; END")
    with pytest.raises(LoadError, match="a trigger would run on every row"):
        sqlite.sink().preflight(load(tmp_path, pa.table({"id": ["a"], "x": pa.array([datetime(2012, 1, 1)])})))


def test_columns_that_hold_more_than_the_result_stay_as_they_are(database: Database, tmp_path: Path) -> None:
    database.run("CREATE TABLE t (id VARCHAR, x NUMERIC, d DECIMAL(40, 6))")
    table = pa.table({"id": ["a"], "x": pa.array([2**60], pa.int64()), "d": pa.array([Decimal("0.25")], MONEY)})
    database.sink().publish(load(tmp_path, table, policy="freeze", x="evolve"))
    assert database.rows("t") == [{"id": "a", "x": Decimal(2**60).normalize(), "d": Decimal("0.25")}]


@pytest.mark.parametrize(
    ("found", "wanted", "wider"),
    [
        ("smallint", "BIGINT", "BIGINT"), ("integer", "NUMERIC(38, 4)", "NUMERIC(38, 4)"),
        ("numeric(5,-2)", "BIGINT", "NUMERIC(19, 0)"),
        ("numeric(20,6)", "NUMERIC(38, 4)", "NUMERIC(40, 6)"), ("numeric(10,2)", "BIGINT", "NUMERIC(21, 2)"),
        ("bigint", "NUMERIC(38, 30)", "NUMERIC(49, 30)"), ("real", "DOUBLE PRECISION", "DOUBLE PRECISION"),
        ("text", "DOUBLE PRECISION", None), ("numeric(1000,2)", "NUMERIC(38, 4)", None), ("date", "TEXT", None),
        ("character(3)", "TEXT", None), ("timestamp with time zone", "TIMESTAMP WITHOUT TIME ZONE", None),
        ("timestamp(3) without time zone", "TIMESTAMP WITHOUT TIME ZONE", "TIMESTAMP WITHOUT TIME ZONE"),
    ],
)  # fmt: skip
def test_the_wider_type_holds_both(found: str, wanted: str, wider: str | None) -> None:
    assert not accepts(found, wanted)
    assert wider_type(found, wanted) == wider
    if wider is not None:
        plain = wider.lower().replace(", ", ",")
        assert accepts(plain, wanted)
        assert plain == "bigint" or "numeric" not in found or accepts(plain, found)


def test_policies_that_change_what_is_loaded_are_part_of_its_identity() -> None:
    assert Drift("freeze", {"x": "evolve"}).identity() == ()
    assert Drift("freeze", {"x": "ignore"}).identity() == ("ignore x",)
    assert Drift("quarantine").identity() != Drift("ignore").identity()
    assert Drift("evolve", {"ÀB": "freeze"}).policy("Àb", str.lower) == "freeze"


@pytest.mark.parametrize("point", ["deleted:1", "uncommitted", "committed"])
def test_a_kill_while_tables_are_altered_leaves_old_or_new(point: str, database: Database, tmp_path: Path) -> None:
    first = pa.table({"id": ["a"], "n": pa.array([1], pa.int64()), "d": [date(2011, 12, 1)]})
    cells = {"n": pa.array([Decimal("0.5")], MONEY), "d": [datetime(2012, 1, 1, 8)]}
    wider = pa.table({"id": ["b"], "more": ["x"], **cells})
    database.sink().publish(load(tmp_path, first, A))
    before = state(database)
    second = load(tmp_path / "2", wider, B, "append")
    publish_killed_at(database.url, second, f"{database.name}.{point}")
    if point != "committed":
        kept = {name: rows for name, rows in state(database)[1].items() if not name.startswith("_daskae_stage_")}
        assert kept == before[1]
    assert database.sink().publish(second).already_published == (point == "committed")
    assert [(row["id"], row["n"], row["d"], row["more"]) for row in database.rows("t")] == [
        ("a", 1, "2011-12-01 00:00:00", None),
        ("b", Decimal("0.5"), "2012-01-01 08:00:00", "x"),
    ]
    assert changes(database, second)["t"].change == "keep"
