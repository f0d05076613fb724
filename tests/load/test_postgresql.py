"""What is particular to PostgreSQL: types, names, schemas, rights, errors and secrets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskae.errors import DaskaeError, LoadError, SettingsError, TargetBusyError
from daskae.load.base import Changes, LoadOptions
from daskae.load.targets import open_sink

from .building import A, B, build_load, one_table, shop
from .databases import Database, schema_of_its_own

EVERYTHING = pa.table(
    {
        "text": pa.array(["", None, 'a "quoted", one\r\n\\. line\\', "\\N", "😀ä\u2028"]),
        "words": pa.array(["x", None, "x", "y", ""]).dictionary_encode(),
        "small": pa.array([1, None, -128, 127, 0], pa.int8()),
        "whole": pa.array([-(2**63), None, 2**63 - 1, 0, 1], pa.int64()),
        "unsigned": pa.array([2**64 - 1, None, 0, 1, 2], pa.uint64()),
        "yes": pa.array([True, None, False, True, False]),
        "x": pa.array([0.1, None, float("nan"), float("-inf"), 5e-324]),
        "day": pa.array([date(1, 1, 1), None, date(9999, 12, 31), date(2011, 12, 1), date(1900, 2, 28)]),
        "at": pa.array([datetime(1, 1, 1), None, datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(2011, 12, 1),
            datetime(1969, 12, 31, 23, 59, 59, 1)], pa.timestamp("us")),
        "money": pa.array([Decimal("1E-10"), None, Decimal("-1000000000.5"), Decimal(0), Decimal(10) ** 27],
            pa.decimal128(38, 10)),
    }
)  # fmt: skip


def test_every_value_comes_back_as_it_was(postgresql: Database, tmp_path: Path) -> None:
    postgresql.sink().publish(one_table(tmp_path, EVERYTHING))
    names = ", ".join(EVERYTHING.column_names)
    found = postgresql.query(f"SELECT {names} FROM t")
    expected = [tuple(row.values()) for row in EVERYTHING.to_pylist()]
    assert [tuple(map(_same, row)) for row in found] == [tuple(map(_same, row)) for row in expected]
    types = dict(
        postgresql.query(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass"
            " AND attnum > 0"
        )
    )
    assert types == {
        "text": "text", "words": "text", "small": "bigint", "whole": "bigint", "unsigned": "numeric(20,0)",
        "yes": "boolean", "x": "double precision", "day": "date", "at": "timestamp without time zone",
        "money": "numeric(38,10)", "_load_id": "text", "_loaded_at": "timestamp without time zone",
        "_source_rows": "bigint",
    }  # fmt: skip


def _same(value: object) -> object:
    """NaN equals itself here."""
    return repr(value) if isinstance(value, float) else value


@given(
    scale=st.integers(0, 38),
    units=st.lists(st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(0, 40).map(lambda n: 10**9 * n), min_size=1),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_38_digits_come_back(scale: int, units: list[int], postgresql_url: str, tmp_path: Path) -> None:
    values = [Decimal(f"{number}E-{scale}") for number in units]
    with schema_of_its_own(postgresql_url, "digits") as database:
        table = pa.table({"x": pa.array(values, pa.decimal128(38, scale))})
        database.sink().publish(one_table(tmp_path, table))
        assert [row[0] for row in database.query("SELECT x FROM t")] == values


def test_a_nul_is_named_by_column_and_row(postgresql: Database, tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b", "c"], "note": ["x", None, "with \0 in it"]})
    with pytest.raises(LoadError, match=r"holds a NUL(.|\n)*table t, column note, row 3(.|\n)*with"):
        postgresql.sink().publish(one_table(tmp_path, table, ("id",)))
    assert postgresql.names() == set()


@pytest.mark.parametrize(("rule", "kept"), [("first", 0), ("last", 1)])
def test_two_streams_keep_the_order_of_the_batch(rule: str, kept: int, postgresql: Database, tmp_path: Path) -> None:
    keys = 40_000
    ids = [*range(keys), *range(keys), None]
    table = pa.table({"id": pa.array(ids, pa.int64()), "turn": pa.array([0] * keys + [1] * keys + [9], pa.int64())})
    load = one_table(tmp_path, table, ("id",))
    receipt = postgresql.sink().publish(replace(load, options=LoadOptions(duplicates=rule), rejects=tmp_path / "left"))
    assert receipt.changes == {"t": Changes(inserted=keys, rejected=1, duplicates=keys)}
    assert postgresql.query("SELECT count(*), min(turn), max(turn) FROM t") == [(keys, kept, kept)]
    losers = next(found.file for found in receipt.rejected if found.reason == "duplicate_key")
    assert losers is not None
    assert set(pq.read_table(losers)["turn"].to_pylist()) == {1 - kept}


def test_a_nul_in_a_large_table_is_named_too(postgresql: Database, tmp_path: Path) -> None:
    table = pa.table({"note": ["x"] * 69_999 + ["\0"]})
    with pytest.raises(LoadError, match=r"holds a NUL(.|\n)*row 70000"):
        postgresql.sink().publish(one_table(tmp_path, table))
    assert postgresql.names() == set()


@pytest.mark.parametrize(
    "name",
    [
        '"; DROP TABLE kpis; --',
        "Ünïcode 表 😀",
        "a.b",
        "%(x)s %s %%",
        ":name \\:x",
        "select",
        "UPPER",
        "x" * 63,
        "' OR 1=1",
    ],
)
def test_hostile_names_do_no_harm(name: str, database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    if database.name == "mariadb":  # its names have no emoji
        name = name.replace("😀", "☺")
    table = pa.table({name: ["a", "b"], "n": pa.array([1, 2], pa.int64())})
    changed = pa.table({name: ["b", "c"], "n": pa.array([3, 4], pa.int64())})
    sink.publish(build_load(tmp_path, B, {name: ((name,), table)}, "append"))
    load = build_load(tmp_path / "changed", "d" * 64, {name: ((name,), changed)}, "upsert")
    assert sink.preflight(load) is None
    assert sink.publish(load).changes[name].updated == 1
    assert database.rows(name) == [{name: "a", "n": 1}, {name: "b", "n": 3}, {name: "c", "n": 4}]
    assert len(database.rows("kpis")) == 1
    assert sink.publish(load).already_published


@pytest.mark.parametrize("name", ["x" * 64, "ä" * 32])
def test_names_that_the_server_would_cut_are_refused(name: str, postgresql: Database, tmp_path: Path) -> None:
    for tables in ({name: ((), pa.table({"n": [1]}))}, {"t": ((), pa.table({name: [1]}))}):
        with pytest.raises(LoadError, match=r"too long for PostgreSQL(.|\n)*64 bytes(.|\n)*63 bytes"):
            postgresql.sink().preflight(build_load(tmp_path, A, tables))


def test_the_schema_may_come_from_the_search_path(postgresql: Database, tmp_path: Path) -> None:
    url = postgresql.plain_url.replace("+psycopg", "")
    open_sink(url).publish(build_load(tmp_path, A, shop("north")))
    assert len(postgresql.rows("customer_metrics")) == 3


def test_a_missing_schema_is_named(postgresql: Database, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"no such schema(.|\n)*not_there"):
        open_sink(postgresql.url.rpartition("=")[0] + "=not_there").preflight(build_load(tmp_path, A, shop("north")))


def test_what_others_hung_on_a_table_survives_a_replace(postgresql: Database, tmp_path: Path) -> None:
    sink = postgresql.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    postgresql.run(
        "CREATE VIEW best AS SELECT * FROM customer_metrics WHERE spent > 0",
        "CREATE INDEX by_shop ON customer_metrics (shop)",
        "GRANT SELECT ON customer_metrics TO PUBLIC",
        "ALTER TABLE customer_metrics ADD COLUMN note TEXT",
        "ALTER TABLE customer_metrics ADD CHECK (spent >= 0)",
    )
    objects = (
        "SELECT relname, relkind::text, relacl::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " AND relname !~ '^_daskae|toast' ORDER BY 1"
    )
    before = postgresql.query(objects)
    sink.publish(build_load(tmp_path, B, shop("south", 5)))
    assert postgresql.query(objects) == before
    assert postgresql.query("SELECT count(*), min(shop) FROM best") == [(4, "south")]
    assert postgresql.query("SELECT count(*) FROM pg_constraint WHERE conrelid = 'customer_metrics'::regclass"
        " AND contype = 'c'") == [(1,)]  # fmt: skip


@pytest.mark.parametrize(
    ("ddl", "difference"),
    [
        ("CREATE TABLE t (id INTEGER)", "column id is integer, not TEXT"),
        ("CREATE TABLE t (id TEXT, money FLOAT)", r"column money is double precision, not NUMERIC\(38, 4\)"),
        ("CREATE TABLE t (id TEXT, must INTEGER NOT NULL)", "column must is NOT NULL without a default"),
        (
            "CREATE TABLE t (raw TEXT, id TEXT GENERATED ALWAYS AS (upper(raw)) STORED)",
            "id is computed by the database",
        ),
        ("CREATE TABLE t (id TEXT); INSERT INTO t VALUES ('mine')", "rows that daskae did not put there"),
        ("CREATE VIEW t AS SELECT 1 AS id", "belongs to a view"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_beforehand(
    ddl: str, difference: str, postgresql: Database, tmp_path: Path
) -> None:
    postgresql.run(*ddl.split("; "))
    table = pa.table({"id": ["x"], "money": pa.array([Decimal(1)], pa.decimal128(38, 4))})
    load = one_table(tmp_path, table, ("id",))
    for step in (postgresql.sink().preflight, postgresql.sink().publish):
        with pytest.raises(LoadError, match=difference):
            step(load)


def test_a_table_of_the_user_is_adopted_and_extended(postgresql: Database, tmp_path: Path) -> None:
    postgresql.run("CREATE TABLE t (id CHARACTER VARYING, row BIGINT GENERATED BY DEFAULT AS IDENTITY, money NUMERIC)")
    table = pa.table({"id": ["x"], "money": pa.array([Decimal("1.5")], pa.decimal128(38, 4)), "new": [True]})
    postgresql.sink().publish(one_table(tmp_path, table, ("id",)))
    assert postgresql.query("SELECT id, row, money, new FROM t") == [("x", 1, Decimal("1.5000"), True)]


@pytest.mark.parametrize("strategy", ["replace", "append", "upsert"])
def test_a_rule_of_the_database_can_refuse_the_rows(strategy: Any, database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    sink.publish(build_load(tmp_path, A, shop("north", 1)))
    database.run("CREATE UNIQUE INDEX one_row_a_shop ON customer_metrics (shop)")
    with pytest.raises(LoadError, match="a rule of the database refuses the rows"):
        sink.publish(build_load(tmp_path, B, shop("south"), strategy))
    assert {row["shop"] for row in database.rows("customer_metrics")} == {"north"}
    assert [row[3] for row in database.ledger()] == ["published", "failed"]


def test_rows_swallowed_by_a_trigger_are_noticed(postgresql: Database, tmp_path: Path) -> None:
    sink = postgresql.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    postgresql.run(
        "CREATE FUNCTION eat() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF new.customer_id = 'C1' THEN RETURN NULL; END IF; RETURN new; END $$",
        "CREATE TRIGGER eat BEFORE INSERT ON customer_metrics FOR EACH ROW EXECUTE FUNCTION eat()",
    )
    with pytest.raises(LoadError, match="2 rows arrived"):
        sink.publish(build_load(tmp_path, B, shop("south")))
    postgresql.run(
        "CREATE OR REPLACE FUNCTION eat() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " new.customer_id := 'x' || new.customer_id; RETURN new; END $$"
    )
    with pytest.raises(LoadError, match="3 keys did not arrive"):
        sink.publish(build_load(tmp_path, B, shop("south")))
    assert {row["shop"] for row in postgresql.rows("customer_metrics")} == {"north"}


@contextmanager
def role(postgresql: Database, *grants: str) -> Iterator[Database]:
    """Look at a database with the eyes of a user who has only these rights."""
    name = postgresql.url.rpartition("=")[2]
    postgresql.run(f"CREATE ROLE {name} LOGIN PASSWORD 'sesame'", f"GRANT USAGE ON SCHEMA {name} TO {name}")
    postgresql.run(*(f"GRANT {grant} TO {name}" for grant in grants))
    url = sa.make_url(postgresql.url).set(username=name).render_as_string(hide_password=False)
    try:
        yield replace(postgresql, url=url)
    finally:
        postgresql.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_rights_that_are_missing_are_named(postgresql: Database, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    with role(postgresql) as user:
        with pytest.raises(LoadError, match=r"has not the right(.|\n)*no CREATE on schema"):
            user.sink().preflight(load)
        with pytest.raises(LoadError, match=r"has not the right(.|\n)*permission denied") as caught:
            user.sink().publish(load)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("strategy", "rights", "missing"),
    [
        ("replace", "SELECT, INSERT", "no DELETE on table customer_metrics"),
        ("upsert", "SELECT", "no INSERT, UPDATE on table customer_metrics"),
        ("replace", "SELECT, INSERT, DELETE", ""),
        ("upsert", "SELECT, INSERT, UPDATE", ""),
        ("merge", "SELECT, INSERT, UPDATE", ""),
    ],
)
def test_rights_on_tables_are_looked_at_before_the_run(
    strategy: Any, rights: str, missing: str, postgresql: Database, tmp_path: Path
) -> None:
    """And those that are asked for are enough."""
    postgresql.sink().publish(build_load(tmp_path, A, shop("north")))
    second = build_load(tmp_path / "second", B, shop("south"), strategy)
    schema = postgresql.url.rpartition("=")[2]
    tables = [f"{rights} ON {name}" for name in ("customer_metrics", "kpis")]
    with role(postgresql, f"CREATE ON SCHEMA {schema}", "SELECT, INSERT, UPDATE ON _daskae_loads", *tables) as user:
        if missing:
            with pytest.raises(LoadError, match=rf"has not the right(.|\n)*{missing}"):
                user.sink().preflight(second)
        else:
            assert user.sink().preflight(second) is None
            assert user.sink().publish(second).rows == {"customer_metrics": 3, "kpis": 1}


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    with pytest.raises(LoadError, match=r"cannot be reached(.|\n)*user:\*\*\*@127\.0\.0\.1(.|\n)*next:") as caught:
        open_sink("postgresql://user:sesame@127.0.0.1:1/db", timeout=1).preflight(load)
    assert not isinstance(caught.value, TargetBusyError)
    assert _mentions(caught.value, "sesame") == []


def test_a_database_that_is_not_there_is_named(postgresql: Database, tmp_path: Path) -> None:
    url = sa.make_url(postgresql.url).set(database="not_there").render_as_string(hide_password=False)
    with pytest.raises(LoadError, match=r"no such database(.|\n)*not_there"):
        open_sink(url).preflight(build_load(tmp_path, A, shop("north")))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql+asyncpg://user:sesame@host/db", "no other driver than psycopg"),
        ("postgresql://user:sesame@host:port/db", "cannot be read"),
        ("postgres+psycopg2://user:sesame@host/db", "no other driver"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_secrets(url: str, text: str) -> None:
    with pytest.raises(SettingsError, match=text) as caught:
        open_sink(url)
    assert _mentions(caught.value, "sesame") == []


def _mentions(error: BaseException | None, secret: str) -> list[str]:
    """All texts of an error and of what it was raised from that hold a secret."""
    found = []
    while error is not None:
        texts = [str(error), *(map(str, vars(error).values()) if isinstance(error, DaskaeError) else ())]
        found += [text for text in texts if secret in text]
        error = error.__cause__
    return found


def test_an_append_into_a_replaced_table_changes_the_index(postgresql: Database, tmp_path: Path) -> None:
    sink = postgresql.sink()

    def index() -> list[str]:
        names = postgresql.query("SELECT indexdef FROM pg_indexes WHERE indexname = '_daskae_key_customer_metrics'")
        return [name.rpartition("(")[2] for (name,) in names]

    sink.publish(build_load(tmp_path, A, shop("north")))
    assert index() == ["customer_id)"]
    sink.publish(build_load(tmp_path, B, shop("south"), "append"))
    assert index() == ["customer_id, _load_id)"]
    sink.publish(build_load(tmp_path, A, shop("north")))
    assert index() == ["customer_id)"]


def test_the_driver_can_read_what_was_written(postgresql: Database, tmp_path: Path) -> None:
    postgresql.sink().publish(build_load(tmp_path, A, shop("north")))
    with psycopg.connect(postgresql.plain_url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT sum(spent) FROM customer_metrics").fetchall() == [(Decimal("0.7500"),)]
