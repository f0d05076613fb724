"""What every reader yields: a few megabytes of rows with their cells as read, and where each came from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

RowNumbers = NDArray[np.int64]
RawRows = Callable[[RowNumbers], tuple[pl.Series, pl.Series]]


@dataclass(frozen=True)
class Broken:
    """A record that could not be split into cells."""

    row: int
    """Index among the batch's records, from 0."""
    reason: str
    message: str


@dataclass(frozen=True)
class Span:
    """Rows of a batch that come from one segment; spans follow each other without gaps."""

    segment: int
    """Index of the segment among those that are read."""
    rows: int


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of one segment, or of several small ones.

    A row is a data record; the header and blank lines are none. ``count == len(cells) + len(broken)``.
    """

    cells: pl.DataFrame
    """The columns asked for: text for CSV, the source's own types for Parquet and SQL."""
    count: int
    """Rows read, broken ones included."""
    raw: RawRows
    """Give the raw text and the byte offset in the source (None where it has none) of rows, by index in the batch."""
    spans: tuple[Span, ...]
    broken: list[Broken] = field(default_factory=list)

    is_header: pl.Series | None = None
    """Which rows of ``cells`` are the header line once more; None for none."""
    corrected: int = 0
    """Rows that stand in for a record of the source."""
    starts: Callable[[], RowNumbers | None] = field(default=lambda: None)
    """Give the byte offset in the source of every row, if that is known already."""

    def known_starts(self) -> RowNumbers | None:
        """Return the byte offset of every row, or None where finding them would cost another pass."""
        return self.starts()

    def row_numbers(self) -> RowNumbers:
        """Index in the batch of each row of ``cells``."""
        if not self.broken:
            return np.arange(self.count)
        keep = np.ones(self.count, bool)
        keep[[broken.row for broken in self.broken]] = False
        return np.flatnonzero(keep)

    def places(self, rows: RowNumbers, done: Sequence[int] = ()) -> tuple[RowNumbers, RowNumbers]:
        """Return the segment of each row and its number in the segment.

        Parameters
        ----------
        rows : ndarray
            By index in the batch.
        done : sequence of int
            Rows of each segment in earlier batches; none unless given.
        """
        starts = np.cumsum([0, *(span.rows for span in self.spans)])
        span = np.searchsorted(starts, rows, side="right") - 1
        segments = np.array([item.segment for item in self.spans], np.int64)
        before = np.array([done[item.segment] if len(done) else 0 for item in self.spans], np.int64) - starts[:-1]
        return segments[span], rows + before[span]

    def shifted(self, first: int) -> "Batch":
        """Return the batch with its segments counted from ``first``."""
        return replace(self, spans=tuple(Span(span.segment + first, span.rows) for span in self.spans))
