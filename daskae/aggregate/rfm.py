"""RFM scores that ties share and no row order changes.

The score of a value is ``1 + floor(5 x customers with a strictly worse value / customers)``. It rises above each of
four values of the sorted data: the score exceeds k where more than ``x[ceil(k n / 5)]`` (counted from one), so the
scores follow from four order statistics a measure. Those are found exactly, without gathering the values, by bisection
over the sorted parts that the reduce tasks leave.
"""

from collections.abc import Mapping, Sequence

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


def segment(cuts: Mapping[str, Sequence[int]], ranked: Mapping[str, pl.Expr]) -> pl.Expr:
    """Name a customer's segment from recency (R) and the mean of frequency and monetary (FM), first match wins.

    champions R >= 4, FM >= 4; loyal R >= 3, FM >= 4; cannot_lose R <= 2, FM >= 4; new R >= 4, FM <= 2;
    promising R >= 3, FM >= 2; at_risk R <= 2, FM >= 2; the rest is hibernating.
    """
    scores = {measure: score(value, cuts[measure]) for measure, value in ranked.items()}
    index = (scores["recency"] - 1) * _WIDTH + scores["frequency"] + scores["monetary"]
    return pl.lit(_SEGMENTS).gather(index)


def _segment_name(r: int, fm: int) -> str:
    """Name the segment of a recency score and the sum of the other two."""
    if fm >= 8:
        return "champions" if r >= 4 else "loyal" if r >= 3 else "cannot_lose"
    if r >= 4 and fm <= 4:
        return "new"
    if fm >= 4:
        return "promising" if r >= 3 else "at_risk"
    return "hibernating"


_WIDTH = 2 * SCORES + 1
_SEGMENTS = pl.Series([_segment_name(r, fm) for r in range(1, SCORES + 1) for fm in range(_WIDTH)])
