"""Folders by column: where rows go, who reads them, and that no value leads out of the folder."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.errors import LoadError
from daskae.load.base import Load, LoadOptions, Strategy
from daskae.load.parquet import partitions
from daskae.load.parquet.partitions import folder_columns, folder_name

from .building import MONEY, A, B, C, one_table
from .databases import Folder, Target

HOSTILE = ["007", "a/b", "..", "../../up", "ü", "日本", "a=b", "%2F", "x y", "A", "a", "q'\"*?[x]{1}:;\\\n", "~", "-rf",
           "__HIVE_DEFAULT_PARTITION__", "", None]  # fmt: skip


def customers(segments: list[str | None]) -> pa.Table:
    months = [date(2011, 12, 1), date(2012, 1, 1), None]
    count = len(segments)
    return pa.table(
        {
            "id": pa.array([f"C{number:03d}" for number in range(count)], pa.string()),
            "segment": pa.array(segments, pa.string()),
            "month": pa.array([months[number % 3] for number in range(count)], pa.date32()),
            "spent": pa.array([Decimal(number) / 4 for number in range(count)], MONEY),
        }
    )


def split(
    folder: Path, table: pa.Table, columns: tuple[str, ...], load_id: str = A, strategy: Strategy = "replace"
) -> Load:  # fmt: skip
    load = one_table(folder, table, ("id",), load_id=load_id)
    return replace(load, strategy=strategy, tables=(replace(load.tables[0], partition_by=columns),))


def folders(target: Folder) -> set[str]:
    parts = [path.partition("/t/")[2].split("/")[:-1] for path in target.files("t")]
    return {"/".join(part for part in names if "=" in part) for names in parts}


def test_each_value_has_a_folder(tmp_path: Path, folder: Folder) -> None:
    folder.sink().publish(split(tmp_path, customers(["new", "lost", "new"]), ("month", "segment")))
    assert folders(folder) == {
        "month=2011-12-01/segment=new", "month=2012-01-01/segment=lost",
        "month=__HIVE_DEFAULT_PARTITION__/segment=new",
    }  # fmt: skip
    assert len(folder.rows("t")) == 3


READERS: dict[str, Callable[[str], Any]] = {
    "polars": lambda place: pl.read_parquet(f"{place}/**/*.parquet").to_arrow(),
    "polars, hive": lambda place: pl.scan_parquet(place).collect().to_arrow(),
    "pyarrow": lambda place: ds.dataset(place, format="parquet").to_table(),
}


@pytest.mark.parametrize("reader", READERS)
def test_readers_take_the_folder_as_it_is(reader: str, tmp_path: Path, folder: Folder) -> None:
    folder.sink().publish(split(tmp_path, customers(["new", "a/b", "x y", "ü"]), ("segment", "month")))
    found = READERS[reader](f"{folder.url}/t").select(["id", "segment", "month", "spent"]).to_pylist()
    assert sorted(found, key=repr) == sorted(customers(["new", "a/b", "x y", "ü"]).to_pylist(), key=repr)


def test_duckdb_takes_the_folder_as_it_is(tmp_path: Path, folder: Folder) -> None:
    duckdb = pytest.importorskip("duckdb")
    folder.sink().publish(split(tmp_path, customers(["new", "a/b", "x y", "ü"]), ("segment", "month")))
    with duckdb.connect() as database:
        query = f"SELECT segment, month, spent FROM '{folder.url}/t/**/*.parquet' WHERE segment = 'a/b'"
        assert database.execute(query).fetchall() == [("a/b", date(2012, 1, 1), Decimal("0.25"))]


@pytest.mark.slow
def test_spark_takes_the_folder_as_it_is(tmp_path: Path, folder: Folder) -> None:
    sql = pytest.importorskip("pyspark.sql", reason="Spark is not installed")
    folder.sink().publish(split(tmp_path, customers(["new", "a/b", "x y", "ü"]), ("segment", "month")))
    spark = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        for place in (f"{folder.url}/t", f"{folder.url}/t/*/*/*"):
            rows = spark.read.parquet(place).select("id", "segment", "month", "spent").collect()
            found = sorted((row.asDict() for row in rows), key=repr)
            assert found == sorted(customers(["new", "a/b", "x y", "ü"]).to_pylist(), key=repr), place
    finally:
        spark.stop()


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_hostile_values_stay_inside_and_come_back(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:  # fmt: skip
    target: Folder = request.getfixturevalue(kind)
    table = customers(HOSTILE)
    target.sink().publish(split(tmp_path, table, ("segment",)))
    assert {row["id"]: row["segment"] for row in target.rows("t")} == dict(
        zip(table["id"].to_pylist(), HOSTILE, strict=True)
    )
    if kind == "folder":
        out = Path(target.url)
        assert sorted(os.listdir(out)) == [".daskae", "t"]
        assert sorted(os.listdir(out.parent)) == ["out"]


@given(st.text(min_size=1), st.text(max_size=40))
def test_any_value_makes_one_component_and_can_be_told_again(column: str, value: str) -> None:
    name = folder_name(column, value)
    assert PurePosixPath(name).parts == (name,)
    assert "\0" not in name
    assert not name.startswith(".")
    assert name.count("=") == 1
    assert folder_columns(f"{name}/x.parquet") == (column,)
    told = name.partition("=")[2]
    assert unquote(told) == value if value else told == "__HIVE_DEFAULT_PARTITION__"
    assert value == "" or told != "__HIVE_DEFAULT_PARTITION__"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12, "12"), (True, "true"), (date(2011, 12, 1), "2011-12-01"), (Decimal("1.50"), "1.50"),
        (datetime(2011, 12, 1, 8), "2011-12-01%2008%3A00%3A00"),
        (datetime(2011, 12, 1, 8, 0, 0, 500), "2011-12-01%2008%3A00%3A00.000500"),
    ],
)  # fmt: skip
def test_values_of_all_kinds(value: object, text: str, tmp_path: Path, folder: Folder) -> None:
    folder.sink().publish(split(tmp_path, pa.table({"id": ["C1"], "v": [value]}), ("v",)))
    assert folders(folder) == {f"v={text}"}


def test_an_upsert_moves_a_row_to_its_new_folder_and_leaves_other_files(tmp_path: Path, folder: Folder) -> None:
    folder.sink().publish(split(tmp_path, customers(["new", "lost", "new", "idle"]), ("segment",)))
    before = {path: os.stat(path).st_ino for path in folder.files("t") if "segment=idle" in path}
    change = customers(["lost"])
    receipt = folder.sink().publish(split(tmp_path, change, ("segment",), B, "upsert"))
    assert receipt.changes["t"].updated == 1
    assert {row["id"]: row["segment"] for row in folder.rows("t")} == {
        "C000": "lost", "C001": "lost", "C002": "new", "C003": "idle"
    }  # fmt: skip
    after = {path: os.stat(path).st_ino for path in folder.files("t") if "segment=idle" in path}
    assert list(after.values()) == list(before.values())
    (lost, also) = (path for path in folder.files("t") if "segment=lost" in path)
    assert {Path(lost).name[:8], Path(also).name[:8]} == {"aaaaaaaa", "bbbbbbbb"}


@pytest.mark.parametrize("strategy", ["append", "upsert"])
def test_another_layout_takes_the_old_rows_along(strategy: Strategy, tmp_path: Path, folder: Folder) -> None:
    for number, columns in enumerate([(), ("segment",), ("month", "segment"), ()]):
        table = customers(["new", "lost", "new", None, "new", "x"]).slice(number, 3)
        folder.sink().publish(split(tmp_path, table, columns, "abcd"[number] * 64, strategy))
        wanted = {tuple(name.partition("=")[0] for name in path.split("/") if name) for path in folders(folder)}
        assert wanted == {columns}
    assert len(folder.rows("t")) == (12 if strategy == "append" else 6)


def test_an_empty_table_still_tells_its_columns(tmp_path: Path, folder: Folder) -> None:
    folder.sink().publish(split(tmp_path, customers([]), ("segment",)))
    assert pl.read_parquet(f"{folder.url}/t/**/*.parquet").shape == (0, 7)
    folder.sink().publish(split(tmp_path, customers(["new"]), ("segment",), B, "append"))
    assert folders(folder) == {"segment=new"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("nope",), r"no such column(.|\n)*nope"),
        (("id", "id"), "named twice"),
        (("x",), r"makes no folders(.|\n)*double"),
    ],
)
def test_columns_that_make_no_folders_are_refused(
    columns: tuple[str, ...], message: str, tmp_path: Path, folder: Folder
) -> None:
    table = customers(["new"]).append_column("x", pa.array([1.5]))
    with pytest.raises(LoadError, match=message):
        folder.sink().preflight(split(tmp_path, table, columns))


def test_too_long_a_value_and_too_many_are_refused(
    tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LoadError, match="too long to name a folder"):
        folder.sink().publish(split(tmp_path, customers(["x" * 300]), ("segment",)))
    monkeypatch.setattr(partitions, "_MOST_FOLDERS", 2)
    with pytest.raises(LoadError, match="too many folders"):
        folder.sink().publish(split(tmp_path, customers(["a", "b", "c"]), ("segment",), C))
    assert folder.names() == set()


def test_a_database_takes_no_folders(database: Target, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="a database has no folders"):
        database.sink().preflight(split(tmp_path, customers(["new"]), ("segment",)))


def test_files_in_which_nothing_changes_are_kept(
    tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskae.load.parquet.writing.FILE_ROWS", 10)
    everybody = customers([f"s{number}" for number in range(50)])
    folder.sink().publish(split(tmp_path, everybody, ()))
    before = {Path(path).name: os.stat(path).st_ino for path in folder.files("t")}
    changed = everybody.slice(23, 1).set_column(1, "segment", pa.array(["other"]))
    load = split(tmp_path, changed, (), B, "merge")
    receipt = folder.sink().publish(replace(load, options=LoadOptions(on_missing="keep")))
    assert (receipt.changes["t"].updated, receipt.changes["t"].inserted) == (1, 0)
    after = {Path(path).name: os.stat(path).st_ino for path in folder.files("t")}
    assert after.keys() - before.keys() == {"bbbbbbbb-00000.parquet"}
    assert before.keys() - after.keys() == {"aaaaaaaa-00002.parquet"}
    assert {name: after[name] for name in before if name in after} == {
        name: before[name] for name in before if name != "aaaaaaaa-00002.parquet"
    }
