"""Tell whether two runs of the job came to the same tables: ids, counts and money exactly, ratios to nine digits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import polars as pl
from polars import col

MONEY = pl.Decimal(38, 4)
RELATIVE, ABSOLUTE = 1e-9, 1e-6
"""How far ratios may be apart; a standard deviation of zero is a little more by some ways to compute it."""


@dataclass(frozen=True)
class Table:
    """How one output table is compared."""

    name: str
    keys: tuple[str, ...]
    exact: tuple[str, ...]
    """Columns that must agree for a row to agree."""
    further: tuple[str, ...]
    """Columns that follow from the rows too; told apart, as a contender may lack them."""


CUSTOMERS = Table(
    "customer_metrics",
    ("customer_id",),
    ("order_count", "total_revenue"),
    (
        "avg_order_value",
        "std_order_value",
        "first_order_at",
        "last_order_at",
        "days_active",
        "avg_days_between_orders",
        "days_since_last_order",
        "is_churned",
        "cohort_month",
        "realized_ltv",
        "rfm_recency",
        "rfm_frequency",
        "rfm_monetary",
    ),
)
COHORTS = Table(
    "cohort_metrics",
    ("cohort_month", "period_index"),
    ("active_customers", "revenue"),
    ("cohort_size", "retention", "rolling_active_customers", "cumulative_revenue"),
)
MONEY_COLUMNS = {"total_revenue", "realized_ltv", "revenue", "cumulative_revenue"}
RATIO_COLUMNS = {"avg_order_value", "std_order_value", "avg_days_between_orders", "retention"}
TIME_COLUMNS = {"first_order_at", "last_order_at"}


@dataclass(frozen=True)
class Totals:
    """The few numbers that sum up a run."""

    customers: int | None
    orders: int
    revenue: Decimal


@dataclass(frozen=True)
class Agreement:
    """Where two runs differ."""

    customers: int = 0
    """Customers that only one has, or with another number or sum of orders."""
    cells: int = 0
    """Cohort cells that only one has, or with other customers or revenue."""
    further: dict[str, int] = field(default_factory=dict)
    """Of the customers and cells in both with the same exact columns: rows that differ in a further column."""
    missing: tuple[str, ...] = ()
    """Columns that one of the two does not have."""

    @property
    def exact(self) -> bool:
        """Whether nothing differs that both have."""
        return not (self.customers or self.cells or self.further)


def read_table(out: Path, table: Table) -> pl.DataFrame:
    """Read one output table in the types that it is compared in."""
    rows = pl.read_parquet(out / table.name / "*.parquet")
    wanted = [name for name in (*table.keys, *table.exact, *table.further) if name in rows.columns]
    return rows.select(normalized(name) for name in wanted)


def normalized(name: str) -> pl.Expr:
    """Give a column in one type, whatever type its writer chose."""
    if name == "customer_id":
        return col(name).cast(pl.String)
    if name == "cohort_month":
        return col(name).cast(pl.String).str.head(7)
    if name in MONEY_COLUMNS:
        return col(name).cast(MONEY)
    if name in RATIO_COLUMNS:
        return col(name).cast(pl.Float64)
    return col(name).cast(pl.Datetime("us") if name in TIME_COLUMNS else pl.Int64)


def read_totals(out: Path) -> Totals:
    """Sum up the customer table of a run."""
    customers = read_table(out, CUSTOMERS)
    revenue = customers["total_revenue"].sum()
    return Totals(customers.height, int(customers["order_count"].sum()), Decimal(revenue))


def compare(first: Path, second: Path) -> Agreement:
    """Compare the tables that two runs left in their output folders."""
    customers, further, missing = compare_table(first, second, CUSTOMERS)
    cells, further_cells, missing_cells = compare_table(first, second, COHORTS)
    return Agreement(customers, cells, further | further_cells, (*missing, *missing_cells))


def compare_table(first: Path, second: Path, table: Table) -> tuple[int, dict[str, int], Sequence[str]]:
    """Compare one table: rows that differ, rows that differ in a further column only, and columns that are missing."""
    left, right = read_table(first, table), read_table(second, table)
    both = left.with_columns(_in=True).join(
        right.with_columns(_in=True), on=table.keys, how="full", suffix="_2", coalesce=True
    )
    wrong = pl.any_horizontal(differs(name) for name in ("_in", *table.exact))
    same = both.filter(~wrong)
    compared = [name for name in table.further if name in left.columns and name in right.columns]
    counts = same.select(differs(name).sum().alias(name) for name in compared).row(0, named=True)
    missing = [name for name in table.further if name not in compared]
    return both.height - same.height, {name: count for name, count in counts.items() if count}, missing


def differs(name: str) -> pl.Expr:
    """Whether the two values of a column are not the same; nothing equals nothing only."""
    first, second = col(name), col(f"{name}_2")
    if name not in RATIO_COLUMNS:
        return first.ne_missing(second)
    near = (first - second).abs() <= ABSOLUTE + RELATIVE * first.abs()
    return ~pl.when(first.is_null() | second.is_null()).then(first.is_null() & second.is_null()).otherwise(near)
