"""Where every partition's rows stand in the whole input; what the stages after map are told of the stage before.

Rows are numbered over the input in path order. A row travels as (partition, number in the partition); the layout turns
that into its place in the input, which decides who was first among duplicates, whatever the partitioning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from daskae.durable import replacing
from daskae.errors import ExchangeError
from daskae.partition import PartitionRef, PartitionResult, starting_rows
from daskae.sealed import seal, unseal


@dataclass(frozen=True)
class PartLayout:
    """One partition's output and the place of its rows."""

    folder: str
    files: dict[str, str]
    """File names by role: ``rows``, ``keys-0`` ..., ``rejects``."""
    starts: tuple[int, ...]
    """First row of each segment, counted in the partition."""
    overall: tuple[int, ...]
    """First row of each segment, counted in the whole input."""
    in_file: tuple[int, ...]
    """First row of each segment, counted in its file."""

    def path(self, role: str) -> Path | None:
        """Return the file of a role, if there is one."""
        name = self.files.get(role)
        return None if name is None else Path(self.folder) / name


@dataclass(frozen=True)
class Layout:
    """All partitions of a run, in the order of the plan."""

    parts: tuple[PartLayout, ...]

    def paths(self, role: str) -> list[tuple[int, Path]]:
        """List (partition, file) for a role."""
        found = ((i, part.path(role)) for i, part in enumerate(self.parts))
        return [(i, path) for i, path in found if path is not None]

    def positions(self, part: int, seq: pl.Series) -> NDArray[np.int64]:
        """Turn row numbers of a partition into places in the whole input."""
        layout = self.parts[part]
        rows: NDArray[np.int64] = seq.to_numpy().astype(np.int64)
        if len(layout.starts) == 1:
            return rows + layout.overall[0]
        segment = np.searchsorted(np.array(layout.starts), rows, side="right") - 1
        shift: NDArray[np.int64] = np.array(layout.overall) - np.array(layout.starts)
        return rows + shift[segment]

    def save(self, path: Path) -> None:
        """Write as JSON, for tasks to load."""
        rows = [[p.folder, p.files, p.starts, p.overall, p.in_file] for p in self.parts]
        with replacing(path) as temporary:
            temporary.write_text(seal(rows))

    @classmethod
    def load(cls, path: Path) -> "Layout":
        """Read what :meth:`save` wrote; a process that has done so keeps it for its next task."""
        status = path.stat()
        return _load(path, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=1)
def _load(path: Path, *version: int) -> Layout:
    try:
        rows = unseal(path.read_text())
    except (OSError, ValueError) as error:
        raise ExchangeError("the layout of the input's rows is damaged", str(path), str(error)[:200]) from error
    return Layout(tuple(PartLayout(a, b, tuple(c), tuple(d), tuple(e)) for a, b, c, d, e in rows))


def build_layout(refs: Sequence[PartitionRef], results: Sequence[PartitionResult], folders: Sequence[Path]) -> Layout:
    """Number all rows of the input.

    Parameters
    ----------
    refs, results, folders
        Of every partition, in the same order.
    """
    segments = [segment for ref in refs for segment in ref.segments]
    rows = [count for result in results for count in result.segment_rows]
    overall, in_file = starting_rows(segments, rows)
    parts, done = [], 0
    for result, folder in zip(results, folders, strict=True):
        here = slice(done, done + len(result.segment_rows))
        starts = np.concatenate([[0], np.cumsum(result.segment_rows)[:-1]]).astype(int).tolist()
        names = {role: file.name for role, file in result.files.items()}
        parts.append(PartLayout(str(folder), names, tuple(starts), tuple(overall[here]), tuple(in_file[here])))
        done += len(result.segment_rows)
    return Layout(tuple(parts))
