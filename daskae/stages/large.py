"""Buckets that do not fit into memory, reduced a part at a time, with the same result to the byte.

A bucket is a range of the customers' hash, so it can be read in narrower ranges, each in a pass over the batches of its
slots; what they leave is put together in the same order. Where the narrowest range is still too much, its customers are
taken in groups, and one who is too large by himself as :mod:`daskae.stages.giant` says.

Metrics that are functions on a DataFrame need all orders of a customer at once, so with them the largest customer has
to fit: whether he will is asked before he is read.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from daskae.aggregate.aggregation import CUSTOMER
from daskae.exchange import SLOTS
from daskae.hashing import bucket_of, hash_text
from daskae.stages.frames import require_room
from daskae.stages.giant import Giant, Mask, Picked, are_in, read_some, tables_of
from daskae.stages.layout import Layout
from daskae.stages.leavings import Leavings
from daskae.stages.reduce import Reduced, ReduceTask, TooLargeError, hash_order, read_lines, reduce_lines
from daskae.stages.spec import Spec

FINE = 1 << 16
"""Ranges of the hash that all customers may be cut into."""
_WIDTH = FINE // SLOTS


def reduce_bucket(task: ReduceTask, spec: Spec, layout_path: Path) -> dict[str, Any]:
    """Aggregate the customers of a bucket, holding no more than ``task.most_bytes`` of exchange files at once.

    Returns
    -------
    dict
        The manifest, see :meth:`daskae.stages.leavings.Leavings.commit`.
    """
    layout = Layout.load(layout_path)
    with Leavings(task.folder, spec) as leavings:
        try:
            lines, names = read_lines(layout, task.first, task.last, task.most_bytes)
        except TooLargeError as error:
            most_rows = max(1, int(task.most_bytes / error.row_bytes))
        else:
            leavings.add(reduce_lines(lines, names, task, spec, layout))
            return leavings.commit()
        for part in _Parts(task, spec, layout, most_rows).reduced():
            leavings.add(part, most_rows)
        return leavings.commit()


@dataclass(frozen=True)
class _Parts:
    """A bucket, a part at a time."""

    task: ReduceTask
    spec: Spec
    layout: Layout
    most_rows: int

    def reduced(self) -> Iterator[Reduced]:
        """Yield what each part leaves, in the order of the hash."""
        base = self.task.first * _WIDTH
        rows = np.zeros((self.task.last - self.task.first) * _WIDTH, np.int64)
        for _, table in tables_of(self.layout, (self.task.first, self.task.last), [CUSTOMER]):
            rows += np.bincount(_places(table).astype(np.int64) - base, minlength=len(rows))
        for first, last in runs(rows, self.most_rows):
            if rows[first:last].sum() <= self.most_rows:
                yield self._range(base + first, base + last)
            else:
                yield from self._crowd(base + first)

    def _leave(self, slots: tuple[int, int], wanted: Picked | None) -> Reduced:
        task = replace(self.task, first=slots[0], last=slots[1])
        return reduce_lines(*read_some(self.layout, slots, wanted), task, self.spec, self.layout)

    def _range(self, first: int, last: int) -> Reduced:
        """Reduce the customers of a range of the hash."""
        slots = (first // _WIDTH, -(-last // _WIDTH))
        whole = (first, last) == (slots[0] * _WIDTH, slots[1] * _WIDTH)
        return self._leave(slots, None if whole else partial(_are_between, first=first, last=last))

    def _crowd(self, place: int) -> Iterator[Reduced]:
        """Reduce the customers of the narrowest range there is, which has too many lines."""
        slots = (place // _WIDTH, place // _WIDTH + 1)
        counts: Counter[str] = Counter()
        for _, table in tables_of(self.layout, slots, [CUSTOMER]):
            names = pl.Series(pl.from_arrow(table[CUSTOMER])).filter(pl.Series(_places(table) == place))
            counts.update(dict(names.value_counts().iter_rows()))
        ordered = pl.Series(CUSTOMER, list(counts), dtype=pl.String)
        ordered = ordered.gather(hash_order(ordered))
        rows = np.array([counts[name] for name in ordered.to_list()])
        for first, last in runs(rows, self.most_rows):
            group, count = ordered[first:last], int(rows[first:last].sum())
            if count > self.most_rows and not self.spec.frame_metrics:
                shares = -(-count // self.most_rows) + 1  # one more, for shares are not quite equal
                yield Giant(self.task, self.spec, self.layout, slots, group[0], shares).reduced()
                continue
            if count > self.most_rows:
                require_room(count * self.task.most_bytes // self.most_rows, count, self.task, self.spec)
            yield self._leave(slots, partial(are_in, names=group))


def runs(rows: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Cut a row of counts into runs of at most ``most``; what is more by itself stands alone, zeros may be left out."""
    found: list[tuple[int, int]] = []
    first, total = 0, 0
    for i, count in enumerate(rows.tolist()):
        if total and total + count > most:
            found.append((first, i))
            total = 0
        if total == 0:
            first = i
        total += count
    return [*found, (first, len(rows))] if total else found


def _places(table: pa.Table) -> NDArray[np.uint16]:
    """Return the narrowest range of the hash that each row's customer is in."""
    return bucket_of(hash_text(pl.Series(pl.from_arrow(table[CUSTOMER]))), FINE)


def _are_between(table: pa.Table, first: int, last: int) -> Mask:
    places = _places(table)
    mask: Mask = (places >= first) & (places < last)
    return mask
