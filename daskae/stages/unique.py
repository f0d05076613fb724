"""The unique pass: all keys of a range of key hashes at once; every row but the first of its key is named.

Equal hashes only select candidates; the keys themselves decide. What is held is bounded: a range too large is taken in
narrower ones, of a hash that many rows share two are kept, and of a key that many rows share its first place.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from daskae.arrow import to_array
from daskae.budget import checkpoint
from daskae.exchange import SLOTS, ExchangeWriter, commit_files, read_slots
from daskae.hashing import U64, bucket_of
from daskae.stages.layout import Layout

POSITION = "_position"
FINEST = 256
"""Narrower ranges that a slot may be taken in."""
_UNBOUNDED = 1 << 62


@dataclass(frozen=True)
class UniqueTask:
    """One range of key hashes of one rule."""

    rule: int
    """Index among the keyed rules."""
    first: int
    last: int
    folder: Path
    samples: int = 5
    """Repeated rows to show."""
    passes: int = 1
    """Narrower ranges of the hash that are taken one after another; a power of two."""
    most_rows: int = _UNBOUNDED
    """Rows to hold at once, roughly."""

    def __str__(self) -> str:
        return f"keys of slots [{self.first}:{self.last}]"


def find_duplicates(task: UniqueTask, layout_path: Path) -> dict[str, Any]:
    """Find the rows that repeat a key of an earlier row.

    Returns
    -------
    dict
        The manifest: ``file``, the exchange file that names the rows by customer slot (columns ``part`` and ``seq``),
        or
        None; ``affected``, how many they are; ``checked``, how many rows have a key; ``samples``, place in the input
        and key of the first of them.
    """
    layout = Layout.load(layout_path)
    task.folder.mkdir(parents=True, exist_ok=True)
    affected, checked = 0, 0
    samples: list[list[Any]] = []
    with ExchangeWriter(task.folder, "repeated") as writer:
        for keys in _ranges(task, layout):
            wanted, count = keys.repeated_hashes()
            checked += count
            for repeated in keys.repeated_rows(wanted):
                writer.append(repeated.select("part", "seq"), repeated["slot"].to_numpy())
                affected += repeated.height
                samples = sorted(samples + _first(repeated, task.samples))[: task.samples]
        file = writer.finish()
    name = file.name if file else None
    return commit_files(
        task.folder, {"file": name, "affected": affected, "checked": checked, "samples": samples}, [name]
    )


def _first(repeated: pl.DataFrame, count: int) -> list[list[Any]]:
    """Place in the input and key of the first rows."""
    rows = repeated.sort(POSITION).head(count)
    shown = rows.select(POSITION, pl.concat_str(_key_columns(rows), separator=", ").str.head(200))
    return [list(row) for row in shown.rows()]


def _key_columns(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name.startswith("key_") and name != "key_hash"]


def _ranges(task: UniqueTask, layout: Layout) -> Iterator["_Keys"]:
    width = max(1, (task.last - task.first) * FINEST // task.passes)
    for first in range(task.first * FINEST, task.last * FINEST, width):
        yield _Keys(task, layout, first, first + width)


@dataclass(frozen=True)
class _Keys:
    """The rows of a range of the key hash, in units of a ``FINEST``-th of a slot."""

    task: UniqueTask
    layout: Layout
    first: int
    last: int

    def repeated_hashes(self) -> tuple[U64, int]:
        """Return the hashes that occur more than once, in order, and how many rows there are."""
        held: list[pl.Series] = []
        rows, bound, count = 0, self.task.most_rows, 0
        for _, table in self._tables(["key_hash"]):
            held.append(pl.Series(pl.from_arrow(table["key_hash"])))
            count, rows = count + table.num_rows, rows + table.num_rows
            if rows > bound:
                held = [_two_of_each(held)]
                rows = len(held[0])
                bound = 2 * rows + self.task.most_rows
        return (repeated_values(pl.concat(held)).sort() if held else pl.Series(dtype=pl.UInt64)).to_numpy(), count

    def repeated_rows(self, wanted: U64) -> Iterator[pl.DataFrame]:
        """Yield the rows that repeat a key, some at a time, with their keys and places in the input."""
        if not len(wanted):
            return
        firsts, groups = pl.DataFrame(), 0
        group = pl.DataFrame()
        for group in self._candidates(wanted):
            keys = _key_columns(group)
            known = [firsts] if groups else []
            found = group.group_by(keys).agg(pl.col(POSITION).min())
            firsts = pl.concat([*known, found]).group_by(keys).agg(pl.col(POSITION).min())
            groups += 1
        for some in [group] if groups == 1 else self._candidates(wanted):
            first = some.join(firsts, on=_key_columns(some), how="left", maintain_order="left")[f"{POSITION}_right"]
            yield some.filter(some[POSITION] > first)

    def _candidates(self, wanted: U64) -> Iterator[pl.DataFrame]:
        """Yield the rows with one of some hashes, about ``most_rows`` at a time."""
        held: list[pl.DataFrame] = []
        rows = 0
        for part, table in self._tables():
            # Picked out before Polars sees them: its texts are copies, and repeated keys are few.
            some = table.filter(to_array(_are_among(_numbers(table), wanted)))
            if not some.num_rows:
                continue
            frame = pl.DataFrame(pl.from_arrow(some))
            position = pl.Series(POSITION, self.layout.positions(part, frame["seq"]))
            held.append(frame.with_columns(position, pl.lit(part, dtype=pl.UInt32).alias("part")))
            rows += frame.height
            if rows > self.task.most_rows:
                yield pl.concat(held)
                held, rows = [], 0
        if held:
            yield pl.concat(held)

    def _tables(self, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
        """Yield (partition, rows), a batch at a time."""
        slots = (self.first // FINEST, -(-self.last // FINEST))
        whole = self.first == slots[0] * FINEST and self.last == slots[1] * FINEST
        for part, path in self.layout.paths(f"keys-{self.task.rule}"):
            for table in read_slots(path, *slots, columns):
                yield part, table if whole else table.filter(to_array(self._are_inside(table)))
                checkpoint()

    def _are_inside(self, table: pa.Table) -> Any:
        places = bucket_of(_numbers(table), SLOTS * FINEST)
        return (places >= self.first) & (places < self.last)


def _numbers(table: pa.Table) -> U64:
    return pl.Series(pl.from_arrow(table["key_hash"])).to_numpy()


def _are_among(values: U64, wanted: U64) -> Any:
    """Say which values are among others that are in order; building a set of few is faster than searching many."""
    if len(wanted) < len(values):
        return pl.Series(values).is_in(pl.Series(wanted).implode()).to_numpy()
    places = np.searchsorted(wanted, values)
    return wanted[np.minimum(places, len(wanted) - 1)] == values


def _two_of_each(held: Iterable[pl.Series]) -> pl.Series:
    """Keep two of each value, if there are as many: what is repeated is repeated still."""
    ordered = pl.concat(held).sort()
    return ordered.filter((ordered != ordered.shift(2)).fill_null(True))


def repeated_values(values: pl.Series) -> pl.Series:
    """Return the values that occur more than once; sorting is the fastest way where that is rare."""
    ordered = values.sort()
    return ordered.filter(ordered == ordered.shift(1)).unique()
