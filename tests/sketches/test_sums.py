import json
import math
from fractions import Fraction

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from daskae.sketches.sums import ExactSum

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.lists(FINITE, max_size=30)


def add(values: list[float]) -> ExactSum:
    return ExactSum.of(pl.Series(values, dtype=pl.Float64))


@given(NUMBERS, NUMBERS)
def test_a_sum_is_exact_and_merges(a: list[float], b: list[float]) -> None:
    both = add(a).merge(add(b))
    assert both == add(b + a)
    assert Fraction(both.units, 1 << 1074) == sum(map(Fraction, a + b))
    assert ExactSum.from_json(json.loads(json.dumps(both.to_json()))) == both


@given(FINITE, st.integers(0, 10**12))
def test_a_value_counts_as_often_as_it_occurs(value: float, times: int) -> None:
    assert (
        Fraction(ExactSum.of_counts(np.array([value]), np.array([times])).units, 1 << 1074) == Fraction(value) * times
    )


def test_nothing_is_lost_to_rounding() -> None:
    assert add([1e16, 1.0, -1e16]).total == 1.0
    assert add([0.1] * 10).mean == 0.1
    assert add([]).mean is None
    assert add([math.inf, math.nan, 2.0]) == add([2.0])
    many = np.tile([1.7e308, -3.5], 60_000)
    assert ExactSum.of(pl.Series(many)).total == math.inf
    assert ExactSum.of(pl.Series(many)).mean == 8.5e307
