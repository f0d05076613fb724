from datetime import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.aggregate.orders import lines_to_orders
from daskae.errors import DaskaeError

DAY = datetime(2024, 1, 1)
SCHEMA: dict[str, Any] = {"k": pl.UInt32, "order_id": pl.String, "order_date": pl.Datetime("us"), "amount": pl.Int64}
LINES = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["A", "B", "", None]),
        st.integers(0, 3).map(lambda day: datetime(2024, 1, 1 + day)),
        st.integers(-(10**17), 10**17),
    ),
    max_size=20,
)


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def merged(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    orders = lines_to_orders(frame(rows), "k").select("k", "order_id", "order_date", "amount", "lines")
    return sorted(orders.rows(), key=repr)


@given(rows=LINES)
@settings(max_examples=60)
def test_against_a_dictionary(rows: list[tuple[Any, ...]]) -> None:
    groups: dict[Any, list[Any]] = {}
    for i, (customer, order, day, amount) in enumerate(rows):
        groups.setdefault((customer, order, i if order is None else -1), []).append((day, amount))
    expected = [
        (customer, order, min(day for day, _ in lines), sum(amount for _, amount in lines), len(lines))
        for (customer, order, _), lines in groups.items()
    ]
    assert merged(rows) == sorted(expected, key=repr)


def test_an_order_id_counts_within_its_customer() -> None:
    rows = [(0, "A", DAY, 1), (1, "A", DAY, 2), (0, "A", DAY.replace(day=3), 4)]
    assert merged(rows) == [(0, "A", DAY, 5, 2), (1, "A", DAY, 2, 1)]


def test_sums_are_exact_where_floats_are_not() -> None:
    big = 2**60
    assert merged([(0, "A", DAY, big), (0, "A", DAY, 1), (0, "A", DAY, -big)]) == [(0, "A", DAY, 1, 3)]


def test_sums_that_pass_64_bits_on_the_way() -> None:
    top = 2**63 - 1
    assert merged([(0, "A", DAY, top), (0, "A", DAY, top), (0, "A", DAY, -top), (0, "A", DAY, -top)]) == [
        (0, "A", DAY, 0, 4)
    ]


@pytest.mark.parametrize("sign", [1, -1])
def test_an_order_beyond_the_limit_is_refused(sign: int) -> None:
    with pytest.raises(DaskaeError, match=r"(?s)too large to be kept exactly.*money\.scale"):
        merged([(0, "A", DAY, sign * 2**61), (0, "A", DAY, sign * 2**61)])
    with pytest.raises(DaskaeError, match="too large to be kept exactly"):
        merged([(0, "A", DAY, sign * 2**62)])


def test_without_order_ids_every_line_is_an_order() -> None:
    rows = [(0, None, DAY, 1), (0, None, DAY, 2)]
    orders = lines_to_orders(frame(rows).drop("order_id"), "k")
    assert orders.rows() == [(0, DAY, 1, 1), (0, DAY, 2, 1)]
    assert lines_to_orders(frame([]), "k").height == 0
