"""Cohorts by month of the first order: mergeable cells, and the table they make.

A bucket holds whole customers, so counts of distinct customers add up over buckets exactly. Months are whole numbers
(12 x year + month - 1) until the table is written. Rolling retention needs no more than each customer's first and
last month.
"""

from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from daskae.errors import GateError
from daskae.units import units_to_decimal

Cell = list[Any]
"""``[cohort, month, active customers, orders, revenue units (text), customers whose last month it is]``."""

MAX_ROWS = 1_000_000
"""A century of monthly cohorts. More comes from dates such as 9999-12-31, not from a business."""

COHORT_SCHEMA_NAMES = (
    "cohort_month", "period_index", "cohort_size", "active_customers", "retention", "rolling_active_customers",
    "rolling_retention", "revenue", "cumulative_revenue", "cumulative_ltv", "is_partial",
)  # fmt: skip


Months = NDArray[np.int32]
_DAY_MICROSECONDS = 86_400_000_000
_BITMAP_BYTES = 64 << 20
_WIDTH = 1 << 20
"""More than any month's number."""


def month_numbers(times: pl.Series) -> Months:
    """Return 12 x year + month - 1 of each time; looked up by day, ten times faster than calendar arithmetic."""
    days = times.to_physical().to_numpy() // _DAY_MICROSECONDS
    if not len(days):
        return np.empty(0, np.int32)
    first = int(days.min())
    calendar = np.arange(first, int(days.max()) + 1).astype("datetime64[D]").astype("datetime64[M]")
    months: Months = (calendar.astype(np.int64) + 12 * 1970).astype(np.int32)[days - first]
    return months


def _distinct_visits(code: NDArray[np.uint32], month: Months, customers: int) -> tuple[NDArray[np.int64], Months]:
    """Return each pair of customer and month once; by a bitmap where that is small."""
    first = int(month.min())
    width = int(month.max()) - first + 1
    if customers * width <= _BITMAP_BYTES:
        seen = np.zeros((customers, width), bool)
        seen[code, month - first] = True
        visitor, offset = np.nonzero(seen)
        return visitor, (offset + first).astype(np.int32)
    pairs = np.unique(code.astype(np.int64) * width + (month - first))
    return pairs // width, (pairs % width + first).astype(np.int32)


def month_start(number: int) -> date:
    """Return the first day of a numbered month."""
    return date(number // 12, number % 12 + 1, 1)


def bucket_cells(orders: pl.DataFrame, states: pl.DataFrame, key: str) -> list[Cell]:
    """Count cohort cells of whole customers.

    Parameters
    ----------
    orders : DataFrame
        ``key`` (UInt32, dense from 0), ``order_date``, ``amount`` (Int64 units).
    states : DataFrame
        ``first`` and ``last``, one row a customer, in the order of ``key``.
    """
    first, last = month_numbers(states["first"]), month_numbers(states["last"])
    month, code = month_numbers(orders["order_date"]), orders[key].to_numpy()
    placed = pl.DataFrame({"cell": _cells(first[code], month), "amount": orders["amount"]})
    revenue = placed.group_by("cell").agg(
        pl.len().alias("orders"), pl.col("amount").cast(pl.Int128).sum().alias("revenue")
    )
    visitor, visited = _distinct_visits(code, month, len(first))
    active = _counts(_cells(first[visitor], visited), "active")
    ended = _counts(_cells(first, last), "ended")
    cells = revenue.join(active, on="cell", how="full", coalesce=True)
    cells = cells.join(ended, on="cell", how="full", coalesce=True).sort("cell")
    cells = cells.with_columns((pl.col("cell") // _WIDTH).alias("cohort"), (pl.col("cell") % _WIDTH).alias("month"))
    rows = cells.select("cohort", "month", "active", "orders", "revenue", "ended").fill_null(0).iter_rows()
    return [
        [cohort, month, active, orders, str(revenue), ended] for cohort, month, active, orders, revenue, ended in rows
    ]


def _cells(cohort: Months, month: Months) -> NDArray[np.int64]:
    """Number the pairs of cohort and month; grouping by one number takes two thirds of the time of two."""
    return cohort.astype(np.int64) * _WIDTH + month


def _counts(cells: NDArray[np.int64], name: str) -> pl.DataFrame:
    return pl.DataFrame({"cell": cells}).group_by("cell").agg(pl.len().alias(name))


def merge_cells(parts: Iterable[Sequence[Cell]]) -> list[Cell]:
    """Add the cells of several buckets."""
    merged: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for cells in parts:
        for cohort, month, active, orders, revenue, ended in cells:
            cell = merged[cohort, month]
            for i, value in enumerate((active, orders, int(revenue), ended)):
                cell[i] += value
    return [[*key, cell[0], cell[1], str(cell[2]), cell[3]] for key, cell in sorted(merged.items())]


def cohort_schema(scale: int) -> pa.Schema:
    """Return the schema of ``cohort_metrics``."""
    number, ratio, amount = pa.int64(), pa.float64(), pa.decimal128(38, scale)
    types = (pa.date32(), number, number, number, ratio, number, ratio, amount, amount, ratio, pa.bool_())
    return pa.schema(list(zip(COHORT_SCHEMA_NAMES, types, strict=True)))


def cohort_rows(cells: Sequence[Cell], as_of: date, scale: int) -> list[dict[str, Any]]:
    """Make the rows of ``cohort_metrics``.

    A cohort has a row for each month from its own to the last month of the data; what is beyond is unknown and has no
    row. The last month is partial unless ``as_of`` is its last day.
    """
    if not cells:
        return []
    end = max(cell[1] for cell in cells)
    by_cohort: dict[int, dict[int, Cell]] = defaultdict(dict)
    for cell in cells:
        by_cohort[cell[0]][cell[1]] = cell
    count = sum(end - cohort + 1 for cohort in by_cohort)
    if count > MAX_ROWS:
        raise GateError(
            "the orders span too many months for a cohort table", "order_date",
            f"{month_start(min(by_cohort))} to {month_start(end)}, {count:,} rows", f"{MAX_ROWS:,} rows",
            "add a range rule on order_date that rejects dates that cannot be",
        )  # fmt: skip
    rows = []
    for cohort, months in sorted(by_cohort.items()):
        size = months[cohort][2]
        left = sum(cell[5] for cell in months.values())
        total = 0
        for month in range(cohort, end + 1):
            _, _, active, _, revenue, ended = months.get(month, [cohort, month, 0, 0, "0", 0])
            total += int(revenue)
            rows.append(
                _row(cohort, month, size, active, left, units_to_decimal(int(revenue), scale), total, scale)
                | {"is_partial": _is_partial(month, as_of)}
            )
            left -= ended
    return rows


def _row(
    cohort: int, month: int, size: int, active: int, rolling: int, revenue: Decimal, total: int, scale: int
) -> dict[str, Any]:
    return {
        "cohort_month": month_start(cohort),
        "period_index": month - cohort,
        "cohort_size": size,
        "active_customers": active,
        "retention": active / size,
        "rolling_active_customers": rolling,
        "rolling_retention": rolling / size,
        "revenue": revenue,
        "cumulative_revenue": units_to_decimal(total, scale),
        "cumulative_ltv": total / (size * 10**scale),
    }


def _is_partial(month: int, as_of: date) -> bool:
    """Whether the data may end before this month does."""
    first = month_start(month)
    return as_of < first.replace(day=monthrange(first.year, first.month)[1])


def cohort_table(cells: Sequence[Cell], as_of: date, scale: int) -> pa.Table:
    """Return ``cohort_metrics`` as an Arrow table."""
    return rows_to_table(cohort_rows(cells, as_of, scale), cohort_schema(scale))


def rows_to_table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Make an Arrow table of a few rows; through Polars, because Arrow's own way imports pandas."""
    types = pl.Schema(schema)
    frame = pl.DataFrame(list(rows), schema=types, orient="row")
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
