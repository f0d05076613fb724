"""A metric is a record: what to keep of a customer's orders, how two keeps merge, and what to make of them at the end.

``finalize(combine(chunk(A), chunk(B))) == finalize(chunk(A + B))`` for any split of the orders: the merge law, tested
for every built-in metric. A state is exact where its inputs are: money is summed as 128-bit integers of the smallest
unit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import polars as pl

from daskae.config import MetricSettings
from daskae.errors import SettingsError

Combine = Literal["sum", "min", "max"]
Kind = Literal["text", "integer", "float", "money", "timestamp", "date", "boolean"]

CUSTOMER = "customer_id"


@dataclass(frozen=True)
class Facts:
    """What is true of the whole data set and known only at the end."""

    as_of: date
    scale: int
    """Digits after the point of a money unit."""
    settings: MetricSettings
    customers: int = 0
    rfm_cuts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """For each of recency, frequency and monetary: the four values above which the score rises."""


@dataclass(frozen=True)
class State:
    """One mergeable number (or time) per customer."""

    name: str
    chunk: pl.Expr
    """Aggregates the rows of one customer: ``amount`` (integer units), ``order_date``, ``lines`` and more."""
    combine: Combine = "sum"

    def combined(self) -> pl.Expr:
        """Return the expression that merges states of one customer."""
        column = pl.col(self.name)
        return {"sum": column.sum(), "min": column.min(), "max": column.max()}[self.combine].alias(self.name)


@dataclass(frozen=True)
class Aggregation:
    """One column of the customer table."""

    name: str
    states: tuple[State, ...]
    finalize: Callable[[Facts], pl.Expr]
    """Makes the value from the states' columns."""
    kind: Kind = "float"
    description: str = ""


@dataclass(frozen=True)
class FrameMetric:
    """One column of the customer table, as a function on a pandas DataFrame.

    The function sees all orders of many customers at once, each customer whole, and returns one value a customer, as a
    Series indexed by customer id. It is exact without a merge law, because no customer is ever divided.
    """

    name: str
    function: Callable[[Any], Any]
    kind: Kind = "float"
    description: str = ""


Metric = Aggregation | FrameMetric


def metric(
    name: str, expression: pl.Expr, *, combine: Combine, kind: Kind = "float", description: str = ""
) -> Aggregation:
    """Make a metric that is one mergeable aggregate, such as the largest order.

    Parameters
    ----------
    name : str
        Column in ``customer_metrics``.
    expression : polars.Expr
        Aggregates a customer's orders, for example ``pl.col("amount").max()``; amounts are integer units.
    combine : {"sum", "min", "max"}
        How the aggregates of two sets of orders merge.
    kind : str
        ``money`` turns integer units back into a decimal.
    description : str
        Shown in the report.
    """
    state = State(f"{name}.value", expression, combine)

    def finalize(facts: Facts) -> pl.Expr:
        value = pl.col(state.name)
        return money(value, facts) if kind == "money" else value

    return Aggregation(name, (state,), finalize, kind, description)


def money(units: pl.Expr, facts: Facts) -> pl.Expr:
    """Turn integer units into decimals with ``facts.scale`` digits, exactly."""
    target = pl.Decimal(38, facts.scale)
    if facts.scale == 0:
        return units.cast(target)
    from decimal import Decimal

    return units.cast(target) * pl.lit(Decimal(1).scaleb(-facts.scale), dtype=target)


def states_of(metrics: Sequence[Aggregation]) -> tuple[State, ...]:
    """List the states of some metrics, each once.

    Raises
    ------
    SettingsError
        If two states of one name differ.
    """
    found: dict[str, State] = {}
    for item in metrics:
        for state in item.states:
            known = found.setdefault(state.name, state)
            if known.combine != state.combine or not known.chunk.meta.eq(state.chunk):
                raise SettingsError("two states of one name differ", f"metric {item.name}", state.name)
    return tuple(found.values())


def chunk(orders: pl.DataFrame, states: Sequence[State], by: str = CUSTOMER) -> pl.DataFrame:
    """Aggregate orders into one row of states a customer."""
    return orders.group_by(by).agg(state.chunk.alias(state.name) for state in states)


def combine(parts: Sequence[pl.DataFrame], states: Sequence[State], by: str = CUSTOMER) -> pl.DataFrame:
    """Merge states of the same customers from several parts."""
    return pl.concat(parts).group_by(by).agg(state.combined() for state in states)
