import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from daskae.errors import LoadError
from daskae.load.base import Sink
from daskae.load.targets import open_sink

from .building import LOADED_AT, MONEY, A, B, C, build_load, one_table, query, shop


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.db"


@pytest.fixture
def sink(path: Path) -> Sink:
    return open_sink(f"sqlite:///{path}")


def test_every_type_is_stored_as_documented(sink: Sink, path: Path, tmp_path: Path) -> None:
    columns = {
        "text": pa.array(["a\0b 'quoted' \U0001f600", None]),
        "large": pa.array(["x", None], pa.large_string()),
        "word": pa.array(["yes", None]).dictionary_encode(),
        "whole": pa.array([2**63 - 1, None], pa.int64()),
        "small": pa.array([-5, None], pa.int16()),
        "flag": pa.array([True, None]),
        "real": pa.array([0.1, None]),
        "day": pa.array([date(2011, 12, 1), None]),
        "time": pa.array([datetime(2011, 12, 1, 8, 26), None], pa.timestamp("us")),
        "fine": pa.array([datetime(2011, 12, 1, 8, 26, 0, 120), datetime(2011, 12, 1)], pa.timestamp("ns")),
        "money": pa.array([Decimal("12.3400"), None], MONEY),
        "even": pa.array([Decimal("12.0000"), None], MONEY),
    }
    sink.publish(one_table(tmp_path, pa.table(columns)))
    expected = {
        "text": ("TEXT", "text", "a\0b 'quoted' \U0001f600", None),
        "large": ("TEXT", "text", "x", None),
        "word": ("TEXT", "text", "yes", None),
        "whole": ("INTEGER", "integer", 2**63 - 1, None),
        "small": ("INTEGER", "integer", -5, None),
        "flag": ("BOOLEAN", "integer", 1, None),
        "real": ("REAL", "real", 0.1, None),
        "day": ("DATE", "text", "2011-12-01", None),
        "time": ("TIMESTAMP", "text", "2011-12-01 08:26:00", None),
        "fine": ("TIMESTAMP", "text", "2011-12-01 08:26:00.000120", "2011-12-01 00:00:00"),
        "money": ("NUMERIC", "real", 12.34, None),
        "even": ("NUMERIC", "integer", 12, None),
    }
    declared: dict[str, str] = dict(query(path, "SELECT name, type FROM pragma_table_info('t')"))
    for name, (kind, storage, *values) in expected.items():
        assert declared[name] == kind
        found = query(path, f"SELECT typeof({name}), {name} FROM t ORDER BY rowid")
        assert found[0] == (storage, values[0]), name
        assert found[1][1] == values[1], name


def test_metadata_columns_tell_the_load(sink: Sink, path: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, A, shop("north")))
    expected = (A, str(LOADED_AT), "text", 1000)
    found = query(path, "SELECT DISTINCT _load_id, _loaded_at, typeof(_loaded_at), _source_rows FROM kpis")
    assert found == [expected]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(value: float, sink: Sink, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=f"not finite(.|\n)*table t, column x(.|\n)*{value}"):
        sink.publish(one_table(tmp_path, pa.table({"x": [1.0, None, value]})))


@pytest.mark.parametrize(
    "array",
    [
        pa.array([b"x"]),
        pa.array([datetime(2011, 1, 1)], pa.timestamp("us", "UTC")),
        pa.array([[1]]),
        pa.nulls(1),
        pa.array([Decimal(1)], pa.decimal256(50, 2)),
    ],
)
def test_a_type_without_a_place_is_refused_beforehand(array: pa.Array, sink: Sink, path: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"cannot store a column of this type(.|\n)*table t, column x"):
        sink.preflight(one_table(tmp_path, pa.table({"x": array})))
    assert not path.exists()


@pytest.mark.parametrize(
    ("array", "text"),
    [(pa.array([2**63], pa.uint64()), "too large"), (pa.array([1], pa.timestamp("ns")), "finer than a microsecond")],
)
def test_a_value_without_a_place_is_refused(array: pa.Array, text: str, sink: Sink, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=text):
        sink.publish(one_table(tmp_path, pa.table({"x": array})))


NAUGHTY = ['a"b', "a'b", "a b", "x); DROP TABLE kpis; --", "%s %(x)s ?1 :name @p", "`[t]`", "select", "ü\n\t\U0001f600"]


def test_hostile_names_are_names_and_nothing_else(sink: Sink, path: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, C, shop("north")))
    columns = {name: pa.array([f"value {n}"]) for n, name in enumerate(NAUGHTY)}
    tables = {name: (tuple(NAUGHTY[:2]), pa.table(columns)) for name in NAUGHTY}
    for load_id in (A, B):
        load = build_load(tmp_path, load_id, tables, "append")
        sink.publish(load)
        assert sink.preflight(load) is not None
    for name in NAUGHTY:
        quoted = name.replace('"', '""')
        with closing(sqlite3.connect(path)) as database:
            rows = database.execute(f'SELECT * FROM "{quoted}"')
            assert [column[0] for column in rows.description][:-3] == NAUGHTY
            assert [row[:-3] for row in rows] == [tuple(f"value {n}" for n in range(len(NAUGHTY)))] * 2
    assert query(path, "SELECT count(*) FROM customer_metrics") == [(3,)]


@pytest.mark.parametrize("name", ["sqlite_x", "_daskae_loads"])
def test_reserved_names_are_refused_beforehand(name: str, sink: Sink, path: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="reserved name"):
        sink.preflight(one_table(tmp_path, pa.table({"n": [1]}), name=name))
    assert not path.exists()


@pytest.mark.parametrize("name", ["sqlite_x", "_daskae_loads", "", "a\0b", "\ud800"])
def test_names_that_cannot_be_are_refused(name: str, sink: Sink, path: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, {"t": ((), pa.table({"x": [1]}))})
    load = replace(load, tables=(replace(load.tables[0], name=name),))
    sink.publish(build_load(tmp_path, B, shop("north")))
    for step in (sink.preflight, sink.publish):
        with pytest.raises(LoadError, match="name"):
            step(load)


@pytest.mark.parametrize(
    ("columns", "keys", "text"),
    [
        (["a", "A"], (), "two columns have the same name"),
        (["_Load_id"], (), "name of a metadata column"),
        (["a"], ("b",), "a key is not a column"),
        ([], (), "at least one column"),
    ],
)
def test_a_malformed_table_is_refused(
    columns: list[str], keys: tuple[str, ...], text: str, sink: Sink, tmp_path: Path
) -> None:
    table = pa.Table.from_arrays([pa.array([1])] * len(columns), columns)
    with pytest.raises(LoadError, match=text):
        sink.preflight(one_table(tmp_path, table, keys))
