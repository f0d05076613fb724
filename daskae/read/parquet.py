"""Parquet files as partitions: runs of row groups, read column by column, with the source's own types."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import fsspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from daskae.batch import Batch, RawRows, RowNumbers, Span
from daskae.errors import InputError
from daskae.partition import Segment
from daskae.read.row_groups import Piece, RowGroups, group_runs
from daskae.read.source import RangeReader, file_size_and_identity, hash_range, is_url, reading

_ENCODER = json.JSONEncoder(default=str, ensure_ascii=False, separators=(",", ":"))


def read_batches(segment: Segment, index: int, columns: Sequence[str]) -> Iterator[Batch]:
    """Read some columns of a segment's row groups.

    Raises
    ------
    InputError
        If a page is damaged; checksums are verified where the file has them.
    """
    with _row_groups(segment, columns) as groups:
        done = 0
        for piece in groups.read(range(segment.start, segment.end)):
            whole = piece if set(columns) == set(segment.columns) else None
            count = piece.cells.height
            yield Batch(piece.cells, count, _RawRows(segment, done, whole), (Span(index, count),))
            done += count


def raw_batches(segment: Segment) -> Iterator[tuple[int, RawRows]]:
    """Yield the number of rows of a segment, and a function that gives the raw text of some of them."""
    yield rows_of(segment), _RawRows(segment, 0, None)


def rows_of(segment: Segment) -> int:
    """Return the number of rows of a segment, as the footer says."""
    footer = read_footer(segment.path)
    return int(sum(footer.row_group(i).num_rows for i in range(segment.start, segment.end)))


@contextmanager
def _row_groups(segment: Segment, columns: Sequence[str]) -> Iterator[RowGroups]:
    try:
        with (
            reading(segment.path),
            pq.ParquetFile(_opened(segment.path), page_checksum_verification=True) as file,
        ):
            yield RowGroups(file, segment.path, columns)
    except pa.ArrowException as error:
        raise InputError("an input is not a readable Parquet file", segment.label, str(error)[:200]) from error


class _RawRows:
    """Gives whole rows as JSON when somebody asks; rows that were read in part are read again."""

    def __init__(self, segment: Segment, first: int, whole: Piece | None) -> None:
        self._segment, self._first, self._whole = segment, first, whole

    def __call__(self, rows: RowNumbers) -> tuple[pl.Series, pl.Series]:
        """Return (JSON texts, no offsets) of the rows with these indices in the batch."""
        if self._whole is None:
            texts = self._read_again(rows + self._first)
        else:
            texts = _as_json_texts(self._whole.rows(pl.Series(rows), self._segment.columns))
        return texts, pl.repeat(None, len(texts), dtype=pl.Int64, eager=True)

    def _read_again(self, wanted: RowNumbers) -> pl.Series:
        columns = self._segment.columns
        texts = [pl.Series(dtype=pl.String)]
        done = 0
        with _row_groups(self._segment, columns) as groups:
            for group in range(self._segment.start, self._segment.end):
                last = done + groups.rows[group]
                if not _between(wanted, done, last).size:
                    done = last
                    continue
                for piece in groups.read(range(group, group + 1)):
                    inside = _between(wanted, done, done + piece.cells.height) - done
                    texts.append(_as_json_texts(piece.rows(pl.Series(inside), columns)))
                    done += piece.cells.height
        return pl.concat(texts)


def _between(rows: RowNumbers, first: int, last: int) -> RowNumbers:
    """Return the rows in ``[first, last)`` among rows in rising order."""
    return rows[slice(*np.searchsorted(rows, [first, last]))]


def _as_json_texts(rows: pa.Table) -> pl.Series:
    """Write rows as :func:`as_json` does; where all are texts, Polars does the same in a quarter of the time."""
    if rows.num_rows and all(pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in rows.schema.types):
        return pl.DataFrame(pl.from_arrow(rows)).select(pl.struct(pl.all()).struct.json_encode()).to_series()
    return pl.Series([as_json(row) for row in rows.to_pylist()], dtype=pl.String)


def as_json(row: dict[str, Any]) -> str:
    """Write a row of a typed source as text; values without a JSON form are written as Python writes them."""
    return _ENCODER.encode(row)


def scan_parquet(path: str, label: str, block_size: int) -> list[Segment]:
    """Group the row groups of a Parquet file into segments of about ``block_size`` bytes.

    Raises
    ------
    InputError
        If the footer is damaged.
    """
    size, identity, _ = file_size_and_identity(path)
    if size == 0:
        raise InputError("an input file is empty", label, "0 bytes", "a Parquet file", "remove or refetch it")
    with RangeReader(path) as reader:
        try:
            footer = pq.ParquetFile(_opened(path)).metadata
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                "an input is not a readable Parquet file", label, str(error)[:200], hint="refetch it"
            ) from error
        names = tuple(footer.schema.to_arrow_schema().names)
        groups = [_group_range(footer.row_group(i)) for i in range(footer.num_row_groups)]
        segments = []
        for first, last in group_runs([end - start for start, end in groups], block_size):
            start, end = groups[first][0], groups[last - 1][1]
            digest = hash_range(reader, start, end)
            segments.append(Segment(path, label, "parquet", first, last, end - start, digest, names, identity))
    return segments


def read_footer(path: str) -> pq.FileMetaData:
    """Return the footer of a Parquet file.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        with reading(path):
            return pq.ParquetFile(_opened(path)).metadata
    except pa.ArrowException as error:
        raise InputError("an input is not a readable Parquet file", path, str(error)[:200]) from error


def groups_digest(path: str, first: int, last: int) -> str | None:
    """Return the hash of a run of row groups as :func:`scan_parquet` makes it; None if they are not there."""
    footer = read_footer(path)
    if last > footer.num_row_groups:
        return None
    with RangeReader(path) as reader:
        return hash_range(reader, _group_range(footer.row_group(first))[0], _group_range(footer.row_group(last - 1))[1])


def _opened(path: str) -> Any:
    return fsspec.open(path, "rb").open() if is_url(path) else path


def _group_range(group: Any) -> tuple[int, int]:
    """First byte and one past the last byte of a row group."""
    starts, ends = [], []
    for i in range(group.num_columns):
        column = group.column(i)
        offsets = [column.data_page_offset]
        if column.dictionary_page_offset:
            offsets.append(column.dictionary_page_offset)
        starts.append(min(offsets))
        ends.append(min(offsets) + column.total_compressed_size)
    return min(starts), max(ends)
