"""Made-up rows of ``customer_metrics`` as the job leaves them: Arrow IPC parts, each sorted by customer."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from daskae.aggregate.customer import BUILT_IN, customer_schema

TABLE, KEY = "customer_metrics", "customer_id"
SCHEMA = customer_schema(BUILT_IN, 4)
ROWS_PER_PART = 62_500
SEED = 11
LOADED_AT = datetime(2026, 1, 1, 12, 30)
SOURCE_ROWS = 20_000_000
MARKS = {
    "_load_id": pa.scalar("a3501e62e466d26702561677d0a69637"),
    "_loaded_at": pa.scalar(LOADED_AT, pa.timestamp("us")),
    "_source_rows": pa.scalar(SOURCE_ROWS),
}
"""What daskae adds to each row."""
_BATCH_ROWS = 8192
_SEGMENTS = np.array(["champions", "loyal", "new", "at risk", "hibernating", "needs attention"])
_EPOCH = np.datetime64("2020-01-01T00:00:00", "us")
_AS_OF = np.datetime64("2024-12-31", "D")


@dataclass(frozen=True)
class Truth:
    """What a database must hold when all rows are in."""

    rows: int
    revenue: Decimal
    """Exact sum of ``total_revenue``."""
    orders: int
    """Sum of ``order_count``."""
    single: int
    """Rows without a ``std_order_value``."""


def generate_customers(folder: Path, rows: int) -> Truth:
    """Write the parts; the same rows every time."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = -(-rows // ROWS_PER_PART)
    units = orders = single = 0
    for number, count in enumerate(np.diff(np.linspace(0, rows, parts + 1).astype(int))):
        table = _make_part(number, parts, int(count))
        with (
            pa.OSFile(str(folder / f"part-{number:04d}.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, SCHEMA) as writer,
        ):
            writer.write_table(table, max_chunksize=_BATCH_ROWS)
        units += int(pc.sum(table["total_revenue"]).as_py().scaleb(4))
        orders += pc.sum(table["order_count"]).as_py()
        single += table["std_order_value"].null_count
    return Truth(rows, Decimal(units).scaleb(-4), orders, single)


def part_files(folder: Path) -> tuple[Path, ...]:
    """List the parts in order."""
    return tuple(sorted(folder.glob("part-*.arrow")))


def read_table(folder: Path) -> pa.Table:
    """Read all parts, with the columns that daskae adds, so that everybody writes the same rows."""
    tables = [pa.ipc.open_file(path).read_all() for path in part_files(folder)]
    table = pa.concat_tables(tables)
    for name, value in MARKS.items():
        table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table.combine_chunks()


def _make_part(number: int, parts: int, rows: int) -> pa.Table:
    """Make the customers whose number leaves this remainder; ids have eight digits as those of the generator."""
    draw = np.random.default_rng([SEED, number])
    ids = [f"{customer:08d}" for customer in range(number, rows * parts, parts)]
    count = draw.geometric(0.2, rows)
    several = count > 1
    units = draw.integers(100, 200_000, rows) * count * 100
    last = _EPOCH + draw.integers(0, 1826 * 86400, rows).astype("timedelta64[s]")
    spread = np.where(several, draw.integers(0, 900 * 86400, rows), 0).astype("timedelta64[s]")
    first = np.maximum(last - spread, _EPOCH)
    days = (last.astype("datetime64[D]") - first.astype("datetime64[D]")).astype(np.int64)
    since = (_AS_OF - last.astype("datetime64[D]")).astype(np.int64)
    average = units / count / 10_000
    money = _decimals(units)
    scores = {f"rfm_{name}": pa.array(draw.integers(1, 6, rows)) for name in ("recency", "frequency", "monetary")}
    columns = {
        KEY: pa.array(ids, pa.string()),
        "order_count": pa.array(count),
        "total_revenue": money,
        "avg_order_value": pa.array(average),
        "std_order_value": pa.array(average * draw.random(rows), mask=~several),
        "first_order_at": pa.array(first),
        "last_order_at": pa.array(last),
        "days_active": pa.array(days),
        "avg_days_between_orders": pa.array(days / np.maximum(count - 1, 1), mask=~several),
        "days_since_last_order": pa.array(since),
        "is_churned": pa.array(since > 365),
        "cohort_month": pa.array(first.astype("datetime64[M]").astype("datetime64[D]")),
        "realized_ltv": money,
        "projected_ltv": pa.array(average * count * 2),
        **scores,
        "segment": pa.array(_SEGMENTS[draw.integers(0, len(_SEGMENTS), rows)].astype(object), pa.string()),
    }
    return pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA)


def _decimals(units: np.ndarray) -> pa.Array:
    """Take integers for units of the fourth digit."""
    wide = pa.array(units).cast(pa.decimal128(38, 0))
    return pa.Array.from_buffers(pa.decimal128(38, 4), len(wide), wide.buffers())
