"""Orders as people write functions on them: a pandas DataFrame with exact decimals."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from daskae.aggregate.aggregation import CUSTOMER, FrameMetric
from daskae.aggregate.customer import arrow_type
from daskae.budget import budget
from daskae.errors import DaskaeError, IndivisibleError
from daskae.repeats import SAMPLE_ROWS, require_same_values
from daskae.stages.spec import Spec
from daskae.units import format_bytes

GROUPED, FRAMED = 6, 3
"""Bytes of memory for each exchange byte of some customers while they are grouped, and more while their orders are a
DataFrame: money is twice as long there, the frame is made from a copy, and most functions make one more (measured: 1.1
for functions that sort, group and apply)."""


def require_room(nbytes: int, lines: int, task: object, spec: Spec) -> None:
    """Check before it is read that a customer who is not to be divided will fit.

    Parameters
    ----------
    nbytes, lines : int
        What the customer has in the exchange files.
    task : object
        For the message. Who the customer is is not said, as it may be a name that must not be shown.
    spec : Spec

    Raises
    ------
    IndivisibleError
    """
    here = budget()
    if here is None:
        return
    held, limit = here
    needed = held + (GROUPED + FRAMED) * nbytes
    if needed <= limit:
        return
    terms = f"the process as it is {format_bytes(held)}; {lines:,} lines of the customer while they are grouped "
    terms += f"{format_bytes(GROUPED * nbytes)}; the orders as a DataFrame {format_bytes(FRAMED * nbytes)}"
    names = ", ".join(item.name for item in spec.frame_metrics)
    raise IndivisibleError(
        "metrics on a DataFrame need all orders of a customer at once, and one customer has too many",
        f"metrics {names}; {task}"[:300], f"{format_bytes(needed)} = {terms}", format_bytes(limit),
        "raise --memory-limit, use fewer --workers so that each has more, or write the metric as states that merge",
    )  # fmt: skip


def orders_for_people(orders: pl.DataFrame, spec: Spec) -> Any:
    """Turn orders with integer units into a pandas DataFrame with Arrow types; money as exact decimals."""
    import pandas as pd

    decimals = ["amount", *(column.name for column in spec.extra_columns if column.dtype == "decimal")]
    shown = with_decimals(orders, decimals, spec.contract.scale).select(CUSTOMER, pl.exclude(CUSTOMER))
    return shown.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)


def with_decimals(frame: pl.DataFrame, names: Sequence[str], scale: int) -> pl.DataFrame:
    """Turn columns of integer units into exact decimals."""
    target = pl.Decimal(38, scale)
    unit = pl.lit(10**scale, dtype=pl.Decimal(38, 0))
    return frame.with_columns((pl.col(name).cast(target) / unit).cast(target).alias(name) for name in names)


def evaluate(metric: FrameMetric, orders: Any, customers: pl.Series, scale: int) -> pl.Series:
    """Call a frame metric and line its values up with the customers.

    Raises
    ------
    DaskaeError
        If the function fails, or does not return one value a customer of the declared kind.
    """
    try:
        values = metric.function(orders)
        lined = values.reindex(customers.to_list())
        arrow = pa.array(lined, from_pandas=True).cast(arrow_type(metric.kind, scale))
    except Exception as error:
        raise DaskaeError(
            "a metric's function failed", f"metric {metric.name}", f"{type(error).__name__}: {error}"[:300],
            "a pandas Series indexed by customer_id, one value a customer",
        ) from error  # fmt: skip
    return pl.Series(f"{metric.name}.frame", pl.from_arrow(arrow))


def require_repeatable(spec: Spec, orders: Any, customers: pl.Series, found: Sequence[pl.Series]) -> None:
    """Call frame metrics once more with the orders of a few customers, and compare.

    Raises
    ------
    DaskaeError
    """
    few = customers.head(SAMPLE_ROWS)
    theirs = orders[orders[CUSTOMER].isin(few.to_list())]
    for item, first in zip(spec.frame_metrics, found, strict=True):
        again = evaluate(item, theirs, few, spec.contract.scale)
        require_same_values(first.to_frame("value"), again.to_frame("value"), f"metric {item.name}")
