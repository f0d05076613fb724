"""The built-in customer metrics; definitions in the README."""

from collections.abc import Sequence
from decimal import Decimal

import polars as pl
import pyarrow as pa

from daskae.aggregate.aggregation import CUSTOMER, Aggregation, Facts, FrameMetric, Kind, Metric, State, money
from daskae.aggregate.rfm import score, segment
from daskae.errors import DaskaeError

AMOUNT = pl.col("amount").cast(pl.Int128)
ORDERS = State("orders", pl.len().cast(pl.Int64))
TOTAL = State("total", AMOUNT.sum())
SQUARES = State("squares", (AMOUNT * AMOUNT).sum())
FIRST = State("first", pl.col("order_date").min(), "min")
LAST = State("last", pl.col("order_date").max(), "max")
DAYS_PER_MONTH = 30.4375
_WIDE = 2**62


def _days(later: pl.Expr, earlier: pl.Expr) -> pl.Expr:
    return (later.dt.date() - earlier.dt.date()).dt.total_days().cast(pl.Int64)


def _days_active(_: Facts) -> pl.Expr:
    return _days(pl.col("last"), pl.col("first"))


def _average(facts: Facts) -> pl.Expr:
    return pl.col("total").cast(pl.Float64) / (pl.col("orders").cast(pl.Float64) * 10.0**facts.scale)


def _deviation(facts: Facts) -> pl.Expr:
    """Sample standard deviation from exact integers: sqrt((n Q - S^2) / (n (n - 1))).

    The numerator is exact, so equal amounts give exactly zero; see Chan, Golub and LeVeque 1983 for why floats do not.
    """
    n, total = pl.col("orders").cast(pl.Int128), pl.col("total")
    numerator = (n * pl.col("squares") - total * total).cast(pl.Float64)
    pairs = (n * (n - 1)).cast(pl.Float64) * 10.0 ** (2 * facts.scale)
    return pl.when(pl.col("orders") > 1).then((numerator / pairs).sqrt())


def _gap(facts: Facts) -> pl.Expr:
    return pl.when(pl.col("orders") > 1).then(_days_active(facts).cast(pl.Float64) / (pl.col("orders") - 1))


def _since(facts: Facts) -> pl.Expr:
    return (pl.lit(facts.as_of) - pl.col("last").dt.date()).dt.total_days().cast(pl.Int64)


def _realized(facts: Facts) -> pl.Expr:
    revenue = money(pl.col("total"), facts)
    margin = facts.settings.margin
    if margin == 1:
        return revenue
    # Multiplied with all digits, rounded once, half to even.
    wide = pl.Decimal(38, facts.scale + max(0, -int(margin.as_tuple().exponent)))
    return (revenue.cast(wide) * pl.lit(margin, dtype=wide)).round(facts.scale).cast(pl.Decimal(38, facts.scale))


def _projected(facts: Facts) -> pl.Expr:
    settings = facts.settings
    months: pl.Expr = pl.lit(settings.observation_months)
    if settings.frequency == "tenure":
        months = pl.max_horizontal(
            _days(pl.lit(facts.as_of).cast(pl.Datetime("us")), pl.col("first")) / DAYS_PER_MONTH, 1.0
        )
    return _average(facts) * (pl.col("orders").cast(pl.Float64) / months) * settings.lifespan_months


def _rfm(measure: str, value: pl.Expr) -> Aggregation:
    states = {"recency": LAST, "frequency": ORDERS, "monetary": TOTAL}
    return Aggregation(
        f"rfm_{measure}", (states[measure],), lambda facts: score(value, facts.rfm_cuts[measure]), "integer"
    )


RANKED = {
    "recency": pl.col("last").dt.date().cast(pl.Int32).cast(pl.Int64),
    "frequency": pl.col("orders"),
    "monetary": pl.col("total").cast(pl.Int64),
}
"""The value by which customers are ranked; larger is better, so the latest day is the smallest recency."""

BUILT_IN: tuple[Aggregation, ...] = (
    Aggregation("order_count", (ORDERS,), lambda _: pl.col("orders"), "integer", "kept orders"),
    Aggregation(
        "total_revenue", (TOTAL,), lambda facts: money(pl.col("total"), facts), "money", "exact sum of order amounts"
    ),
    Aggregation("avg_order_value", (TOTAL, ORDERS), _average, "float", "total_revenue / order_count"),
    Aggregation(
        "std_order_value", (TOTAL, ORDERS, SQUARES), _deviation, "float", "sample standard deviation of order amounts"
    ),
    Aggregation("first_order_at", (FIRST,), lambda _: pl.col("first"), "timestamp"),
    Aggregation("last_order_at", (LAST,), lambda _: pl.col("last"), "timestamp"),
    Aggregation("days_active", (FIRST, LAST), _days_active, "integer", "date(last) - date(first)"),
    Aggregation("avg_days_between_orders", (FIRST, LAST, ORDERS), _gap, "float", "days_active / (order_count - 1)"),
    Aggregation("days_since_last_order", (LAST,), _since, "integer", "as_of - date(last)"),
    Aggregation("is_churned", (LAST,), lambda facts: _since(facts) > facts.settings.churn_days, "boolean"),
    Aggregation("cohort_month", (FIRST,), lambda _: pl.col("first").dt.date().dt.month_start(), "date"),
    Aggregation("realized_ltv", (TOTAL,), _realized, "money", "total_revenue x margin"),
    Aggregation(
        "projected_ltv", (TOTAL, ORDERS, FIRST), _projected, "float", "avg_order_value x monthly frequency x lifespan"
    ),
    *(_rfm(measure, value) for measure, value in RANKED.items()),
    Aggregation("segment", (LAST, ORDERS, TOTAL), lambda facts: segment(facts.rfm_cuts, RANKED), "text"),
)

_ARROW = {
    "text": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "timestamp": pa.timestamp("us"),
    "date": pa.date32(),
    "boolean": pa.bool_(),
}


def arrow_type(kind: Kind, scale: int) -> pa.DataType:
    """Return the Arrow type of a kind of column."""
    return pa.decimal128(38, scale) if kind == "money" else _ARROW[kind]


def customer_schema(metrics: Sequence[Metric], scale: int) -> pa.Schema:
    """Return the schema of ``customer_metrics``."""
    fields = [pa.field(CUSTOMER, pa.string())]
    return pa.schema([*fields, *(pa.field(item.name, arrow_type(item.kind, scale)) for item in metrics)])


def require_in_range(orders: pl.DataFrame, states: pl.DataFrame) -> None:
    """Make sure that no 128-bit sum of squares can have wrapped.

    Raises
    ------
    DaskaeError
        Far beyond any real money: at four digits, a hundred orders of 10**14 by one customer.
    """
    if not orders.height:
        return
    largest = int(orders.select(pl.col("amount").cast(pl.Int128).abs().max()).item())
    most = int(states["orders"].max() or 0)  # type: ignore[arg-type]
    if largest * largest * most >= 2**126 or largest * most >= _WIDE:
        raise DaskaeError(
            "amounts are too large to be summed exactly", "money.scale", f"an order of {largest} units, {most} orders",
            hint="lower money.scale by some digits",
        )  # fmt: skip


def finalize_customers(states: pl.DataFrame, metrics: Sequence[Metric], facts: Facts) -> pa.Table:
    """Make the rows of ``customer_metrics`` from states, keeping their order."""
    columns = [
        pl.col(f"{item.name}.frame").alias(item.name)
        if isinstance(item, FrameMetric)
        else item.finalize(facts).alias(item.name)
        for item in metrics
    ]
    table = states.select(pl.col(CUSTOMER), *columns)
    wide = states.filter(pl.col("orders") * pl.col("total").cast(pl.Float64).abs() > 2.0**62)
    if wide.height and "std_order_value" in table.columns:
        table = _exact_deviation(table, wide, facts)
    return table.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(customer_schema(metrics, facts.scale))


def _exact_deviation(table: pl.DataFrame, wide: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    """Recompute deviations whose numerator may not fit 128 bits, in unbounded integers."""
    values = {}
    for customer, n, total, squares in wide.select(CUSTOMER, "orders", "total", "squares").iter_rows():
        numerator = n * squares - total * total
        values[customer] = (Decimal(numerator) / (n * (n - 1))).sqrt() / 10**facts.scale if n > 1 else None
    fixed = pl.DataFrame({CUSTOMER: list(values), "fixed": [None if v is None else float(v) for v in values.values()]})
    joined = table.join(fixed, on=CUSTOMER, how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("fixed", "std_order_value").alias("std_order_value")).drop("fixed")
