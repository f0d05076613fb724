"""Synthetic customer orders with planted defects, and the exact truth about them.

Rows come in blocks. The sound rows of a block are a pure function of the :class:`Spec` and its bounds, so any
process can make any block, and make it again when a duplicate needs a row from another file. Inside a block all is
numbers; text appears only in :func:`text_table` and :func:`csv_lines`. Not covered here: writing files, and what a
file as a whole can have, such as a byte order mark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from daskae.errors import SettingsError

COLUMNS = ("order_id", "customer_id", "order_date", "amount", "quantity", "status", "channel", "note")
CHANNELS = ("web", "store", "app", "phone", "partner")
NOTES = (
    None,
    "gift wrap",
    "leave at the door",
    "Grüße aus Köln",
    "call first, then ring twice",
    'says "urgent", wants it today',
    '"fragile"',
    "Flat 3\n12 High Street",
    "Flat 3\r\n12 High Street",
    "two parts:\n\nthe second, after an empty line",
    'forwarded: "see\nO-000000001,00000001,2022-01-01 00:00:00,9.99,1,completed,web,"',
)
# Customers that naive readers take for missing values.
ODD_CUSTOMERS = ("NA", "None", "null", "nan")
VALUE_KINDS = ("missing_customer_id", "unparsable_date", "unparsable_number")
LINE_KINDS = ("wrong_field_count", "invalid_encoding", "repeated_header", "malformed_quoting")
DUPLICATE_KINDS = ("duplicate_order_id", "exact_duplicate")

BLOCK_ROWS = 131_072  # rows made at once: also the Parquet row group
MAX_FILES = 100_000  # names hold five digits; one more and their text order is no longer their number order
MAX_LINES = 20  # the lines of an order differ in amount by up to as many cents, which must stay below the least amount
GENERATION = 16  # neighbouring customers, alike in how often they buy, that arrive one after the other
FIRST_DAY = datetime(2022, 1, 1, tzinfo=UTC)
DAYS = 1096  # to 2024-12-31
MONTH_WEIGHTS = (0.82, 0.78, 0.90, 0.92, 0.97, 0.95, 0.90, 0.88, 0.97, 1.05, 1.50, 1.65)
WEEKDAY_WEIGHTS = (1.00, 0.95, 0.95, 1.00, 1.15, 1.30, 1.10)
RETURN_SHARE = 0.02
ORDER = np.dtype(
    [(name, "i8") for name in ("number", "customer", "second", "cents", "quantity", "channel", "note")]
    + [("returned", "?")]
)

Ints = npt.NDArray[np.int64]
Orders = npt.NDArray[np.void]


@dataclass(frozen=True)
class Spec:
    """What to generate; equal specs give equal bytes."""

    rows: int
    """Data rows over all files, defects included."""
    files: int = 4
    """Files the rows are split over, as evenly as whole rows allow."""
    format: Literal["csv", "parquet"] = "csv"
    """Parquet has no lines, so it can hold fewer kinds of defects."""
    seed: int = 1
    """Another seed gives other orders and other defects."""
    dirt: float = 0.005
    """Share of the rows that are planted defects."""
    lines_per_order: int = 1
    """Most rows that may share an order id; above one, a repeated order id is no defect."""

    def __post_init__(self) -> None:
        limits: list[tuple[str, float, float, float]] = [
            ("rows", self.rows, 1, 10**10),
            ("files", self.files, 1, min(MAX_FILES, max(1, self.rows // 2))),
            ("seed", self.seed, 0, 2**63 - 1),
            ("dirt", self.dirt, 0, 0.5),
            ("lines_per_order", self.lines_per_order, 1, MAX_LINES),
        ]
        for name, got, low, high in limits:
            if not low <= got <= high:
                raise SettingsError(
                    "a setting of the generator is out of range",
                    name,
                    f"{got}",
                    f"{low} to {high} for {self.rows} rows",
                )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of defects that this data can hold, in the order in which they are planted."""
        kinds = VALUE_KINDS + (LINE_KINDS if self.format == "csv" else ()) + DUPLICATE_KINDS
        return tuple(kind for kind in kinds if self.lines_per_order == 1 or kind != "duplicate_order_id")

    @property
    def defects(self) -> int:
        """Defects to plant; never more than half of the rows, so that blocks always have room for theirs."""
        return int(self.rows * self.dirt + 1e-9)

    @property
    def customers(self) -> int:
        """Customers that may order; about one in seven never does, which leaves one customer to twelve rows."""
        return GENERATION * max(1, round(self.rows / (10.3 * GENERATION)))

    def blocks(self, file: int) -> list[tuple[int, int]]:
        """Bounds of the blocks of a file, as row numbers over all files."""
        start, stop = self.rows * file // self.files, self.rows * (file + 1) // self.files
        count = math.ceil((stop - start) / BLOCK_ROWS)
        bounds = [start + (stop - start) * step // count for step in range(count + 1)]
        return list(pairwise(bounds))

    def random(self, *stream: int) -> np.random.Generator:
        """Give the random numbers of one named purpose, the same in every process."""
        return np.random.default_rng([self.seed, *stream])


@dataclass(frozen=True)
class Block:
    """Consecutive rows with their defects: ``kind`` indexes ``Spec.kinds``, -1 is a clean row."""

    spec: Spec
    orders: Orders
    kind: Ints
    variant: Ints

    @property
    def accepted(self) -> npt.NDArray[np.bool_]:
        """Rows that the standard policy keeps. Duplicates are copies of these and of no others."""
        kept: npt.NDArray[np.bool_] = (self.kind < 0) & ~self.orders["returned"]
        return kept

    def rows_of(self, kinds: tuple[str, ...]) -> Ints:
        """Positions of the rows that hold these kinds of defects."""
        wanted = [index for index, kind in enumerate(self.spec.kinds) if kind in kinds]
        return np.flatnonzero(np.isin(self.kind, wanted))


@dataclass
class Truth:
    """What the standard policy makes of some rows; the defaults are those of no rows at all."""

    customers: npt.NDArray[np.uint8]
    """One bit a customer, so that a customer met in many parts counts once."""
    rows: int = 0
    accepted: int = 0
    orders: int = 0
    cents: int = 0
    first: int = DAYS * 86_400
    last: int = -1
    returned: int = 0
    bytes: int = 0
    planted: Counter[str] = field(default_factory=Counter)

    @classmethod
    def nothing(cls, spec: Spec) -> Truth:
        """Give the truth about no rows."""
        return cls(np.zeros(spec.customers // 8, np.uint8))

    @property
    def customer_count(self) -> int:
        """Customers with at least one accepted row."""
        return int(np.bitwise_count(self.customers).sum())

    def add(self, block: Block) -> None:
        """Take in one block."""
        accepted = block.accepted
        kept = block.orders[accepted]
        np.bitwise_or.at(self.customers, kept["customer"] >> 3, (1 << (kept["customer"] & 7)).astype(np.uint8))
        self.rows += len(accepted)
        self.accepted += len(kept)
        # The first row of a block is always kept, starts an order, and numbers rise: each later rise is one more order.
        self.orders += 1 + int(np.count_nonzero(np.diff(kept["number"])))
        self.cents += int(kept["cents"].sum())
        self.first = min(self.first, int(kept["second"].min()))
        self.last = max(self.last, int(kept["second"].max()))
        self.returned += int(block.orders["returned"].sum())
        kinds = np.bincount(block.kind[block.kind >= 0], minlength=len(block.spec.kinds))
        self.planted += Counter(dict(zip(block.spec.kinds, kinds.tolist(), strict=True)))

    def merge(self, other: Truth) -> Truth:
        """Give the truth about the rows of both, which must have none in common."""
        return Truth(
            customers=self.customers | other.customers,
            rows=self.rows + other.rows,
            accepted=self.accepted + other.accepted,
            orders=self.orders + other.orders,
            cents=self.cents + other.cents,
            first=min(self.first, other.first),
            last=max(self.last, other.last),
            returned=self.returned + other.returned,
            bytes=self.bytes + other.bytes,
            planted=self.planted + other.planted,
        )


@cache
def _day_bounds() -> npt.NDArray[np.float64]:
    """Share of all orders until the end of each day: growing years, a peak before Christmas, busy weekends."""
    days = [datetime.fromtimestamp(FIRST_DAY.timestamp() + day * 86_400, UTC) for day in range(DAYS)]
    seasons = [MONTH_WEIGHTS[day.month - 1] * WEEKDAY_WEIGHTS[day.weekday()] for day in days]
    weights = [season * (1 + 0.25 * (day.year - FIRST_DAY.year)) for season, day in zip(seasons, days, strict=True)]
    return np.cumsum(weights) / sum(weights)


@cache
def _spending_scales() -> npt.NDArray[np.float64]:
    """Logarithms of what customers spend; each picks one by hash, so no process needs a table of all customers."""
    spread = NormalDist(8.1, 0.8)
    return np.array([spread.inv_cdf((step + 0.5) / 4096) for step in range(4096)])


def _customers(spec: Spec, days: Ints, random: np.random.Generator) -> Ints:
    """Draw a customer a row: few buy often (Zipf-Mandelbrot ranks), none before arrival, most while they are new."""
    shift = max(1.0, spec.customers / 1000)
    rank = shift * np.exp(random.random(len(days)) * math.log1p(spec.customers / shift)) - shift
    group = np.minimum(rank.astype(np.int64), spec.customers - 1) // GENERATION
    # Each group starts its generations at another moment, else all customers would arrive on sixteen days.
    offset = (group * 0x9E3779B1 % 65_536) / 65_536
    arrived = np.clip(GENERATION * (0.06 + 0.94 * days / DAYS) + offset, 1, GENERATION).astype(np.int64)
    return group * GENERATION + (arrived * np.sqrt(random.random(len(days)))).astype(np.int64)


def make_orders(spec: Spec, start: int, stop: int) -> Orders:
    """Make the rows ``start`` to ``stop`` as they would be without defects, returns not yet negative."""
    random, count = spec.random(0, start), stop - start
    orders = np.zeros(count, ORDER)
    row = np.arange(count)
    sizes = random.integers(1, spec.lines_per_order, count, endpoint=True)
    leader = np.repeat(np.cumsum(sizes) - sizes, sizes)[:count] if spec.lines_per_order > 1 else row
    day = np.minimum(np.searchsorted(_day_bounds(), (start + row + 0.5) / spec.rows), DAYS - 1)[leader]
    customer = _customers(spec, day, random)[leader]
    scale = _spending_scales()[customer * 0x9E3779B1 // 65_536 % 4096]
    cents = np.rint(np.exp(scale + 0.6 * random.standard_normal(count))).astype(np.int64)
    orders["number"] = start + leader + 1
    orders["customer"] = customer
    orders["second"] = day * 86_400 + random.triangular(0, 54_000, 86_400, count).astype(np.int64)[leader]
    # The last cents tell the lines of an order apart, so that no two rows are equal by chance.
    orders["cents"] = np.maximum(cents, 100) // spec.lines_per_order * spec.lines_per_order + (row - leader)
    orders["quantity"] = random.geometric(0.55, count)
    orders["channel"] = np.searchsorted([0.46, 0.72, 0.90, 0.96], random.random(count))[leader]
    note = random.integers(0, 12 * len(NOTES), count)
    orders["note"] = np.where(note < len(NOTES), note, 0)
    orders["returned"] = random.random(count) < RETURN_SHARE
    return orders


def make_block(spec: Spec, start: int, stop: int, donor: Block | None = None) -> Block:
    """Make a block with its defects; half of its duplicates are copies from ``donor``, a block of an earlier file."""
    random, defects = spec.random(1, start), spec.defects
    # Defects are numbered over all rows: that spreads the kinds evenly and plants their exact number.
    number = np.arange(defects * start // spec.rows, defects * stop // spec.rows)
    block = Block(spec, make_orders(spec, start, stop), np.full(stop - start, -1), np.zeros(stop - start, np.int64))
    # The first row stays clean, so that a duplicate always has an earlier row to copy.
    position = 1 + random.choice(stop - start - 1, len(number), replace=False) if len(number) else number
    block.kind[position] = number % len(spec.kinds)
    block.variant[position] = number // len(spec.kinds)
    returned = block.orders["returned"]
    returned[position] = False
    returned[0] = False
    _copy_duplicates(block, donor, random)
    block.orders["cents"][returned] *= -1
    block.orders["quantity"][returned] *= -1
    return block


def _copy_duplicates(block: Block, donor: Block | None, random: np.random.Generator) -> None:
    """Overwrite the rows planned as duplicates by earlier accepted rows, or their order ids only."""
    target, orders = block.rows_of(DUPLICATE_KINDS), block.orders
    near = np.flatnonzero(block.accepted)
    pick = random.random(len(target))
    source = orders[near[(pick * np.searchsorted(near, target)).astype(np.int64)]]
    if donor is not None:
        far = np.flatnonzero(donor.accepted)
        from_far = random.random(len(target)) < 0.5
        source[from_far] = donor.orders[far[(pick * len(far)).astype(np.int64)]][from_far]
    exact = np.isin(target, block.rows_of(("exact_duplicate",)))
    orders[target[exact]] = source[exact]
    orders["number"][target[~exact]] = source["number"][~exact]


def csv_field(text: str | None) -> str:
    """Write one field as RFC 4180 has it, quoted only where it must be."""
    text = text or ""
    return '"' + text.replace('"', '""') + '"' if any(char in text for char in ',"\r\n') else text


# Private characters stand for bytes that are no UTF-8 until the text is encoded.
RAW_BYTES = {"\ue000": b"\xff", "\ue001": b"\xe9"}
BAD_VALUES: dict[str, tuple[str, tuple[str | None, ...]]] = {
    "missing_customer_id": ("customer_id", ("", "   ", None)),
    "unparsable_date": ("order_date", ("31/02/2023", "not a date", "", "2023-13-01")),
    "unparsable_number": ("amount", ("12,50", "abc", "", "1e400", "12.34567", "inf")),
}
# Each takes the fields of a sound row with an empty note.
BAD_LINES: dict[str, tuple[Callable[[list[str]], list[str]], ...]] = {
    "wrong_field_count": (
        lambda row: row[:-1],
        lambda row: [*row, "extra"],
        lambda row: row[:4],
        lambda row: [*row, "", ""],
        lambda row: row[:1],
    ),
    "invalid_encoding": (
        lambda row: [*row[:-1], "caf\ue001"],
        lambda row: [*row[:-2], row[-2] + "\ue000", ""],
        lambda row: [row[0], row[1] + "\ue000", *row[2:]],
    ),
    "repeated_header": (lambda row: list(COLUMNS),),
    "malformed_quoting": (lambda row: [*row[:-1], '"abc"def'], lambda row: [*row[:-2], f'"{row[-2]}"shop', ""]),
}


def text_table(block: Block) -> pl.DataFrame:
    """Give the block as columns of text, with the defects that are values of one column."""
    orders, customers = block.orders, block.spec.customers
    col, text = pl.col, pl.String()
    # The first to arrive of the most frequent customers, but not of the very first group, carry the odd names.
    odd = {GENERATION * (step + 1): name for step, name in enumerate(ODD_CUSTOMERS) if customers > 5 * GENERATION}
    numbers = pl.DataFrame({name: np.ascontiguousarray(orders[name]) for name in ORDER.names or ()})
    # Scatters the frequent customers over the ids; a prime factor above any number of customers keeps the ids distinct.
    identity = (col("customer") * 2_147_483_647 + 7) % customers + 1
    cents = col("cents").abs()
    table = numbers.select(
        order_id=pl.format("O-{}", col("number").cast(text).str.zfill(9)),
        customer_id=col("customer").replace_strict(odd, default=identity.cast(text).str.zfill(8), return_dtype=text),
        order_date=pl.from_epoch(col("second") + int(FIRST_DAY.timestamp())).dt.strftime("%Y-%m-%d %H:%M:%S"),
        amount=pl.format(
            "{}{}.{}",
            pl.when("returned").then(pl.lit("-")).otherwise(pl.lit("")),
            (cents // 100).cast(text),
            (cents % 100).cast(text).str.zfill(2),
        ),
        quantity=col("quantity").cast(text),
        status=pl.when("returned").then(pl.lit("returned")).otherwise(pl.lit("completed")),
        channel=pl.Series(CHANNELS).gather(numbers["channel"]),
        note=pl.Series(NOTES).gather(numbers["note"]),
    )
    for kind, (column, values) in BAD_VALUES.items():
        where = block.rows_of((kind,))
        spoilt = [values[variant % len(values)] for variant in block.variant[where].tolist()]
        table = table.with_columns(table[column].scatter(where, pl.Series(spoilt, dtype=text)))
    return table


def csv_lines(block: Block) -> pl.Series:
    """Give the block as CSV lines without their ends, with all defects; :func:`encode` turns them into bytes."""
    table = text_table(block)
    quoted = {value: csv_field(value) for value in (*NOTES, *BAD_VALUES["unparsable_number"][1]) if value}
    table = table.with_columns(pl.col("note", "amount").replace(quoted))
    lines = table.select(pl.concat_str(pl.all().fill_null(""), separator=",")).to_series()
    where = block.rows_of(LINE_KINDS)
    spoilt = []
    for row, position in zip(table[where].iter_rows(), where.tolist(), strict=True):
        changes = BAD_LINES[block.spec.kinds[block.kind[position]]]
        spoilt.append(",".join(changes[block.variant[position] % len(changes)]([*row[:-1], ""])))
    return lines.scatter(where, pl.Series(spoilt, dtype=pl.String))


def encode(text: str) -> bytes:
    """Encode as UTF-8, but for the bytes that are planted as no UTF-8."""
    data = text.encode()
    for char, raw in RAW_BYTES.items():
        data = data.replace(char.encode(), raw)
    return data
