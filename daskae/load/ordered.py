"""Read the rows of a table in the order of their key, from parts that are each in that order, in bounded memory.

An index that is filled in order grows at its end; filled at random, its pages go to the disk and back for every few
rows. A replace of a million customers in PostgreSQL takes 3.3 s in order and 9 s as the parts come (both are a COPY
into a table with a unique index; ``python -m benchmarks.load`` shows the former).
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from daskae.load.base import TableParts
from daskae.load.parts import open_part, read_batches

_ROWS_AT_ONCE = 50_000
_LEAST_STEP = 64


def read_in_order(parts: TableParts, max_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows as record batches of at most ``max_rows``, ascending by key where that can be had.

    Rows whose key is of several columns, or null, or of a type without an order, and parts that are not in order
    themselves, come as :func:`~daskae.load.parts.read_batches` gives them.

    Raises
    ------
    ExchangeError
        When a part is missing, damaged or has other columns than the table.
    """
    if len(parts.files) < 2 or len(parts.keys) != 1 or not _has_order(parts):
        yield from read_batches(parts, max_rows)
        return
    with ExitStack() as stack:
        opened = [_Part(stack.enter_context(open_part(path, parts)), parts) for path in parts.files]
        if not all(part.is_in_order() for part in opened):
            yield from read_batches(parts, max_rows)
            return
        begins = [0] * len(opened)
        for bound in (*_bounds(opened), None):
            ends = [part.find(bound, begin) for part, begin in zip(opened, begins, strict=True)]
            places = zip(opened, begins, ends, strict=True)
            slices = [batch for part, begin, end in places for batch in part.slices(begin, end)]
            if slices:
                table = pa.Table.from_batches(slices, parts.schema)
                yield from table.sort_by(parts.keys[0]).combine_chunks().to_batches(max_rows)
            begins = ends


def _bounds(opened: "Sequence[_Part]") -> list[Any]:
    """Choose keys with about as many rows between two of them as are to be sorted at once."""
    step = max(_LEAST_STEP, _ROWS_AT_ONCE // len(opened))
    samples = sorted(key for part in opened for key in part.every(step))
    several = max(1, _ROWS_AT_ONCE // step)
    return samples[several::several]


class _Part:
    """An opened part; rows are read when they are asked for."""

    def __init__(self, reader: "pa.RecordBatchFileReader", parts: TableParts) -> None:
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        self._table = pa.Table.from_batches(
            [pa.RecordBatch.from_arrays(batch.columns, schema=parts.schema) for batch in batches], parts.schema
        )
        self._keys: pa.ChunkedArray = self._table[parts.keys[0]]

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def is_in_order(self) -> bool:
        """Tell whether no key is null or less than the one before it."""
        if self._keys.null_count:
            return False
        last: list[Any] = []
        for chunk in filter(len, self._keys.chunks):
            if last and chunk[0].as_py() < last[0]:
                return False
            if pc.any(pc.less(chunk[1:], chunk[:-1])).as_py():
                return False
            last = [chunk[-1].as_py()]
        return True

    def every(self, step: int) -> Sequence[Any]:
        """Return the last key of each ``step`` rows."""
        return [self._keys[place].as_py() for place in range(step - 1, len(self), step)]

    def find(self, bound: Any, begin: int) -> int:
        """Return the first place from ``begin`` on whose key is not below a bound; the end where there is no bound."""
        if bound is None:
            return len(self)
        return bisect_left(range(len(self)), bound, begin, key=lambda place: self._keys[place].as_py())

    def slices(self, begin: int, end: int) -> list[pa.RecordBatch]:
        """Return some rows, without a copy."""
        batches: list[pa.RecordBatch] = self._table.slice(begin, end - begin).to_batches()
        return batches


def _has_order(parts: TableParts) -> bool:
    kind = parts.schema.field(parts.keys[0]).type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))
