"""Read the rows of a table in the order of their key, from parts that are each in that order, in bounded memory.

An index that is filled in order grows at its end; filled at random, its pages go to the disk and back for every few
rows. A replace of a million customers in PostgreSQL takes 3.3 s in order and 9 s as the parts come (both are a COPY
into a table with a unique index; ``python -m benchmarks.load`` shows the former).
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from daskae.arrow import to_array
from daskae.load.base import TableParts
from daskae.load.parts import open_part, read_batches, read_column

_ROWS_AT_ONCE = 25_000
_LEAST_STEP = 64


def read_in_order(parts: TableParts, max_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows as record batches of at most ``max_rows``, ascending by key where that can be had.

    Rows whose key is of several columns, or null, or of a type without an order, and parts that are not in order
    themselves, come as :func:`~daskae.load.parts.read_batches` gives them. In memory are the rows that are sorted at
    once.

    Raises
    ------
    ExchangeError
        When a part is missing, damaged or has other columns than the table.
    """
    bounds = _bounds(parts)
    if bounds is None:
        yield from read_batches(parts, max_rows)
        return
    cursors = [_Cursor(path, parts) for path in parts.files]
    for bound in (*bounds, None):
        if slices := [some for cursor in cursors for some in cursor.before(bound)]:
            table = pa.Table.from_batches(slices, parts.schema).sort_by(parts.keys[0]).combine_chunks()
            del slices
            yield from table.to_batches(max_rows)


def _bounds(parts: TableParts) -> list[Any] | None:
    """Choose keys with about as many rows between two of them as are to be sorted at once; None without an order."""
    if len(parts.files) < 2 or len(parts.keys) != 1 or not _has_order(parts):
        return None
    step = max(_LEAST_STEP, _ROWS_AT_ONCE // len(parts.files))
    samples: list[Any] = []
    for path in parts.files:
        with open_part(path, parts):  # its columns are those of the table
            found = _samples(path, parts, step)
        if found is None:
            return None
        samples += found
    several = max(1, _ROWS_AT_ONCE // step)
    return sorted(samples)[several::several]


def _has_order(parts: TableParts) -> bool:
    kind = parts.schema.field(parts.keys[0]).type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _samples(path: Path, parts: TableParts, step: int) -> Sequence[Any] | None:
    """Return the key of each ``step``-th row of a part; None where a key is null or less than the one before it."""
    found: list[Any] = []
    last, rows = None, 0
    for keys in filter(len, read_column(path, parts, parts.keys[0])):
        if keys.null_count or pc.any(pc.less(keys[1:], keys[:-1])).as_py():
            return None
        if last is not None and keys[0].as_py() < last:
            return None
        found += [keys[place].as_py() for place in range(-(rows + 1) % step, len(keys), step)]
        last, rows = keys[-1].as_py(), rows + len(keys)
    return found


class _Cursor:
    """The rows of a part that have not been taken yet; it is open only while some are."""

    def __init__(self, path: Path, parts: TableParts) -> None:
        self._path, self._parts = path, parts
        self._batch, self._row = 0, 0
        self._done = False
        self._next: Any = None
        """The key of the next row, where it is known."""

    def before(self, bound: Any) -> list[pa.RecordBatch]:
        """Take the next rows whose keys are below a bound, all where there is none."""
        if self._done or (bound is not None and self._next is not None and self._next >= bound):
            return []
        found = []
        with open_part(self._path, self._parts) as reader:
            while self._batch < reader.num_record_batches:
                columns = reader.get_batch(self._batch).columns
                batch = pa.RecordBatch.from_arrays(columns, schema=self._parts.schema).slice(self._row)
                end = batch.num_rows if bound is None else _place(batch.column(self._parts.keys[0]), bound)
                # A copy: of all parts together the pages would be many.
                found.append(batch.take(to_array(np.arange(end))))
                if end < batch.num_rows:
                    self._row, self._next = self._row + end, batch.column(self._parts.keys[0])[end].as_py()
                    break
                self._batch, self._row = self._batch + 1, 0
            else:
                self._done = True
        return [batch for batch in found if batch.num_rows]


def _place(keys: pa.Array, bound: Any) -> int:
    """Return the first place whose key is not below a bound."""
    if not len(keys) or keys[-1].as_py() < bound:
        return len(keys)
    return bisect_left(range(len(keys)), bound, key=lambda place: keys[place].as_py())
