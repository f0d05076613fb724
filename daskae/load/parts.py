"""Read the parts of a table back from the work directory, in order and in pieces of the size a sink wants.

Parts are memory-mapped: rows that are not yet asked for cost no memory, and an uncompressed part is not copied.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from daskae.arrow import to_array
from daskae.errors import ExchangeError
from daskae.load.base import TableParts


def read_batches(parts: TableParts, max_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table as record batches of at most ``max_rows``; none is empty.

    Raises
    ------
    ExchangeError
        When a part is missing, damaged or has other columns than the table.
    """
    for path in parts.files:
        with open_part(path, parts) as reader:
            for index in range(reader.num_record_batches):
                batch = pa.RecordBatch.from_arrays(reader.get_batch(index).columns, schema=parts.schema)
                for start in range(0, batch.num_rows, max_rows):
                    yield batch.slice(start, max_rows)


def read_column(path: Path, parts: TableParts, name: str) -> Iterator[pa.Array]:
    """Yield one column of a part, batch by batch; no other is read.

    Raises
    ------
    ExchangeError
        When the part is missing or damaged.
    """
    options = pa.ipc.IpcReadOptions(included_fields=[parts.schema.names.index(name)])
    with _reading(path), pa.memory_map(str(path)) as source, pa.ipc.open_file(source, options=options) as reader:
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index).column(0)


class PartRows:
    """The rows of a table by their places, from 0; only their whereabouts are held."""

    def __init__(self, parts: TableParts) -> None:
        self._parts = parts
        self._blocks: list[tuple[Path, int]] = []
        starts = [0]
        for path in parts.files:
            with open_part(path, parts) as reader:
                for index in range(reader.num_record_batches):
                    self._blocks.append((path, index))
                    starts.append(starts[-1] + reader.get_batch(index).num_rows)
        self.count = starts[-1]
        self._starts = np.array(starts)

    def take(self, places: npt.NDArray[np.int64]) -> pa.Table:
        """Return the rows at these places, which ascend."""
        blocks = np.searchsorted(self._starts, places, side="right") - 1
        bounds = np.searchsorted(blocks, np.arange(len(self._blocks) + 1))
        touched = (number for number in np.flatnonzero(np.diff(bounds)).tolist())
        taken: list[pa.RecordBatch] = []
        for path, numbers in groupby(touched, lambda number: self._blocks[number][0]):
            with open_part(path, self._parts) as reader:
                for number in numbers:
                    found = places[bounds[number] : bounds[number + 1]] - self._starts[number]
                    batch = _pick(reader.get_batch(self._blocks[number][1]), found)
                    taken.append(pa.RecordBatch.from_arrays(batch.columns, schema=self._parts.schema))
        return pa.Table.from_batches(taken, self._parts.schema)


def _pick(batch: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    if (np.diff(rows) == 1).all():
        return batch.slice(int(rows[0]), len(rows))  # no copy
    return batch.take(to_array(rows))


def _check_columns(schema: pa.Schema, parts: TableParts, path: Path) -> None:
    if schema.names != parts.schema.names or schema.types != parts.schema.types:
        raise ExchangeError(
            f"a part of table {parts.name} has other columns than the table",
            where=str(path),
            got=_columns(schema),
            allowed=_columns(parts.schema),
            hint="run again with --fresh",
        )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


@contextmanager
def open_part(path: Path, parts: TableParts) -> "Iterator[pa.RecordBatchFileReader]":
    """Open a part and check that it has the columns of its table.

    Raises
    ------
    ExchangeError
        When it is missing, damaged or has other columns.
    """
    with _reading(path), pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        _check_columns(reader.schema, parts, path)
        yield reader


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the part when Arrow cannot read it. What the caller does with the rows is not caught here."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise ExchangeError(
            "a part in the work directory cannot be read",
            where=str(path),
            got=str(error),
            hint="run the same command again; a missing part is made anew, --fresh makes all anew",
        ) from error
