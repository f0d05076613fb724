"""Rows that reduce tasks rejected, by partition: found among all of them, and read once more for their raw text.

A compressed file is one partition whatever its size, so its rows come some at a time and in order. Rejects stand in the
order of their customers' hash. Those of a large partition are dealt into stretches of the input first, in a file of the
task's own, so that each is read three times however many they are, and not once for each stretch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from daskae.arrow import gathered, to_array
from daskae.batch import RawRows, RowNumbers
from daskae.budget import checkpoint
from daskae.exchange import SLOTS, ExchangeWriter, read_frame, read_slots
from daskae.partition import PartitionRef, Segment
from daskae.read.raw import read_records
from daskae.read.reader import raw_batches
from daskae.stages.large import runs
from daskae.stages.layout import PartLayout
from daskae.stages.spec import Spec

MOST_ROWS = 1 << 19
"""Rows to hold at once, as numbers and truth values."""
TEXTS_AT_ONCE = 1 << 14
"""Rows whose text is held at once."""
_STRETCH = 1 << 16
"""Rows of the input that are counted together to find out how many are rejected."""


@dataclass(frozen=True)
class LateRejects:
    """The late rejects of one partition."""

    part: int
    ref: PartitionRef
    files: tuple[Path, ...]
    """Files of rows that reduce tasks rejected, of all partitions."""
    layout: PartLayout
    spec: Spec
    folder: Path
    """Where a file may be that is needed for a while."""

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield the rows in the order of the input, with ``segment``, ``row``, reasons and raw text."""
        texts = _Texts(self.ref, self.layout, self.spec)
        for found in self.in_order():
            for index, inside in self._by_segment(found):
                rows = inside["seq"].to_numpy().astype(np.int64) - self.layout.starts[index]
                for picked, text, offsets in texts.of(index, rows):
                    late = _with_reasons(inside[picked], self.spec)
                    yield _described(late, index, rows[picked], text, offsets)
                    checkpoint()

    def _by_segment(self, late: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the rows of each segment that has any; they are in order."""
        bounds = np.searchsorted(late["seq"].to_numpy(), [*self.layout.starts, np.iinfo(np.uint32).max + 1])
        for index, (first, last) in enumerate(pairwise(bounds.tolist())):
            if first < last:
                yield index, late[first:last]

    def in_order(self) -> Iterator[pl.DataFrame]:
        """Yield the rows as reduce tasks wrote them, in the order of the input, about ``MOST_ROWS`` at a time."""
        stretches = self._stretches()
        if len(stretches) == 1:
            yield _sorted(self._tables())
            return
        for first in range(0, len(stretches), SLOTS):
            yield from self._dealt(stretches[first : first + SLOTS])

    def _stretches(self) -> list[tuple[int, int]]:
        """Cut the partition's rows so that no stretch has more late rejects than may be held."""
        counts = np.zeros(1, np.int64)
        for table in self._tables(["part", "seq"]):
            found = np.bincount(_numbers(table) // _STRETCH)
            counts = np.pad(counts, (0, max(0, len(found) - len(counts))))
            counts[: len(found)] += found
        return [(first * _STRETCH, last * _STRETCH) for first, last in runs(counts, MOST_ROWS)]

    def _dealt(self, stretches: Sequence[tuple[int, int]]) -> Iterator[pl.DataFrame]:
        """Yield the rows of some stretches, which are put together in a file before; each is a slot of it."""
        starts, end = np.array([first for first, _ in stretches]), stretches[-1][1]
        with ExchangeWriter(self.folder, "late-dealt", SLOTS) as writer:
            try:
                for table in gathered(_inside(self._tables(), starts[0], end), MOST_ROWS):
                    stretch = np.searchsorted(starts, _numbers(table), side="right") - 1
                    writer.append(pl.DataFrame(pl.from_arrow(table)), stretch.astype(np.uint16))
                    checkpoint()
                writer.finish()
                for slot in range(len(stretches)):
                    yield _sorted(read_slots(self.folder / writer.name, slot, slot + 1))
            finally:
                (self.folder / writer.name).unlink(missing_ok=True)

    def _tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        return late_tables(self.files, self.part, columns)


def _numbers(table: pa.Table) -> NDArray[np.int64]:
    """Return the number of each row in its partition."""
    return pl.Series(pl.from_arrow(table["seq"])).to_numpy().astype(np.int64)


def _sorted(tables: Iterable[pa.Table]) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables))).sort("seq")


def _inside(tables: Iterable[pa.Table], first: int, last: int) -> Iterator[pa.Table]:
    """Pick the rows whose numbers are in a range."""
    for table in tables:
        seq = _numbers(table)
        yield table.filter(to_array((seq >= first) & (seq < last)))


def late_tables(files: Sequence[Path], part: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read the rows of one partition from the files of late rejects of all; ``columns`` has to hold ``part``."""
    slot = part % 256
    for path in files:
        for table in read_slots(path, slot, slot + 1, columns):
            mine = pl.Series(pl.from_arrow(table["part"])).to_numpy() == part
            if mine.any():
                yield table.filter(to_array(mine))


def _with_reasons(late: pl.DataFrame, spec: Spec) -> pl.DataFrame:
    """Name the rules that rows broke, in the rules' order."""
    names = [
        pl.when(pl.col(f"broken_{i}")).then(pl.lit(rule.name)).alias(f"n{i}")
        for i, rule in enumerate(spec.global_rules)
        if rule.rejects
    ]
    marked = late.select("seq", *names)
    reasons = pl.concat_list(marked.columns[1:]).list.drop_nulls()
    return marked.select("seq", reasons.alias("reasons")).with_columns(pl.col("reasons").list.first().alias("reason"))


def _described(late: pl.DataFrame, segment: int, rows: RowNumbers, text: pl.Series, offsets: pl.Series) -> pl.DataFrame:
    """Put together what is known of rows; they were good ones when they were first read, so no cell is to blame."""
    nothing = pl.lit(None, dtype=pl.String)
    return late.drop("seq").with_columns(
        pl.lit(segment, dtype=pl.UInt32).alias("segment"), pl.Series("row", rows), text.alias("raw"),
        offsets.alias("byte_offset"), nothing.alias("column"), nothing.alias("value"),
    )  # fmt: skip


_Found = tuple[NDArray[np.int64], pl.Series, pl.Series]
"""Which of the wanted rows, their texts, and their byte offsets."""


class _Texts:
    """Reads raw text of rows that are asked for in rising order; no part of a source is read twice."""

    def __init__(self, ref: PartitionRef, layout: PartLayout, spec: Spec) -> None:
        self._ref, self._layout, self._spec = ref, layout, spec
        self._segment = -1
        self._batches: Iterator[tuple[int, RawRows]] = iter(())
        self._done, self._count = 0, 0
        """Rows before the last batch that was read, and of it."""
        self._raw: RawRows | None = None

    def of(self, segment: int, rows: RowNumbers) -> Iterator[_Found]:
        """Yield the texts of some rows of a segment, a batch at a time."""
        if self._places is None:
            return self._from_batches(segment, rows)
        return self._by_place(self._ref.segments[segment], rows, self._places[segment])

    @cached_property
    def _places(self) -> list[RowNumbers] | None:
        """The byte offset of every row by segment, where they were kept."""
        kept = self._layout.path("starts")
        if kept is None:
            return None
        return np.split(read_frame([kept])["start"].to_numpy(), self._layout.starts[1:])

    def _by_place(self, segment: Segment, rows: RowNumbers, starts: RowNumbers) -> Iterator[_Found]:
        ends = np.append(starts[1:], segment.end)
        for first in range(0, len(rows), TEXTS_AT_ONCE):
            some = np.arange(first, min(first + TEXTS_AT_ONCE, len(rows)))
            wanted = rows[some]
            yield some, *read_records(segment, self._spec.dialect, starts[wanted].tolist(), ends[wanted].tolist())

    def _from_batches(self, segment: int, rows: RowNumbers) -> Iterator[_Found]:
        if segment != self._segment:
            self._segment, self._done, self._count, self._raw = segment, 0, 0, None
            source = self._ref.segments[segment]
            self._batches = iter(raw_batches(source, self._spec.dialect, self._spec.columns_to_read))
        while True:
            end = self._done + self._count
            picked = np.flatnonzero((rows >= self._done) & (rows < end))
            for first in range(0, len(picked), TEXTS_AT_ONCE):
                some = picked[first : first + TEXTS_AT_ONCE]
                assert self._raw is not None
                yield some, *self._raw(rows[some] - self._done)
            if rows[-1] < end:
                return
            self._done = end
            self._count, self._raw = next(self._batches)
