"""From order lines to orders.

An order is all kept lines that share an order id within a customer: its amount is their exact sum, its time the
earliest line's. A line without an order id is an order of its own.
"""

import polars as pl

from daskae.errors import DaskaeError

_LIMIT = 2**62


def lines_to_orders(lines: pl.DataFrame, key: str) -> pl.DataFrame:
    """Merge lines into orders.

    Parameters
    ----------
    lines : DataFrame
        ``key``, ``order_date``, ``amount`` (Int64 units), and ``order_id`` unless every line is an order.
    key : str
        Column that identifies the customer.

    Returns
    -------
    DataFrame
        ``key``, ``order_id`` if given, ``order_date``, ``amount`` and ``lines``, in no order.
    """
    if "order_id" not in lines.columns:
        return lines.select(key, "order_date", "amount", pl.lit(1, dtype=pl.UInt32).alias("lines"))
    lone = lines.filter(pl.col("order_id").is_null())
    grouped = (
        (lines.filter(pl.col("order_id").is_not_null()) if lone.height else lines)
        .group_by(key, "order_id")
        .agg(pl.col("order_date").min(), pl.col("amount").cast(pl.Int128).sum(), pl.len().alias("lines"))
    )
    if grouped.height and int(grouped.select(pl.col("amount").abs().max()).item()) >= _LIMIT:
        raise DaskaeError(
            "an order's amount is too large to be kept exactly", "money.scale", hint="lower money.scale by some digits"
        )
    orders = grouped.with_columns(pl.col("amount").cast(pl.Int64))
    if not lone.height:
        return orders
    single = lone.select(key, "order_id", "order_date", "amount", pl.lit(1, dtype=pl.UInt32).alias("lines"))
    return pl.concat([orders, single])
