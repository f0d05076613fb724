"""Rows in the order of their key: the same rows, whatever the parts are, and in order where that can be had."""

import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.errors import ExchangeError
from daskae.load import ordered
from daskae.load.base import TableParts
from daskae.load.ordered import read_in_order

from .building import write_parts


def part(folder: Path, keys: list[Any], kind: pa.DataType) -> TableParts:
    table = pa.table({"id": pa.array(keys, kind), "n": pa.array(range(len(keys)), pa.int64())})
    return write_parts(folder, "t", ("id",), table)


def gather(folder: Path, parts: list[list[Any]], kind: pa.DataType, keys: tuple[str, ...] = ("id",)) -> TableParts:
    """One table whose parts hold these keys."""
    made = [part(folder / str(number), some, kind) for number, some in enumerate(parts)]
    files = tuple(file for one in made for file in one.files)
    return TableParts("t", keys, made[0].schema, files, sum(map(len, parts)))


def read(parts: TableParts, max_rows: int = 7) -> list[Any]:
    batches = list(read_in_order(parts, max_rows))
    assert all(0 < batch.num_rows <= max_rows for batch in batches)
    return [key for batch in batches for key in batch["id"].to_pylist()]


PARTS = st.one_of(
    st.lists(st.lists(st.text("aAé𝄞\ue000", max_size=2), max_size=12), min_size=2, max_size=5),
    st.lists(st.lists(st.integers(-5, 5), max_size=12), min_size=2, max_size=5),
)


@given(parts=PARTS)
def test_ordered_parts_come_out_in_order(parts: list[list[Any]]) -> None:
    """In pieces of a few rows, so that equal keys meet the bounds between them, in several parts and batches."""
    kind = pa.string() if any(isinstance(key, str) for some in parts for key in some) else pa.int64()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as small:
        small.setattr(ordered, "_ROWS_AT_ONCE", 3)
        small.setattr(ordered, "_LEAST_STEP", 1)
        table = gather(Path(folder), [sorted(some, key=_bytes) for some in parts], kind)
        batches = list(read_in_order(table, 7))
    assert all(0 < batch.num_rows <= 7 for batch in batches)
    found = [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
    assert [key for key, _ in found] == sorted((key for some in parts for key in some), key=_bytes)
    told = sorted((key, n) for some in parts for n, key in enumerate(sorted(some, key=_bytes)))
    assert sorted(found) == told


def _bytes(key: Any) -> Any:
    return key.encode() if isinstance(key, str) else key


def test_a_large_table_is_sorted_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "_ROWS_AT_ONCE", 300)
    parts = [sorted(f"{n * 37 % 5000:05d}" for n in range(first, 5000, 7)) for first in range(7)]
    table = gather(tmp_path, parts, pa.string())
    batches = list(read_in_order(table, 1000))
    assert max(batch.num_rows for batch in batches) < 1000  # a piece is smaller than what was asked for
    assert [key for batch in batches for key in batch["id"].to_pylist()] == [f"{n:05d}" for n in range(5000)]


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ([["b", "a"], ["c", "d"]], pa.string()),
        ([["a", None], ["b", "c"]], pa.string()),
        ([[2.0, 1.0], [3.0]], pa.float64()),
    ],
    ids=["not in order", "a null", "a type that is not sorted"],
)
def test_what_has_no_order_comes_as_it_is(parts: list[list[Any]], kind: pa.DataType, tmp_path: Path) -> None:
    assert read(gather(tmp_path, parts, kind)) == [key for some in parts for key in some]


def test_keys_of_several_columns_come_as_they_are(tmp_path: Path) -> None:
    assert read(gather(tmp_path, [["b"], ["a"]], pa.string(), ("id", "n"))) == ["b", "a"]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    table = gather(tmp_path, [["a"], ["b"]], pa.string())
    table.files[1].write_bytes(table.files[1].read_bytes()[:-20])
    with pytest.raises(ExchangeError, match="cannot be read"):
        read(table)
