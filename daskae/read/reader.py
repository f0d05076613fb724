"""One door to every kind of source."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from daskae.batch import Batch, RawRows
from daskae.partition import Segment
from daskae.read import csv, parquet
from daskae.read.dialect import Dialect
from daskae.read.patch import patched
from daskae.read.source import require_unchanged

ColumnsOf = Callable[[Segment], Sequence[str]]


def read_segments(segments: Sequence[Segment], dialect: Dialect, columns: ColumnsOf) -> Iterator[Batch]:
    """Read some columns of segments in batches, in order, and check that each source is still the one planned.

    Raises
    ------
    InputError
        If a source cannot be read to its end.
    InputChangedError
        If one changed on the way.
    """
    batches = _read(segments, dialect, columns)
    if any(segment.corrections for segment in segments):
        batches = patched(batches, segments, dialect, columns)
    yield from batches
    for segment in segments:
        if segment.kind != "sql":
            require_unchanged(segment.path, segment.label, segment.identity)


def _read(segments: Sequence[Segment], dialect: Dialect, columns: ColumnsOf) -> Iterator[Batch]:
    done = 0
    for kind, group in groupby(segments, key=lambda segment: segment.kind):
        members = list(group)
        yield from _read_kind(kind, members, done, dialect, columns)
        done += len(members)


def _read_kind(
    kind: str, segments: Sequence[Segment], first: int, dialect: Dialect, columns: ColumnsOf
) -> Iterator[Batch]:
    if kind == "csv":
        for batch in csv.read_batches(segments, dialect, columns):
            yield batch if first == 0 else batch.shifted(first)
        return
    for index, segment in enumerate(segments, first):
        if kind == "parquet":
            yield from parquet.read_batches(segment, index, columns(segment))
        else:
            from daskae.read import sql  # needs SQLAlchemy, which most runs do not read with

            yield from sql.read_batches(segment, index, columns(segment))


def raw_batches(segment: Segment, dialect: Dialect, columns: ColumnsOf) -> Iterator[tuple[int, RawRows]]:
    """Yield (rows, function that gives their raw text) of each batch, without parsing cells where that is possible."""
    if segment.kind == "csv" and not segment.corrections:
        yield from csv.raw_batches(segment, dialect)
    elif segment.kind == "parquet" and not segment.corrections:
        yield from parquet.raw_batches(segment)
    else:
        for batch in read_segments([segment], dialect, columns):
            yield batch.count, batch.raw
