import json
import tempfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.errors import InputError
from daskae.read.parquet import as_json, read_batches, scan_parquet

from .reading import Row, cells, rows_of_batch

TABLE = pa.table(
    {
        "id": pa.array(range(100), pa.int64()),
        "name": [f"c{i % 7}" if i % 5 else None for i in range(100)],
        "amount": pa.array([Decimal(i) / 4 for i in range(100)], pa.decimal128(12, 2)),
        "at": pa.array([datetime(2024, 1, 1, 12, i % 60) for i in range(100)], pa.timestamp("ns")),
        "day": [date(2024, 1, 1 + i % 28) for i in range(100)],
    }
)


def write(path: Path, group: int = 10) -> Path:
    pq.write_table(TABLE, path, row_group_size=group, write_page_checksum=True)
    return path


def rows_of(path: Path | str, block: int, columns: list[str]) -> list[Row]:
    segments = scan_parquet(str(path), "a.parquet", block)
    batches = [read_batches(segment, i, columns) for i, segment in enumerate(segments)]
    return [row for some in batches for batch in some for row in rows_of_batch(batch)]


@pytest.mark.parametrize("block", [1, 500, 2000, 1 << 20])
def test_any_block_gives_the_same_rows(tmp_path: Path, block: int) -> None:
    rows = rows_of(write(tmp_path / "a.parquet"), block, ["name", "id"])
    assert cells(rows) == list(zip(TABLE["name"].to_pylist(), range(100), strict=True))
    assert [json.loads(row.raw)["id"] for row in rows] == list(range(100))
    assert {row.offset for row in rows} == {None}


def test_row_groups_stay_together(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet")
    segments = scan_parquet(str(path), "a.parquet", 1)
    assert [(segment.start, segment.end) for segment in segments] == [(i, i + 1) for i in range(10)]
    (whole,) = scan_parquet(str(path), "a.parquet", 1 << 30)
    assert (whole.start, whole.end, whole.columns) == (0, 10, ("id", "name", "amount", "at", "day"))
    assert whole.nbytes == sum(segment.nbytes for segment in segments)
    assert len({segment.digest for segment in segments}) == 10


def test_types_are_the_sources_own(tmp_path: Path) -> None:
    (segment,) = scan_parquet(str(write(tmp_path / "a.parquet")), "a", 1 << 30)
    (batch,) = read_batches(segment, 0, ["amount", "at", "day"])
    assert [str(dtype) for dtype in batch.cells.dtypes] == [
        "Decimal(precision=12, scale=2)", "Datetime(time_unit='ns', time_zone=None)", "Date"
    ]  # fmt: skip


def test_raw_rows_hold_all_columns(tmp_path: Path) -> None:
    row = rows_of(write(tmp_path / "a.parquet"), 1 << 30, ["id"])[5]
    assert json.loads(row.raw) == {
        "id": 5, "name": None, "amount": "1.25", "at": "2024-01-01 12:05:00", "day": "2024-01-06"
    }  # fmt: skip


TEXTS = st.lists(st.tuples(st.none() | st.text(), st.text(max_size=20)), min_size=1, max_size=8)


@given(rows=TEXTS, part=st.booleans())
def test_raw_rows_of_texts_are_written_like_any_other(rows: list[tuple[str | None, str]], part: bool) -> None:
    try:
        table = pa.table({'a "b"': pa.array([a for a, _ in rows], pa.string()), "c": [c for _, c in rows]})
    except UnicodeEncodeError:
        return  # half a surrogate pair is no text in a file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        pq.write_table(table, path, row_group_size=3)
        found = rows_of(path, 1 << 30, ["c"] if part else table.column_names)
    assert [row.raw for row in found] == [as_json(row) for row in table.to_pylist()]


def test_no_rows(tmp_path: Path) -> None:
    pq.write_table(TABLE.slice(0, 0), tmp_path / "a.parquet")
    assert rows_of(tmp_path / "a.parquet", 100, ["id"]) == []


def test_a_url(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet")
    files = fsspec.filesystem("memory")
    files.pipe_file("/p/a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert rows_of("memory://p/a.parquet", 500, ["id"]) == rows_of(tmp_path / "a.parquet", 500, ["id"])
    files.store.clear()


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_a_file_that_is_cut_short(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"(?s)not a readable Parquet file.*a\.parquet.*refetch"):
        scan_parquet(str(path), "a.parquet", 100)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()
    with pytest.raises(InputError, match="an input file is empty"):
        scan_parquet(str(tmp_path / "a.parquet"), "a.parquet", 100)


def test_text_with_a_parquet_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("id,n\n1,a\n" * 20)
    with pytest.raises(InputError, match="not a readable Parquet file"):
        scan_parquet(str(tmp_path / "a.parquet"), "a.parquet", 100)


@pytest.mark.parametrize("place", range(40, 400, 45))
def test_a_changed_byte_in_a_page_is_noticed(tmp_path: Path, place: int) -> None:
    path = write(tmp_path / "a.parquet", 100)
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"not a readable Parquet file|cannot be read"):
        rows_of(path, 1 << 30, list(TABLE.column_names))
