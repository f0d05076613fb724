"""The reduce task: all rows of a range of customers at once; states, cohort cells and late rejects out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from daskae.aggregate.aggregation import CUSTOMER, chunk
from daskae.aggregate.cohort import Cell, bucket_cells
from daskae.aggregate.customer import RANKED, require_in_range
from daskae.aggregate.orders import lines_to_orders
from daskae.arrow import gathered
from daskae.budget import checkpoint
from daskae.exchange import read_slots
from daskae.hashing import hash_text
from daskae.stages.late import with_late_columns
from daskae.stages.layout import Layout
from daskae.stages.spec import Spec
from daskae.stages.unique import repeated_values
from daskae.validate.rules import ALL_COLUMNS

CODE = "_code"
POSITION = "_position"
RANK_MEASURES = tuple(RANKED)
_NAMED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class ReduceTask:
    """One bucket: a run of slots."""

    first: int
    last: int
    repeated: tuple[tuple[Path, ...], ...]
    """For each keyed rule, the files that name rows with a repeated key."""
    folder: Path
    most_bytes: int = 0
    """Bytes of exchange files to hold at once, see :mod:`daskae.stages.large`; 0 for no limit."""

    def __str__(self) -> str:
        return f"customers of slots [{self.first}:{self.last}]"


@dataclass(frozen=True)
class Reduced:
    """What some customers, each whole, leave of their lines."""

    late: pl.DataFrame
    """Rows that a global rule rejects."""
    affected: dict[str, int]
    """Rows that break each global rule."""
    shown: dict[str, list[list[Any]]]
    """Places in the input of the first exact duplicates, by rule."""
    lines: int = 0
    orders: int = 0
    states: pl.DataFrame | None = None
    """One row a customer, in the order of (hash, id); None without customers."""
    cells: list[Cell] = field(default_factory=list)
    steps: dict[str, Any] = field(default_factory=dict)


def reduce_lines(lines: pl.DataFrame, names: pl.Series, task: ReduceTask, spec: Spec, layout: Layout) -> Reduced:
    """Aggregate lines of whole customers, as :func:`read_lines` gives them."""
    marks, shown = _mark_repeated(lines, task, spec, layout)
    affected = {name: int(mark.sum()) for name, mark in marks.items()}
    lines, late = without_repeated(lines, marks, spec)
    if not lines.height:
        return Reduced(late, affected, shown)
    lines, customers = _number_customers(lines, names)
    orders, steps = with_late_columns(orders_of(lines, spec, layout), customers, (task.first, task.last), spec)
    states = chunk(orders, spec.states, by=CODE).sort(CODE)
    require_in_range(orders, states)
    cells = bucket_cells(orders.select(CODE, "order_date", "amount"), states, CODE)
    states = states.with_columns(customers.alias(CUSTOMER)).drop(CODE)
    states = _with_frame_metrics(states, orders, customers, spec)
    return Reduced(late, affected, shown, lines.height, orders.height, states, cells, steps)


class TooLargeError(Exception):
    """A bucket has more bytes than may be held at once; ``row_bytes`` is how many a row of it takes."""

    def __init__(self, row_bytes: float) -> None:
        super().__init__(row_bytes)
        self.row_bytes = row_bytes


def read_lines(layout: Layout, first: int, last: int, most_bytes: int = 0) -> tuple[pl.DataFrame, pl.Series]:
    """Read the lines of some slots with customers as codes, and the customers' names by code.

    Raises
    ------
    TooLargeError
        If they have more than ``most_bytes``, unless that is 0.
    """
    tables, parts, nbytes, rows = [], [], 0, 0
    for part, path in layout.paths("rows"):
        for table in read_slots(path, first, last):
            tables.append(table)
            parts.append(np.full(table.num_rows, part, np.uint32))
            nbytes, rows = nbytes + table.nbytes, rows + table.num_rows
            if 0 < most_bytes < nbytes:
                raise TooLargeError(nbytes / rows)
        checkpoint()
    return coded(tables, parts)


def coded(tables: Sequence[pa.Table], parts: Sequence[NDArray[np.uint32]]) -> tuple[pl.DataFrame, pl.Series]:
    """Put tables together, with the partition of each row.

    Customers are encoded before anything else, so that their texts are looked at once and never copied.
    """
    if not tables:
        return pl.DataFrame(), pl.Series(CUSTOMER, dtype=pl.String)
    whole = pa.concat_tables(tables)
    encoded = whole[CUSTOMER].combine_chunks().dictionary_encode()
    names = pl.Series(CUSTOMER, pl.from_arrow(encoded.dictionary), dtype=pl.String)
    frame = pl.DataFrame(pl.from_arrow(whole.drop_columns([CUSTOMER])))
    codes = pl.Series(CODE, pl.from_arrow(encoded.indices)).cast(pl.UInt32)
    return frame.with_columns(codes, pl.Series("part", np.concatenate(parts))), names


def positions_of(frame: pl.DataFrame, layout: Layout) -> pl.Series:
    """Place in the input of each row; rows of a partition stand together."""
    pieces = [
        layout.positions(int(part[0]), piece["seq"])
        for part, piece in frame.select("part", "seq").partition_by("part", as_dict=True, maintain_order=True).items()
    ]
    return pl.Series(POSITION, np.concatenate(pieces) if pieces else np.empty(0, np.int64))


def _mark_repeated(
    lines: pl.DataFrame, task: ReduceTask, spec: Spec, layout: Layout
) -> tuple[dict[str, pl.Series], dict[str, list[list[Any]]]]:
    """Say for each global rule which rows break it, and where the first exact duplicates stand."""
    marks: dict[str, pl.Series] = {}
    shown: dict[str, list[list[Any]]] = {}
    if not lines.height:
        return marks, shown
    keyed = iter(task.repeated)
    for rule in spec.global_rules:
        if rule.columns == (ALL_COLUMNS,):
            marks[rule.name] = repeats_a_row(lines, layout)
            places = positions_of(lines.filter(marks[rule.name]), layout).sort().head(spec.samples)
            shown[rule.name] = [[place, None] for place in places.to_list()]
        else:
            marks[rule.name] = named_rows(lines, named_in(next(keyed), task.first, task.last))
    return marks, shown


def without_repeated(lines: pl.DataFrame, marks: dict[str, pl.Series], spec: Spec) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off the rows that break a rule that rejects; they get a boolean column for each such rule."""
    found = {i: marks[rule.name] for i, rule in enumerate(spec.global_rules) if rule.rejects and rule.name in marks}
    if not found:
        return lines, pl.DataFrame()
    broken = np.logical_or.reduce([mark.to_numpy() for mark in found.values()])
    if not broken.any():
        return lines, pl.DataFrame()
    columns = [mark.alias(f"broken_{i}") for i, mark in found.items()]
    late = lines.select("part", "seq").with_columns(columns).filter(pl.Series(broken))
    return lines.filter(pl.Series(~broken)), late


def repeats_a_row(lines: pl.DataFrame, layout: Layout) -> pl.Series:
    """Whether all raw fields of a row equal an earlier row's.

    Customer, time and amount are compared by value, all other fields by a 64-bit hash of the row: two rows are taken
    for one by mistake only if the former are equal and the hashes of different rows too, once in 2**64 such pairs.
    """
    same = ["row_hash", CODE, "order_date", "amount"]
    twice = repeated_values(lines["row_hash"])
    result = pl.repeat(False, lines.height, dtype=pl.Boolean, eager=True)
    if not len(twice):
        return result
    rows = lines["row_hash"].is_in(twice.implode()).arg_true()
    some = lines.select("part", "seq", *same)[rows]
    some = some.with_columns(positions_of(some, layout))
    later = some.select(pl.col(POSITION) > pl.col(POSITION).min().over(same)).to_series()
    return result.scatter(rows, later)


def named_in(paths: Sequence[Path], first: int, last: int) -> Iterator[pa.Table]:
    """Read the rows that unique tasks name in some slots."""
    return (table for path in paths for table in read_slots(path, first, last))


def named_rows(lines: pl.DataFrame, tables: Iterable[pa.Table]) -> pl.Series:
    """Whether a row is named in tables of (part, seq)."""
    key = (pl.col("part").cast(pl.UInt64) * 2**32 + pl.col("seq")).alias("key")
    result = pl.repeat(False, lines.height, dtype=pl.Boolean, eager=True)
    for named in gathered(tables, _NAMED_AT_ONCE):
        keys = pl.DataFrame(pl.from_arrow(named)).select(key).to_series()
        result |= lines.select(key.is_in(keys.implode())).to_series()
    return result


def _number_customers(lines: pl.DataFrame, names: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
    """Number the customers that have lines in the order of (hash, id), which no partitioning changes."""
    codes = lines[CODE].to_numpy()
    present = np.zeros(len(names), bool)
    present[codes] = True
    order = hash_order(names)
    order = order[present[order]]
    rank = np.empty(len(names), np.uint32)
    rank[order] = np.arange(len(order), dtype=np.uint32)
    return lines.with_columns(pl.Series(CODE, rank[codes])), names.gather(order)


def hash_order(names: pl.Series) -> NDArray[np.int64]:
    """Return the order by (hash, id)."""
    hashes = hash_text(names)
    order = np.argsort(hashes, kind="stable")
    if len(order) > 1 and (hashes[order][1:] == hashes[order][:-1]).any():
        by_both = pl.DataFrame({"h": hashes, "c": names}).with_row_index("i").sort("h", "c")["i"]
        return by_both.to_numpy().astype(np.int64)
    return order


def orders_of(lines: pl.DataFrame, spec: Spec, layout: Layout) -> pl.DataFrame:
    """Orders with the extra columns that metrics use: numbers summed, others from the earliest line."""
    if spec.rows_are_orders and "order_id" in lines.columns:
        orders = lines_to_orders(lines.drop("order_id"), CODE).with_columns(lines["order_id"])
    else:
        orders = lines_to_orders(lines, CODE)
    columns = [column for column in spec.extra_columns if column.name not in spec.late_columns]
    extras = [column.name for column in columns]
    if not extras:
        return orders
    if "order_id" not in lines.columns or spec.rows_are_orders:
        return orders.with_columns(lines[name] for name in extras)
    placed = lines.with_columns(positions_of(lines, layout)).sort("order_date", POSITION)
    named, lone = (placed.filter(is_) for is_ in (pl.col("order_id").is_not_null(), pl.col("order_id").is_null()))
    values = named.group_by(CODE, "order_id", maintain_order=True).agg(
        pl.col(column.name).sum() if spec.is_summed(column) else pl.col(column.name).first() for column in columns
    )
    found = orders.filter(pl.col("order_id").is_not_null()).join(values, on=[CODE, "order_id"], how="left")
    if not lone.height:
        return found
    # A line without an order id is an order of its own, with its own values.
    single = lines_to_orders(lone, CODE).with_columns(lone[name] for name in extras)
    return pl.concat([found, single.select(found.columns)])


def _with_frame_metrics(states: pl.DataFrame, orders: pl.DataFrame, customers: pl.Series, spec: Spec) -> pl.DataFrame:
    """Call the metrics that are functions on a pandas DataFrame."""
    if not spec.frame_metrics:
        return states
    from daskae.stages.frames import evaluate, orders_for_people, require_repeatable

    frame = orders_for_people(orders.with_columns(customers.gather(orders[CODE]).alias(CUSTOMER)).drop(CODE), spec)
    columns = []
    for item in spec.frame_metrics:
        checkpoint()
        columns.append(evaluate(item, frame, states[CUSTOMER], spec.contract.scale))
    if spec.checks_repeats:
        require_repeatable(spec, frame, states[CUSTOMER], columns)
    return states.with_columns(columns)
