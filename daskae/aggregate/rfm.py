"""RFM scores that ties share and no row order changes.

The score of a value is ``1 + floor(5 x customers with a strictly worse value / customers)``. It rises above each of four
values of the sorted data: the score exceeds k where more than ``x[ceil(k n / 5)]`` (counted from one), so the scores follow
from four order statistics a measure. Those are found exactly, without gathering the values, by bisection over the sorted
parts that the reduce tasks leave.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

SCORES = 5


def order_statistic(parts: Sequence[NDArray[np.int64]], rank: int) -> int:
    """Return the ``rank``-th smallest value (from one) of several sorted arrays together."""
    low = min(int(part[0]) for part in parts if len(part))
    high = max(int(part[-1]) for part in parts if len(part))
    while low < high:
        middle = (low + high) // 2
        if sum(int(np.searchsorted(part, middle, side="right")) for part in parts) >= rank:
            high = middle
        else:
            low = middle + 1
    return low


def score_cuts(parts: Sequence[NDArray[np.int64]]) -> list[int]:
    """Return the four values above which the score rises; empty for no customers."""
    count = sum(len(part) for part in parts)
    if not count:
        return []
    return [order_statistic(parts, -(-k * count // SCORES)) for k in range(1, SCORES)]


def score(value: pl.Expr, cuts: Sequence[int]) -> pl.Expr:
    """Score a ranked value, 1 (worst) to 5 (best), Int64."""
    return pl.sum_horizontal([pl.lit(1, dtype=pl.Int64), *((value > cut).cast(pl.Int64) for cut in cuts)])


def segment(cuts: Mapping[str, Sequence[int]], ranked: Mapping[str, Any]) -> pl.Expr:
    """Name a customer's segment from recency (R) and the mean of frequency and monetary (FM), first match wins.

    champions R >= 4, FM >= 4; loyal R >= 3, FM >= 4; cannot_lose R <= 2, FM >= 4; new R >= 4, FM <= 2;
    promising R >= 3, FM >= 2; at_risk R <= 2, FM >= 2; the rest is hibernating.
    """
    r = score(ranked["recency"], cuts["recency"])
    fm = score(ranked["frequency"], cuts["frequency"]) + score(ranked["monetary"], cuts["monetary"])
    choice = pl.when((r >= 4) & (fm >= 8)).then(pl.lit("champions"))
    choice = choice.when((r >= 3) & (fm >= 8)).then(pl.lit("loyal"))
    choice = choice.when((r <= 2) & (fm >= 8)).then(pl.lit("cannot_lose"))
    choice = choice.when((r >= 4) & (fm <= 4)).then(pl.lit("new"))
    choice = choice.when((r >= 3) & (fm >= 4)).then(pl.lit("promising"))
    return choice.when((r <= 2) & (fm >= 4)).then(pl.lit("at_risk")).otherwise(pl.lit("hibernating"))
