import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.aggregate.rfm import order_statistic, score, score_cuts, segment

VALUES = st.lists(st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30)


def parts_of(values: list[int], count: int) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return [np.sort(np.array(values[i::count], np.int64)) for i in range(count)]


@given(values=VALUES, count=st.integers(1, 5))
@settings(max_examples=100)
def test_the_score_is_what_the_formula_says(values: list[int], count: int) -> None:
    cuts = score_cuts(parts_of(values, count))
    frame = pl.DataFrame({"v": pl.Series(values, dtype=pl.Int64)})
    expected = [1 + 5 * sum(other < value for other in values) // len(values) for value in values]
    assert frame.select(score(pl.col("v"), cuts)).to_series().to_list() == expected


@pytest.mark.parametrize("size", range(1, 31))
def test_distinct_values_and_all_ties(size: int) -> None:
    for values in (list(range(size)), [7] * size):
        cuts = score_cuts(parts_of(values, 3))
        expected = [1 + 5 * sum(other < value for other in values) // size for value in values]
        assert pl.DataFrame({"v": values}).select(score(pl.col("v"), cuts)).to_series().to_list() == expected


@given(values=VALUES, count=st.integers(1, 5), data=st.data())
@settings(max_examples=60)
def test_order_statistics(values: list[int], count: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, len(values)))
    assert order_statistic(parts_of(values, count), rank) == sorted(values)[rank - 1]


def test_no_customers() -> None:
    assert score_cuts([]) == score_cuts([np.empty(0, np.int64)]) == []


@pytest.mark.parametrize(
    ("r", "f", "m", "name"),
    [
        (5, 5, 5, "champions"),
        (4, 3, 5, "champions"),
        (3, 4, 4, "loyal"),
        (2, 4, 4, "cannot_lose"),
        (1, 5, 5, "cannot_lose"),
        (5, 1, 1, "new"),
        (4, 2, 2, "new"),
        (4, 1, 4, "promising"),
        (3, 2, 2, "promising"),
        (5, 3, 4, "promising"),
        (2, 2, 2, "at_risk"),
        (1, 3, 4, "at_risk"),
        (2, 1, 2, "hibernating"),
        (1, 1, 1, "hibernating"),
        (3, 1, 2, "hibernating"),
    ],
)
def test_segments(r: int, f: int, m: int, name: str) -> None:
    cuts = dict.fromkeys(("recency", "frequency", "monetary"), (1, 2, 3, 4))
    ranked = {name: pl.col(name) for name in cuts}
    frame = pl.DataFrame({"recency": [r], "frequency": [f], "monetary": [m]})
    assert frame.select(segment(cuts, ranked)).item() == name
