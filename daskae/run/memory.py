"""What a task will need, as named terms in bytes: measured on the first records of the input, before anything is run.

The factors are measured on generated orders and hold with a margin, see ``tests/laws/test_memory.py``: text, cells and
their checked copies are there at once; accepted rows take eight times their bytes while they are sorted and written,
as short texts are kept in views of 16 bytes; a bucket takes six times its bytes while it is grouped, most of it for
sums of 128 bits and for memory that the allocators have not given back yet. Orders as a DataFrame, for metrics that are
functions on one, come on top.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from daskae.allocators import release_memory
from daskae.errors import DaskaeError
from daskae.monitor.memory import current_rss
from daskae.partition import PartitionRef, PartitionResult, Segment
from daskae.read.csv import WINDOW
from daskae.read.parquet import rows_of
from daskae.read.reader import read_segments
from daskae.read.row_groups import BATCH_ROWS
from daskae.run.inputs import Source
from daskae.stages.frames import FRAMED, GROUPED
from daskae.stages.map import FLUSH_BYTES, to_units
from daskae.stages.spec import Spec
from daskae.validate.check import check_batch

_IDLE = 200 << 20
"""A worker with its libraries before its first task: 191 MiB (measured)."""
_SAMPLE = 1 << 20
_WINDOW_FACTOR, _ROWS_FACTOR = 4, 8
_PANDAS = 48 << 20
"""A process that has imported pandas holds so much more: 33 MiB (measured)."""
_BUCKET_BASE = 128 << 20
"""Buffers of the smallest bucket, and the states of its customers, which are held whole."""
_SLACK = 32 << 20
"""Freed memory that the allocators have not given back yet."""
_LEAST = 1 << 20
"""Exchange bytes of a bucket that are held at once, whatever the limit."""
_CELL = 20
"""Bytes of a text cell beside its text: Arrow's offset and Polars' view."""
_HASHES = 20
"""Bytes of hashes, numbers and keys beside the kept columns of a row."""


@dataclass(frozen=True)
class MemoryTerm:
    """One term of a task's projected memory."""

    name: str
    nbytes: int


@dataclass(frozen=True)
class Expansion:
    """What a byte of input becomes."""

    cells: float
    """Bytes of cells, as read."""
    kept: float
    """Bytes of rows that go to the exchange."""
    batch: int
    """Input bytes that are parsed at once."""


def stored_to_text(segment: Segment) -> int:
    """Text bytes behind one stored byte, roughly."""
    if segment.kind == "parquet":
        return 5  # 5.2 of generated orders
    return 6 if segment.compression else 1


def measure(source: Source, spec: Spec) -> Expansion:
    """Read and check the first records of the largest segment, and see how large they become.

    What cannot be read is left to the task that will say so; an expansion as of generated orders is assumed then.
    """
    largest = max(source.segments, key=lambda segment: segment.nbytes, default=None)
    usual = Expansion(2.0, 1.0, WINDOW)
    if largest is None or largest.kind == "sql":
        return usual
    if largest.kind == "csv" and not largest.compression:
        head = replace(largest, end=min(largest.end, largest.start + _SAMPLE), corrections="")
    else:
        head = replace(largest, corrections="")
    try:
        batch = next(iter(read_segments([head], spec.dialect, spec.columns_to_read)))
        columns = [name for name in spec.checked_columns if name in spec.contract.names]
        checked = check_batch(batch, spec.contract, (), columns)
        rows = rows_of(largest) if largest.kind == "parquet" else batch.count
    except (DaskaeError, StopIteration):
        return usual
    sizes = [to_units(column).estimated_size() for column in checked.accepted.get_columns()]
    places = _CELL * batch.cells.width * batch.cells.height
    cells, kept = int(batch.cells.estimated_size()) + places, sum(sizes) + _HASHES * len(checked.rows)
    if not len(checked.rows):  # nothing can be said of rows that are kept
        return usual
    accepted = len(checked.rows) / batch.count
    if largest.kind == "csv" and not largest.compression:
        read = max(1, head.end - head.start)
        return Expansion(cells / read, kept / read / accepted, WINDOW)
    if largest.kind == "parquet":
        share = batch.count / max(1, rows)
        text = max(1, int(largest.nbytes * stored_to_text(largest) * share))
        return Expansion(cells / text, kept / text / accepted, max(1, text * min(BATCH_ROWS, rows) // batch.count))
    # How many stored bytes the batch took cannot be seen: text takes about as much as its cells.
    nbytes = max(1, cells)
    return Expansion(1.0, kept / nbytes / accepted, nbytes)


@dataclass(frozen=True)
class Projection:
    """The memory of a run's tasks."""

    expansion: Expansion
    reserved: int
    largest: float
    """Text bytes of the largest partition; infinite where some are compressed, for how far cannot be seen."""
    bucket: int
    """Exchange bytes of a bucket, where customers are spread evenly."""
    total: int
    """Exchange bytes of all buckets."""
    held: int
    """Bytes of dimensions that a process holds whole."""
    at_once: int
    """Tasks that share a process."""
    frames: bool = False
    """Whether metrics are functions on a DataFrame."""

    @property
    def _apart(self) -> int:
        """Bytes that a process holds whatever its tasks do."""
        return self.reserved + 3 * self.held + _PANDAS * self.frames

    @property
    def _batch(self) -> int:
        return int(min(self.expansion.batch, max(self.largest, 1)))

    @property
    def _window(self) -> int:
        return _SLACK + int(self._batch * (2 + _WINDOW_FACTOR * self.expansion.cells))

    def terms(self, most_bytes: int = 0, flush_bytes: int = FLUSH_BYTES) -> tuple[MemoryTerm, ...]:
        """Name what a process needs while the stage that needs most is run.

        ``most_bytes`` is as in a reduce task, ``flush_bytes`` as in a map task.
        """
        kept, window = self.expansion.kept, self._window
        rows = int(_ROWS_FACTOR * min(kept * self.largest, flush_bytes + kept * self._batch))
        grouped, framed = (factor * (most_bytes or self.bucket) for factor in (GROUPED, FRAMED * self.frames))
        shared = f", {self.at_once} at once"
        if window + rows >= _BUCKET_BASE + grouped + framed:
            stage = [
                MemoryTerm(f"text and cells while they are checked{shared}", self.at_once * window),
                MemoryTerm(f"rows of a partition until they are written{shared}", self.at_once * rows),
            ]
        else:
            stage = [
                MemoryTerm(f"rows of a bucket while they are grouped{shared}", self.at_once * (_BUCKET_BASE + grouped)),
                MemoryTerm(f"orders of a bucket as a DataFrame{shared}", self.at_once * framed),
            ]
        held = [
            MemoryTerm("dimensions that steps look up", 3 * self.held),
            MemoryTerm("pandas, for metrics on a DataFrame", _PANDAS * self.frames),
        ]
        terms = (MemoryTerm("the process with its libraries, measured", self.reserved), *stage, *held)
        return tuple(term for term in terms if term.nbytes)

    def flush_bytes(self, allowed: int | None) -> int:
        """Return how many bytes of accepted rows a map task may hold before it writes them."""
        if allowed is None:
            return FLUSH_BYTES
        room = (allowed - self._apart) // self.at_once - self._window
        return max(_LEAST, min(FLUSH_BYTES, int(room / _ROWS_FACTOR - self.expansion.kept * self._batch)))

    def most_bucket_bytes(self, allowed: int | None) -> int:
        """Return how many exchange bytes of a bucket a task may hold; a larger one is reduced a part at a time."""
        wanted = max(2 * self.bucket, 16 << 20)
        if allowed is not None:
            room = (allowed - self._apart) // self.at_once - _BUCKET_BASE
            wanted = min(wanted, room // (GROUPED + FRAMED * self.frames))
        return max(_LEAST, min(wanted, self.total))


def expansion_of(source: Source, results: Collection[PartitionResult]) -> Expansion:
    """See how large the input has become: all of it was read by earlier runs.

    How much text there was in compressed files is not known; it is taken for its cells, as when it is measured, and
    what is kept of cells is no more than they are.
    """
    text = sum(segment.nbytes * stored_to_text(segment) for segment in source.segments)
    kept = exchanged_bytes(results) / max(1, text)
    if any(segment.compression for segment in source.segments):
        return Expansion(1.0, min(kept, 1.0), WINDOW)
    return Expansion(2.0, kept, WINDOW)


def exchanged_bytes(results: Collection[PartitionResult]) -> int:
    """Return the size of all accepted rows as map tasks left them."""
    return sum(result.files["rows"].nbytes for result in results if "rows" in result.files)


def project(
    refs: Sequence[PartitionRef],
    source: Source,
    buckets: int,
    spec: Spec,
    at_once: int,
    reused: Mapping[str, PartitionResult],
) -> Projection:
    """Put together what decides a task's memory; the idle process is measured before the input is looked at."""
    release_memory()
    reserved = max(_IDLE, current_rss())
    everything = all(ref.content_id in reused for ref in refs)
    expansion = expansion_of(source, reused.values()) if everything else measure(source, spec)
    compressed = any(segment.compression for segment in source.segments)
    sizes = (ref.nbytes * max(stored_to_text(segment) for segment in ref.segments) for ref in refs)
    largest = math.inf if compressed else max(sizes, default=0)
    total = math.ceil(expansion.kept * sum(segment.nbytes * stored_to_text(segment) for segment in source.segments))
    held = sum(lookup.nbytes for lookup in spec.steps.lookups if not lookup.is_late)
    return Projection(
        expansion, reserved, largest, total // buckets, total, held, at_once, bool(spec.frame_metrics)
    )  # fmt: skip
