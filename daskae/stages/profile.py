"""The profile task: one partition in, what its columns hold out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from daskae.batch import Batch
from daskae.exchange import commit
from daskae.hashing import digest_texts
from daskae.partition import PartitionRef, Segment
from daskae.profile.scan import Reading, count_broken, profile_chunk, rows_of
from daskae.profile.state import TableState
from daskae.read.dialect import Dialect
from daskae.read.reader import read_segments

FORMAT_VERSION = "1"
"""Raised whenever the states change their meaning."""
GATHER_BYTES = 8 << 20
"""Cells profiled at once. A column costs some milliseconds however few its rows, so batches are put together; more at
once would save another tenth of the time (measured) and cost memory."""


@dataclass(frozen=True)
class ProfileTask:
    """One partition and where its state belongs."""

    ref: PartitionRef
    folder: Path

    def __str__(self) -> str:
        return str(self.ref)


def profile_fingerprint(dialect: Dialect, reading: Reading) -> str:
    """Return the identity of everything but the input that decides a state."""
    return digest_texts("profile", FORMAT_VERSION, pl.__version__, repr(dialect), repr(reading))


def profile_partition(task: ProfileTask, dialect: Dialect, reading: Reading) -> dict[str, Any]:
    """Profile all columns of one partition.

    Returns
    -------
    dict
        ``rows``, how many were read; the state is in the manifest of the folder, under ``state``.

    Raises
    ------
    InputError
        If a source cannot be read to its end.
    """
    task.folder.mkdir(parents=True, exist_ok=True)
    gathered = Gathered(reading)
    for batch in read_segments(task.ref.segments, dialect, _all_columns):
        gathered.add(batch)
    state = gathered.finish()
    commit(task.folder, {"rows": state.rows, "state": state.to_json()})
    return {"rows": state.rows}


def _all_columns(segment: Segment) -> Sequence[str]:
    return segment.columns


@dataclass
class Gathered:
    """Collects batches until they are worth profiling."""

    reading: Reading
    state: TableState = field(default_factory=TableState)
    _held: list[pl.DataFrame] = field(default_factory=list)
    _held_bytes: int = 0

    def add(self, batch: Batch) -> None:
        """Take one batch."""
        self.state = self.state.merge(count_broken(batch))
        cells = rows_of(batch)
        if self._held and self._held[0].schema != cells.schema:
            self._flush()
        self._held.append(cells)
        self._held_bytes += int(cells.estimated_size())
        if self._held_bytes > GATHER_BYTES:
            self._flush()

    def finish(self) -> TableState:
        """Return the state of all batches."""
        self._flush()
        return self.state

    def _flush(self) -> None:
        if self._held:
            self.state = self.state.merge(profile_chunk(pl.concat(self._held, rechunk=True), self.reading))
        self._held, self._held_bytes = [], 0
