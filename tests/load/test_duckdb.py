"""What is particular to DuckDB: types, one process at a time, and what its transactions refuse."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskae.errors import LoadError, TargetBusyError
from daskae.load.base import TableParts
from daskae.load.sql.dialect import POSITION
from daskae.load.sql.duckdb.copying import copy_rows
from daskae.load.targets import open_sink
from daskae.load.transactions import open_transaction

from .building import A, B, build_load, one_table, shop
from .databases import Database

EVERYTHING = pa.table(
    {
        "text": pa.array(["", None, 'a "quoted", one\r\n', "\\N", "😀ä \0"]),
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


def test_every_value_comes_back_as_it_was(duckdb: Database, tmp_path: Path) -> None:
    duckdb.sink().publish(one_table(tmp_path, EVERYTHING))
    names = ", ".join(f'"{name}"' for name in EVERYTHING.column_names)
    unsigned = EVERYTHING["unsigned"].cast(pa.decimal128(20, 0))
    expected = [tuple(row.values()) for row in EVERYTHING.set_column(4, "unsigned", unsigned).to_pylist()]
    assert sorted(map(repr, duckdb.query(f"SELECT {names} FROM t"))) == sorted(map(repr, expected))
    types = dict(duckdb.query("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 't'"))
    assert types == {
        "text": "VARCHAR", "words": "VARCHAR", "small": "BIGINT", "whole": "BIGINT", "unsigned": "DECIMAL(20,0)",
        "yes": "BOOLEAN", "x": "DOUBLE", "day": "DATE", "at": "TIMESTAMP", "money": "DECIMAL(38,10)",
        "_load_id": "VARCHAR", "_loaded_at": "TIMESTAMP", "_source_rows": "BIGINT",
    }  # fmt: skip


@given(
    scale=st.integers(0, 38),
    units=st.lists(st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(0, 40).map(lambda n: 10**9 * n), min_size=1),
)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_38_digits_come_back(scale: int, units: list[int], tmp_path: Path) -> None:
    values = [Decimal(f"{number}E-{scale}") for number in units]
    url = f"duckdb:///{tmp_path / 'digits.db'}"
    database = Database("duckdb", url, url)
    load = one_table(tmp_path, pa.table({"x": pa.array(values, pa.decimal128(38, scale))}))
    database.sink().publish(load)
    assert sorted(row[0] for row in database.query("SELECT x FROM t")) == sorted(values)
    (tmp_path / "digits.db").unlink()


OPEN = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_a_process_that_has_the_file_open_is_waited_for(duckdb: Database, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    duckdb.sink().publish(load)
    child = subprocess.Popen(
        [sys.executable, "-c", OPEN, duckdb.url.removeprefix("duckdb:///")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        for step in (duckdb.sink(timeout=0.1).preflight, duckdb.sink(timeout=0.1).publish):
            with pytest.raises(TargetBusyError, match=r"has the database open; waited 0\.1 s(.|\n)*PID"):
                step(load)
        child.stdin.close()
        assert duckdb.sink().publish(load).already_published


def test_a_change_of_the_same_rows_in_this_process_is_a_conflict(duckdb: Database, tmp_path: Path) -> None:
    duckdb.sink().publish(build_load(tmp_path, A, shop("north")))
    with duckdb.connect() as other:
        other.exec_driver_sql("BEGIN")
        other.exec_driver_sql("UPDATE customer_metrics SET shop = 'mine'")
        with pytest.raises(TargetBusyError, match="another connection changed the same rows"):
            duckdb.sink().publish(build_load(tmp_path, B, shop("south"), "upsert"))
        other.exec_driver_sql("ROLLBACK")
    assert {row["shop"] for row in duckdb.rows("customer_metrics")} == {"north"}


def test_keys_that_share_a_row_are_found_without_an_index(duckdb: Database, tmp_path: Path) -> None:
    twice = pa.table({"id": ["a", "b", "a"]})
    with pytest.raises(LoadError, match=r"more than once(.|\n)*\(a\)"):
        duckdb.sink().publish(one_table(tmp_path, twice, ("id",)))
    assert duckdb.names() == set()
    assert duckdb.query("SELECT count(*) FROM duckdb_indexes()") == [(0,)]


def test_a_table_of_several_row_groups_is_replaced(duckdb: Database, tmp_path: Path) -> None:
    for load_id, name in ((A, "north"), (B, "south")):
        receipt = duckdb.sink().publish(build_load(tmp_path, load_id, shop(name, 250_000)))
    assert receipt.changes["customer_metrics"].deleted == 250_000
    assert duckdb.query("SELECT shop, count(*), sum(spent) FROM customer_metrics GROUP BY 1") == [
        ("south", 250_000, Decimal(249_999 * 250_000) / 8)
    ]


def test_what_others_hung_on_a_table_survives_a_replace(duckdb: Database, tmp_path: Path) -> None:
    duckdb.sink().publish(build_load(tmp_path, A, shop("north")))
    duckdb.run("CREATE VIEW best AS SELECT * FROM customer_metrics WHERE spent > 0",
        "CREATE INDEX by_shop ON customer_metrics (shop)")  # fmt: skip
    duckdb.sink().publish(build_load(tmp_path, B, shop("south", 5)))
    assert duckdb.query("SELECT count(*), min(shop) FROM best") == [(4, "south")]
    assert duckdb.query("SELECT count(*) FROM duckdb_indexes() WHERE index_name = 'by_shop'") == [(1,)]


@pytest.mark.parametrize(
    ("ddl", "difference"),
    [
        ("CREATE TABLE t (ID INTEGER)", "column id is INTEGER, not VARCHAR"),
        ("CREATE TABLE t (money DOUBLE)", r"column money is DOUBLE, not DECIMAL\(38,4\)"),
        ("CREATE TABLE t (must INTEGER NOT NULL)", "column must is NOT NULL without a default"),
        ("CREATE TABLE t (raw VARCHAR, id VARCHAR AS (upper(raw)))", "column id is computed by the database"),
        ("CREATE TABLE t (id VARCHAR); INSERT INTO t VALUES ('mine')", "rows that daskae did not put there"),
        ("CREATE VIEW T AS SELECT 1 AS id", "belongs to a view"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_beforehand(
    ddl: str, difference: str, duckdb: Database, tmp_path: Path
) -> None:
    duckdb.run(*ddl.split("; "))
    table = pa.table({"id": ["x"], "money": pa.array([Decimal(1)], pa.decimal128(38, 4))})
    for step in (duckdb.sink().preflight, duckdb.sink().publish):
        with pytest.raises(LoadError, match=difference):
            step(one_table(tmp_path, table, ("id",)))


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rubbish.duckdb"
    path.write_bytes(b"rubbish" * 10_000)
    with pytest.raises(LoadError, match=r"not a database that this DuckDB reads(.|\n)*rubbish\.duckdb"):
        open_sink(f"duckdb:///{path}").publish(build_load(tmp_path, A, shop("north")))
    with pytest.raises(LoadError, match="folder of the database does not exist"):
        open_sink(f"duckdb:///{tmp_path}/no/x.duckdb").preflight(build_load(tmp_path, A, shop("north")))


def test_time_finer_than_a_microsecond_is_refused(duckdb: Database, tmp_path: Path) -> None:
    table = pa.table({"at": pa.array([1_000_000_001], pa.timestamp("ns"))})
    with pytest.raises(LoadError, match=r"finer than a microsecond(.|\n)*table t, column at"):
        duckdb.sink().publish(one_table(tmp_path, table))
    whole = replace(one_table(tmp_path, pa.table({"at": pa.array([1_000], pa.timestamp("ns"))}), load_id=B))
    duckdb.sink().publish(whole)
    assert duckdb.query('SELECT "at" FROM t') == [(datetime(1970, 1, 1, 0, 0, 0, 1),)]


def test_a_transaction_is_a_snapshot(duckdb: Database) -> None:
    duckdb.run("CREATE TABLE n (n INTEGER)")
    with open_transaction(duckdb.url, isolation="serializable") as work:
        assert work.execute("SELECT count(*) FROM n").scalar_one() == 0
        duckdb.run("INSERT INTO n VALUES (1)")
        assert work.execute("SELECT count(*) FROM n").scalar_one() == 0


def test_a_replace_of_rows_that_others_refer_to_is_refused(duckdb: Database, tmp_path: Path) -> None:
    sink = duckdb.sink()
    sink.publish(build_load(tmp_path, A, shop("north", 3)))
    duckdb.run(
        "ALTER TABLE customer_metrics ADD PRIMARY KEY (customer_id)",
        "CREATE TABLE notes (customer_id VARCHAR REFERENCES customer_metrics (customer_id))",
        "INSERT INTO notes VALUES ('C1')",
    )
    with pytest.raises(LoadError, match=r"a rule of the database refuses the rows(.|\n)*foreign key"):
        sink.publish(build_load(tmp_path, B, shop("south", 5)))
    assert {row["shop"] for row in duckdb.rows("customer_metrics")} == {"north"}
    assert len(duckdb.rows("notes")) == 1


def test_rows_that_are_in_are_let_go_before_the_transaction_ends(duckdb: Database) -> None:
    """DuckDB holds on to a registered table until then; of two million rows that was half a gigabyte."""
    schema = pa.schema([("n", pa.int64())])
    held: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for i in range(120):
            held.append(pa.total_allocated_bytes())
            yield pa.record_batch([pa.repeat(pa.scalar(i, pa.int64()), 10_000)], schema=schema)

    stage = sa.Table("stage", sa.MetaData(), sa.Column(POSITION, sa.BigInteger), sa.Column("n", sa.BigInteger))
    with duckdb.connect() as connection:
        stage.create(connection)
        assert copy_rows(connection, stage, TableParts("t", (), schema, (), 1_200_000), batches()) == 1_200_000
    several = 2 * 12 * 10_000 * 2 * 8  # two statements' worth of rows, with their numbers
    assert max(held) - held[0] < several
