"""Small ways to cut and read sources, and to see all rows in one list."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daskae.batch import Batch
from daskae.partition import Segment
from daskae.read.csv import WINDOW, read_batches
from daskae.read.dialect import Dialect
from daskae.read.scan import scan_csv

PLAIN = Dialect()
POOL = ThreadPoolExecutor(2)


@dataclass(frozen=True)
class Row:
    """One record as the reader gives it, good or broken."""

    segment: int
    cells: tuple[Any, ...] | None
    reason: str
    message: str
    raw: str
    offset: int | None


def cut(path: Path, dialect: Dialect = PLAIN, block: int = 1 << 20) -> list[Segment]:
    """Cut a CSV file."""
    return scan_csv(str(path), path.name, dialect, block, POOL)


def rows_of_batch(batch: Batch) -> list[Row]:
    """List the records of one batch, and check that it is consistent in itself."""
    assert batch.count == batch.cells.height + len(batch.broken) == sum(span.rows for span in batch.spans)
    if not batch.count:
        return []
    raw, offsets = batch.raw(np.arange(batch.count))
    starts = batch.known_starts()
    assert starts is None or starts.tolist() == offsets.to_list()
    segments = [span.segment for span in batch.spans for _ in range(span.rows)]
    headers = [False] * batch.cells.height if batch.is_header is None else batch.is_header.to_list()
    good = dict(zip(batch.row_numbers().tolist(), zip(batch.cells.rows(), headers, strict=True), strict=True))
    broken = {item.row: item for item in batch.broken}
    assert len(broken) == len(batch.broken)
    found = []
    for i in range(batch.count):
        place = (raw[i], offsets[i])
        if i in broken:
            found.append(Row(segments[i], None, broken[i].reason, broken[i].message, *place))
        else:
            cells, is_header = good[i]
            found.append(Row(segments[i], cells, "repeated_header" if is_header else "", "", *place))
    return found


def read(
    segments: Sequence[Segment], dialect: Dialect = PLAIN, columns: Sequence[str] | None = None, window: int = WINDOW
) -> list[Row]:
    """Read all rows of segments."""
    batches = read_batches(segments, dialect, lambda segment: columns or segment.columns, window)
    return [row for batch in batches for row in rows_of_batch(batch)]


def read_bytes(
    folder: Path, data: bytes, dialect: Dialect = PLAIN, block: int = 1 << 20, name: str = "a.csv"
) -> list[Row]:
    """Write, cut and read one file."""
    path = folder / name
    path.write_bytes(data)
    return read(cut(path, dialect, block), dialect)


def cells(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Cells of the good rows."""
    return [row.cells for row in rows if row.cells is not None and not row.reason]


def reasons(rows: Sequence[Row]) -> list[str]:
    """Why rows are broken, empty for good ones."""
    return [row.reason for row in rows]


def settle(path: Path) -> None:
    """Make a file look as if it had been written some time ago."""
    long_ago = time.time() - 60
    os.utime(path, (long_ago, long_ago))
