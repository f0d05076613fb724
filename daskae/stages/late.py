"""Look-ups in dimensions too large for a process: their rows meet a bucket's customers, slot by slot."""

import time
from typing import Any

import polars as pl

from daskae.stages.dimension import dimension_of
from daskae.stages.spec import Spec
from daskae.transform.enrich import joined
from daskae.transform.operations import Lookup
from daskae.transform.states import StepState

CODE = "_code"


def with_late_columns(
    orders: pl.DataFrame, customers: pl.Series, slots: tuple[int, int], spec: Spec
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Give orders the columns of large dimensions that metrics use.

    Parameters
    ----------
    orders : DataFrame
        With the customers' numbers as ``_code``.
    customers : Series
        Ids by number.
    slots : tuple of int
        The bucket's first slot, and one past its last.
    spec : Spec

    Returns
    -------
    orders : DataFrame
        Decimals as integer units.
    states : dict
        What became of the rows in each step, as plain data.
    """
    states: dict[str, Any] = {}
    wanted = {column.name for column in spec.extra_columns}
    for step in spec.steps.late:
        begun = time.perf_counter()
        lookup = step.operation
        assert isinstance(lookup, Lookup)
        if names := [name for name in lookup.outputs if name in wanted]:
            dimension = dimension_of(lookup, *slots, customers)
            found, _ = joined(pl.DataFrame({CODE: range(len(customers))}), customers, lookup, dimension)
            values = [_to_units(found[name]).gather(orders[CODE]) for name in names]
            orders = orders.with_columns(values)
        seconds = time.perf_counter() - begun
        states[step.name] = StepState(orders.height, orders.height, 0, 1, 0, seconds).to_json()
    return orders, states


def _to_units(values: pl.Series) -> pl.Series:
    return values.to_physical().cast(pl.Int64) if isinstance(values.dtype, pl.Decimal) else values
