"""A segment cut in two: the same bytes, the same records, until nothing can be cut."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from daskae.partition import Segment
from daskae.read.cut import halves
from daskae.read.dialect import Dialect
from daskae.read.parquet import scan_parquet
from daskae.read.reader import read_segments
from daskae.read.scan import scan_csv
from daskae.read.source import RangeReader, hash_range
from tests.laws.orders import MALFORMED, ROWS, headers, records, whole_runs


def scan(path: Path, dialect: Dialect) -> Segment:
    with ThreadPoolExecutor(1) as pool:
        (segment,) = scan_csv(str(path), path.name, dialect, 1 << 20, pool)
    return segment


def all_pieces(segment: Segment, dialect: Dialect) -> list[Segment]:
    """Cut until nothing can be cut any more."""
    pair = halves(segment, dialect)
    return [segment] if pair is None else [piece for half in pair for piece in all_pieces(half, dialect)]


def rows_of(segments: list[Segment], dialect: Dialect) -> int:
    return sum(batch.count for batch in read_segments(segments, dialect, lambda segment: segment.columns))


@given(header=headers(), rows=records(ROWS | MALFORMED))
@whole_runs(25)
def test_pieces_hold_every_record_once(header: bytes, rows: list[bytes]) -> None:
    dialect = Dialect()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "orders.csv")
        path.write_bytes(header + b"".join(rows))
        whole = scan(path, dialect)
        pieces = all_pieces(whole, dialect)
        ends = [whole.start, *(piece.end for piece in pieces)]
        assert [piece.start for piece in pieces] == ends[:-1]
        assert ends[-1] == whole.end
        with RangeReader(str(path)) as reader:
            assert all(piece.digest == hash_range(reader, piece.start, piece.end) for piece in pieces)
        assert [piece.skip_header for piece in pieces] == [True, *[False] * (len(pieces) - 1)]
        assert rows_of(pieces, dialect) == rows_of([whole], dialect)
        assert len({piece.content_id for piece in pieces}) == len(pieces)


def test_row_groups_are_shared_out(tmp_path: Path) -> None:
    path = tmp_path / "orders.parquet"
    pq.write_table(pa.table({"id": list(range(50))}), path, row_group_size=10)
    (whole,) = scan_parquet(str(path), path.name, 1 << 20)
    pieces = all_pieces(whole, Dialect())
    assert [(piece.start, piece.end) for piece in pieces] == [(i, i + 1) for i in range(5)]
    assert rows_of(pieces, Dialect()) == 50
    singles = scan_parquet(str(path), path.name, 1)
    assert [piece.content_id for piece in pieces] == [piece.content_id for piece in singles]


UNCUT = [{"compression": "gzip"}, {"corrections": "some.parquet"}, {"kind": "sql"}]


@pytest.mark.parametrize("change", UNCUT, ids=lambda change: next(iter(change)))
def test_what_cannot_be_cut(change: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("id\n1\n2\n3\n")
    segment = scan(path, Dialect())
    assert halves(segment, Dialect()) is not None
    assert halves(replace(segment, **change), Dialect()) is None  # type: ignore[arg-type]
    assert halves(segment, Dialect(encoding="utf-16")) is None
