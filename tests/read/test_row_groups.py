"""Polars and Arrow give the same rows of Parquet files, or Polars is not asked."""

import itertools
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.read import row_groups
from daskae.read.parquet import read_batches, scan_parquet
from daskae.read.row_groups import BATCH_ROWS, Piece, RowGroups, group_runs

TIMES = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(st.characters(codec="utf-8"), max_size=30),
    pa.large_string(): st.text(st.characters(codec="utf-8"), max_size=30),
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.date32(): st.dates(date(1, 1, 1), date(9999, 12, 31)),
    pa.timestamp("ms"): TIMES.map(lambda value: value.replace(microsecond=0)),
    pa.timestamp("us"): TIMES,
    pa.timestamp("ns"): TIMES,
    pa.timestamp("us", "Europe/Berlin"): TIMES.map(lambda value: value.replace(tzinfo=UTC)),
    pa.decimal128(12, 2): st.decimals(-(10**9), 10**9, places=2),
    pa.decimal128(38, 10): st.decimals(-(10**20), 10**20, places=10),
}
# Types that only Arrow is asked for.
OTHERS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.binary(): st.binary(max_size=9),
    pa.time64("us"): st.times(),
    pa.list_(pa.int64()): st.lists(st.integers(0, 9), max_size=3),
    pa.dictionary(pa.int32(), pa.string()): st.sampled_from(["a", "b"]),
    pa.date64(): st.dates(date(1970, 1, 1), date(2100, 1, 1)),
}


@st.composite
def tables(draw: st.DrawFn, values: dict[pa.DataType, st.SearchStrategy[Any]]) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(list(values)), min_size=1, max_size=4))
    height = draw(st.integers(0, 12))
    columns = [
        pa.array(draw(st.lists(st.none() | values[kind], min_size=height, max_size=height)), kind) for kind in kinds
    ]
    return pa.table(columns, names=[f"c{i}" for i in range(len(kinds))])


WRITERS = st.fixed_dictionaries(
    {
        "row_group_size": st.integers(1, 15),
        "use_dictionary": st.booleans(),
        "compression": st.sampled_from(["snappy", "zstd", "gzip", "none"]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "write_page_checksum": st.booleans(),
        "store_schema": st.booleans(),
    }
)


def pieces(path: Path, columns: list[str]) -> list[Piece]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return list(RowGroups(file, str(path), columns).read(range(file.num_row_groups)))


def frame(found: list[Piece]) -> pl.DataFrame:
    return pl.concat([piece.cells for piece in found]) if found else pl.DataFrame()


@contextmanager
def arrow_alone() -> Iterator[None]:
    with patch.object(row_groups, "_scan", lambda *_: None):
        yield


@contextmanager
def small_batches() -> Iterator[None]:
    with patch.object(row_groups, "BATCH_ROWS", 4):
        yield


@given(table=tables(VALUES), options=WRITERS)
@settings(max_examples=150)
def test_both_give_the_same(table: pa.Table, options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, small_batches():
        path = Path(folder) / "a.parquet"
        pq.write_table(table, path, **options)
        found = pieces(path, table.column_names)
        with arrow_alone():
            expected = pieces(path, table.column_names)
        assert frame(found).equals(frame(expected), null_equal=True)
        assert frame(found).schema == frame(expected).schema
        for segment in scan_parquet(str(path), "a", 1 << 30):
            rows = [text for batch in read_batches(segment, 0, segment.columns) for text in raw(batch)]
            with arrow_alone():
                assert rows == [text for batch in read_batches(segment, 0, segment.columns) for text in raw(batch)]
    if table.num_rows and not options["write_page_checksum"]:
        assert {piece.read for piece in found} == {None}, "Polars reads these"
    elif table.num_rows:
        assert all(piece.read is not None for piece in found)


def raw(batch: Any) -> list[str]:
    texts: list[str] = batch.raw(batch.row_numbers())[0].to_list()
    return texts


@given(table=tables(OTHERS))
@settings(max_examples=20)
def test_types_that_differ_are_left_to_arrow(table: pa.Table) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        pq.write_table(table, path)
        assert all(piece.read is not None for piece in pieces(path, table.column_names))


def test_old_times_are_left_to_arrow(tmp_path: Path) -> None:
    table = pa.table({"at": pa.array([datetime(2024, 1, 1)], pa.timestamp("ns"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    (found,) = pieces(tmp_path / "a.parquet", ["at"])
    assert found.read is not None
    assert found.cells["at"].to_list() == [datetime(2024, 1, 1)]


def test_a_group_is_read_in_pieces(tmp_path: Path) -> None:
    count = 2 * BATCH_ROWS + 5
    pq.write_table(pa.table({"n": range(count)}), tmp_path / "a.parquet", row_group_size=count)
    found = pieces(tmp_path / "a.parquet", ["n"])
    assert [piece.cells.height for piece in found] == [BATCH_ROWS, BATCH_ROWS, 5]
    assert frame(found)["n"].equals(pl.Series("n", range(count)))


def test_where_polars_fails_arrow_goes_on(tmp_path: Path) -> None:
    count = 2 * BATCH_ROWS + 5
    pq.write_table(pa.table({"n": range(count)}), tmp_path / "a.parquet", row_group_size=count)
    scan, calls = row_groups._scan, []

    def once(*arguments: Any) -> pl.DataFrame | None:
        calls.append(arguments)
        return scan(*arguments) if len(calls) == 1 else None

    with patch.object(row_groups, "_scan", once):
        found = pieces(tmp_path / "a.parquet", ["n"])
    assert len(calls) == 2
    assert frame(found)["n"].equals(pl.Series("n", range(count)))


@given(sizes=st.lists(st.integers(0, 9), max_size=12), most=st.integers(1, 20))
def test_runs_hold_all_groups_and_no_more_than_fits(sizes: list[int], most: int) -> None:
    runs = group_runs(sizes, most)
    assert [i for first, last in runs for i in range(first, last)] == list(range(len(sizes)))
    assert all(last - first == 1 or sum(sizes[first:last]) <= most for first, last in runs)
    joined = [sum(sizes[a:d]) for (a, _), (_, d) in itertools.pairwise(runs)]
    assert min(joined, default=math.inf) > most or len(runs) < 2


@pytest.mark.parametrize("kind", [pa.time32("s"), pa.duration("s"), pa.struct({"a": pa.int8()})])
def test_raw_rows_of_other_types(tmp_path: Path, kind: pa.DataType) -> None:
    value = {pa.time32("s"): time(1, 2, 3)}.get(kind, {"a": 1} if pa.types.is_struct(kind) else 5)
    pq.write_table(pa.table({"n": [Decimal(1)], "x": pa.array([value], kind)}), tmp_path / "a.parquet")
    (segment,) = scan_parquet(str(tmp_path / "a.parquet"), "a", 1 << 30)
    whole = [raw(batch) for batch in read_batches(segment, 0, segment.columns)]
    assert whole == [raw(batch) for batch in read_batches(segment, 0, ["n"])]
