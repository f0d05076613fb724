"""One customer whose lines do not fit into memory, reduced in shares.

Exact duplicates are found by shares of the row hash, so that all rows that can be equal meet. Then orders are made by
shares of the order id, so that all lines of an order meet. States of orders merge by the law that every metric keeps;
months of orders add up. Each share is a pass over the batches of the customer's slot.

Not covered: sums of floats may differ in their last digits from those of a customer taken whole; money is exact.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from daskae.aggregate.aggregation import CUSTOMER, chunk, combine
from daskae.aggregate.cohort import Cell, month_numbers
from daskae.aggregate.customer import require_in_range
from daskae.arrow import to_array
from daskae.budget import checkpoint
from daskae.exchange import read_slots
from daskae.stages.late import with_late_columns
from daskae.stages.layout import Layout
from daskae.stages.reduce import (
    CODE,
    Reduced,
    ReduceTask,
    coded,
    named_in,
    named_rows,
    orders_of,
    positions_of,
    repeats_a_row,
    without_repeated,
)
from daskae.stages.spec import Spec
from daskae.transform.states import merge_states
from daskae.validate.rules import ALL_COLUMNS

Mask = NDArray[np.bool_]
Picked = Callable[[pa.Table], Mask]
"""Says which rows of a table are wanted."""
Slots = tuple[int, int]
_NO_ROWS = {"part": pl.UInt32, "seq": pl.UInt32}


def tables_of(layout: Layout, slots: Slots, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
    """Yield (partition, rows) of some slots, a batch at a time."""
    for part, path in layout.paths("rows"):
        for table in read_slots(path, *slots, columns):
            yield part, table
            checkpoint()


def read_some(
    layout: Layout, slots: Slots, wanted: Picked | None, columns: Sequence[str] | None = None
) -> tuple[pl.DataFrame, pl.Series]:
    """Read the wanted lines of some slots, as :func:`daskae.stages.reduce.read_lines` does."""
    tables, parts = [], []
    for part, table in tables_of(layout, slots, columns):
        # What was filtered is a copy, so that the rest of its batch can go.
        some = table if wanted is None else table.filter(to_array(wanted(table)))
        if some.num_rows:
            tables.append(some)
            parts.append(np.full(some.num_rows, part, np.uint32))
    return coded(tables, parts)


def are_in(table: pa.Table, names: pl.Series) -> Mask:
    """Say which rows are of some customers."""
    mask: Mask = pl.Series(pl.from_arrow(table[CUSTOMER])).is_in(names.implode()).to_numpy()
    return mask


def add_steps(parts: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Add up the step states of parts of one task, which counts as one partition."""
    return {name: replace(state, partitions=1).to_json() for name, state in merge_states(parts).items()}


@dataclass(frozen=True)
class _Share:
    """What the orders of one share leave."""

    late: pl.DataFrame
    affected: dict[str, int]
    lines: int = 0
    orders: pl.DataFrame = field(default_factory=pl.DataFrame)
    """``orders`` by ``month`` and their ``revenue``; ``largest`` amount."""
    states: pl.DataFrame | None = None
    steps: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Giant:
    """One customer who does not fit."""

    task: ReduceTask
    spec: Spec
    layout: Layout
    slots: Slots
    customer: str
    shares: int

    @property
    def _name(self) -> pl.Series:
        return pl.Series(CUSTOMER, [self.customer], dtype=pl.String)

    def reduced(self) -> Reduced:
        """Reduce the customer."""
        repeated = self._repeated()
        shares = [self._share(share, repeated) for share in range(self.shares)]
        affected: Counter[str] = Counter()
        for share in shares:
            affected.update(share.affected)
        late = [share.late for share in shares if share.late.height]
        found = Reduced(pl.concat(late) if late else pl.DataFrame(), dict(affected), self._shown(repeated))
        kept = [share for share in shares if share.states is not None]
        if not kept:
            return found
        states = [share.states for share in kept if share.states is not None]
        whole = combine(states, self.spec.states, CODE).cast(states[0].schema)
        months = pl.concat([share.orders for share in kept])
        require_in_range(months.select(pl.col("largest").alias("amount")), whole)
        state = whole.with_columns(self._name).drop(CODE)
        return replace(
            found, lines=sum(share.lines for share in kept), orders=int(months["orders"].sum()), states=state,
            cells=_cells(months, state), steps=add_steps([share.steps for share in kept]),
        )  # fmt: skip

    def _shown(self, repeated: pl.DataFrame) -> dict[str, list[list[Any]]]:
        places = positions_of(repeated, self.layout).sort().head(self.spec.samples).to_list()
        rules = [rule.name for rule in self.spec.global_rules if rule.columns == (ALL_COLUMNS,)]
        return {name: [[place, None] for place in places] for name in rules}

    def _of_share(self, table: pa.Table, keys: NDArray[np.uint64], share: int) -> Mask:
        mask: Mask = are_in(table, self._name) & (keys % np.uint64(self.shares) == share)
        return mask

    def _repeated(self) -> pl.DataFrame:
        """Find the exact duplicates."""
        found = [pl.DataFrame(schema=_NO_ROWS)]
        columns = [CUSTOMER, "seq", "row_hash", "order_date", "amount"]
        for share in range(self.shares if self.spec.drops_repeated_rows else 0):

            def wanted(table: pa.Table, share: int = share) -> Mask:
                return self._of_share(table, _numbers(table["row_hash"]), share)

            lines, _ = read_some(self.layout, self.slots, wanted, columns)
            if lines.height:
                found.append(lines.filter(repeats_a_row(lines, self.layout)).select(list(_NO_ROWS)))
        return pl.concat(found)

    def _share(self, share: int, repeated: pl.DataFrame) -> _Share:
        """Make the orders of one share of the order ids."""

        def wanted(table: pa.Table) -> Mask:
            return self._of_share(table, _order_keys(table), share)

        lines, _ = read_some(self.layout, self.slots, wanted)
        if not lines.height:
            return _Share(lines, {})
        marks = self._marks(lines, repeated)
        affected = {name: int(mark.sum()) for name, mark in marks.items()}
        lines, late = without_repeated(lines, marks, self.spec)
        if not lines.height:
            return _Share(late, affected)
        orders = orders_of(lines, self.spec, self.layout)
        orders, steps = with_late_columns(orders, self._name, self.slots, self.spec)
        amount = pl.col("amount").cast(pl.Int128)
        months = orders.group_by(pl.Series("month", month_numbers(orders["order_date"]))).agg(
            pl.len().alias("orders"), amount.sum().alias("revenue"), amount.abs().max().alias("largest")
        )
        return _Share(late, affected, lines.height, months, chunk(orders, self.spec.states, by=CODE), steps)

    def _marks(self, lines: pl.DataFrame, repeated: pl.DataFrame) -> dict[str, pl.Series]:
        """Say for each global rule which lines break it."""
        marks: dict[str, pl.Series] = {}
        keyed = iter(self.task.repeated)
        for rule in self.spec.global_rules:
            if rule.columns == (ALL_COLUMNS,):
                marks[rule.name] = named_rows(lines, [repeated.to_arrow()] if repeated.height else [])
            else:
                marks[rule.name] = named_rows(lines, named_in(next(keyed), *self.slots))
        return marks


def _cells(months: pl.DataFrame, state: pl.DataFrame) -> list[Cell]:
    """Return the cohort cells of one customer."""
    cohort, last = (int(month_numbers(state[name])[0]) for name in ("first", "last"))
    added = months.group_by("month").agg(pl.col("orders", "revenue").sum()).sort("month")
    return [
        [cohort, month, 1, orders, str(revenue), int(month == last)]
        for month, orders, revenue in added.select("month", "orders", "revenue").iter_rows()
    ]


def _numbers(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    return pl.Series(pl.from_arrow(column)).to_numpy().astype(np.uint64)


def _order_keys(table: pa.Table) -> NDArray[np.uint64]:
    """Return a number for each line that is the same for all lines of an order; any will do where lines are orders."""
    seq = _numbers(table["seq"])
    if "order_id" not in table.column_names:
        return seq
    ids = pl.Series(pl.from_arrow(table["order_id"]))
    return np.where(ids.is_null().to_numpy(), seq, ids.hash().to_numpy())
