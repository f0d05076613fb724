import json
from collections import Counter

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from daskae.sketches.frequent import Frequency, FrequentValues

WORDS = st.lists(st.none() | st.sampled_from("abcdefgh"), max_size=30)


def state(values: list[str | None], capacity: int = 10_000) -> FrequentValues:
    return FrequentValues.of(pl.Series(values, dtype=pl.String), capacity)


@given(WORDS, WORDS, WORDS)
def test_exact_counts_merge_in_any_order(a: list[str | None], b: list[str | None], c: list[str | None]) -> None:
    whole = state(a + b + c, 8)
    assert state(a, 8).merge(state(b, 8)).merge(state(c, 8)) == whole
    assert state(c, 8).merge(state(a, 8).merge(state(b, 8))) == whole
    assert whole.is_exact
    counted = Counter(value for value in a + b + c if value is not None)
    assert {item.value: item.lower for item in whole.top(8)} == counted
    assert FrequentValues.from_json(json.loads(json.dumps(whole.to_json()))) == whole


@given(st.lists(WORDS, min_size=1, max_size=6), st.integers(1, 7))
def test_bounds_hold_beyond_the_capacity(parts: list[list[str | None]], capacity: int) -> None:
    merged = state(parts[0], capacity)
    for part in parts[1:]:
        merged = merged.merge(state(part, capacity))
    counted = Counter(value for part in parts for value in part if value is not None)
    assert merged.rows == counted.total()
    assert merged.is_exact == (len(counted) <= capacity)
    assert merged.table.height <= capacity
    assert merged.error <= counted.total() / (capacity + 1)
    for value in "abcdefgh":
        bounds = merged.bounds(value)
        assert bounds.lower <= counted[value] <= bounds.upper


def test_what_is_frequent_is_found_among_many() -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(60_000) < 0.3, "often", np.char.add("once-", np.arange(60_000).astype(str)))
    parts = [FrequentValues.of(pl.Series(part), 500) for part in np.array_split(values, 5)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    first = merged.top(1)[0]
    assert first.value == "often"
    assert first.lower <= int((values == "often").sum()) <= first.upper
    assert not merged.is_exact


def test_equal_counts_come_by_value() -> None:
    assert state(["b", "a", None, "b", "c", "a"]).top(2) == [Frequency("a", 2, 2), Frequency("b", 2, 2)]
    assert FrequentValues.of(pl.Series([2, 2, 1])).top(1) == [Frequency("2", 2, 2)]
    assert state([]).top(3) == []
