"""The bytes of the files depend on the rows and their order, never on how the parts are cut."""

import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.load.base import Load
from daskae.load.parquet import writing
from daskae.load.targets import open_sink

from .building import LOADED_AT, MONEY, A, write_parts


def make_table(rows: int) -> pa.Table:
    """Every type, with and without nulls, unique and repeated values."""
    n = pa.array(range(rows), pa.int64())
    third = pc.equal(pc.subtract(n, pc.multiply(pc.divide(n, 3), 3)), 0)
    text = pc.binary_join_element_wise("customer", n.cast(pa.string()), "-")
    return pa.table(
        {
            "id": text,
            "few": pc.if_else(third, pa.scalar(None, pa.string()), pa.scalar("yes")),
            "n": n,
            "some": pc.if_else(third, pa.scalar(None, pa.int64()), n),
            "real": pc.divide(n.cast(pa.float64()), 7.0),
            "money": pc.if_else(third, pa.scalar(None, MONEY), n.cast(pa.decimal128(38, 0)).cast(MONEY, safe=False)),
            "flag": third,
            "day": n.cast(pa.int32()).cast(pa.date32()),
            "time": pc.multiply(n, 60_000_000).cast(pa.timestamp("us")),
        }
    )


def published_bytes(table: pa.Table, cuts: Sequence[int]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        parts = write_parts(Path(folder) / "parts", "t", ("id",), table, cuts)
        open_sink(f"{folder}/out").publish(Load(A, "run", "replace", 9, LOADED_AT, (parts,)))
        return [sha256(path.read_bytes()).hexdigest() for path in sorted((Path(folder) / "out/t").iterdir())]


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_any_cut_gives_the_same_bytes(data: st.DataObject) -> None:
    rows = data.draw(st.sampled_from([0, 1, 999, 1000, 1001, 3500]))
    cuts = data.draw(st.lists(st.integers(0, rows), max_size=8))
    table = make_table(rows)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(writing, "FILE_ROWS", 1000)
        small.setattr(writing, "_GROUP_ROWS", 400)
        whole = published_bytes(table, ())
        assert len(whole) == max(1, -(-rows // 1000))
        assert published_bytes(table, cuts) == whole


def test_cuts_at_full_size_with_many_pages() -> None:
    table = make_table(300_000)
    whole = published_bytes(table, ())
    assert len(whole) == 2
    assert published_bytes(table, (1, 131_071, 200_000, 262_145)) == whole


def test_the_way_values_are_held_does_not_show() -> None:
    """Dictionaries, wider offsets and empty null masks are matters of memory, not of content."""
    table = make_table(500)
    other = table.set_column(0, "id", table["id"].dictionary_encode())
    other = other.set_column(1, "few", table["few"].cast(pa.large_string()))
    masked = pc.if_else(pa.array([True] * 500), table["n"], pa.scalar(None, pa.int64()))
    other = other.set_column(2, "n", masked).replace_schema_metadata({"pandas": "{}"})
    assert published_bytes(other, (7,)) == published_bytes(table, ())
