import json
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from daskae.sketches.quantiles import RELATIVE_ERROR, QuantileSketch

NUMBERS = st.lists(st.none() | st.floats(width=64) | st.integers(-(10**6), 10**6).map(float), max_size=40)


def sketch(values: Sequence[float | None]) -> QuantileSketch:
    return QuantileSketch.of(pl.Series(values, dtype=pl.Float64))


@given(NUMBERS, NUMBERS, NUMBERS)
def test_merging_is_counting_together_in_any_order(a: list[float], b: list[float], c: list[float]) -> None:
    whole = sketch(a + b + c)
    assert sketch(a).merge(sketch(b)).merge(sketch(c)) == whole
    assert sketch(c).merge(sketch(a).merge(sketch(b))) == whole
    assert QuantileSketch.from_json(json.loads(json.dumps(whole.to_json(), allow_nan=False))) == whole


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_within_the_stated_error_of_the_value_of_its_rank(values: list[float], q: float) -> None:
    found = sketch([*values]).quantile(q)
    assert found is not None
    true = sorted(values)[int(np.floor(q * (len(values) - 1)))]
    assert abs(found - true) <= RELATIVE_ERROR * abs(true) or abs(true) < 2.0**-1022


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["lognormal", "normal", "uniform", "pareto", "prices", "counts", "constant"])
def test_quantiles_of_large_columns(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns: dict[str, Callable[[], NDArray[np.float64]]] = {
        "lognormal": lambda: rng.lognormal(3, 2, 50_000),
        "normal": lambda: rng.normal(0, 1000, 50_000),
        "uniform": lambda: rng.uniform(-1, 1, 50_000),
        "pareto": lambda: rng.pareto(1.1, 50_000),
        "prices": lambda: np.round(rng.gamma(2, 10, 50_000), 2),
        "counts": lambda: rng.poisson(3, 50_000).astype(float),
        "constant": lambda: np.full(50_000, 17.25),
    }
    values = columns[kind]()
    parts = [QuantileSketch.of(pl.Series(part)) for part in np.array_split(values, 7)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged.count == 50_000
    for q in (0.001, 0.05, 0.25, 0.5, 0.75, 0.95, 0.999):
        true = float(np.quantile(values, q, method="lower"))
        assert merged.quantile(q) == pytest.approx(true, rel=RELATIVE_ERROR, abs=1e-300)


def test_ends_are_exact_and_infinities_are_values() -> None:
    found = sketch([1.23456789, float("inf"), float("-inf"), float("nan"), None, 5.4321])
    assert (found.count, found.minimum, found.maximum) == (4, float("-inf"), float("inf"))
    assert (found.quantile(0), found.quantile(1)) == (float("-inf"), float("inf"))
    assert found.quantile(0.5) == pytest.approx(1.23456789, rel=RELATIVE_ERROR)
    assert sketch([1.23456789]).quantile(0.5) == 1.23456789


def test_no_values() -> None:
    nothing = sketch([None, float("nan")])
    assert (nothing.count, nothing.quantile(0.5), nothing.minimum) == (0, None, None)
    assert nothing.merge(sketch([2.0])) == sketch([2.0])


def test_numbers_of_any_type_count_alike() -> None:
    texts = pl.Series(["1.50", "-2.25", "100"])
    same = [sketch([1.5, -2.25, 100.0]), QuantileSketch.of(texts.cast(pl.Decimal(38, 4)))]
    assert same[0] == same[1]
    assert QuantileSketch.of(pl.Series([3, 4])) == sketch([3.0, 4.0])
    weighted = QuantileSketch.of_counts(np.array([1.0, 2.0]), np.array([3, 1]))
    assert weighted == sketch([1.0, 1.0, 2.0, 1.0])


def test_the_state_does_not_grow_with_the_rows() -> None:
    rng = np.random.default_rng(1)
    small, large = (QuantileSketch.of(pl.Series(rng.uniform(0.01, 1e6, n))) for n in (20_000, 500_000))
    assert len(large.buckets) <= 3_500
    assert len(small.buckets) <= len(large.buckets)
