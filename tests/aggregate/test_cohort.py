from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.aggregate import cohort
from daskae.aggregate.cohort import (
    bucket_cells,
    cohort_rows,
    cohort_schema,
    cohort_table,
    merge_cells,
    month_numbers,
    month_start,
)

Order = tuple[str, datetime, int]
DAYS = st.integers(0, 500).map(lambda day: datetime(2022, 11, 1) + timedelta(days=day, hours=23))
ORDERS = st.lists(st.tuples(st.sampled_from("abcdef"), DAYS, st.integers(-(10**6), 10**6)), min_size=1, max_size=25)


def cells_of(orders: list[Order]) -> list[Any]:
    names = sorted({customer for customer, _, _ in orders})
    frame = pl.DataFrame(
        {
            "code": [names.index(customer) for customer, _, _ in orders],
            "order_date": [day for _, day, _ in orders],
            "amount": [amount for _, _, amount in orders],
        },
        schema={"code": pl.UInt32, "order_date": pl.Datetime("us"), "amount": pl.Int64},
    )
    states = frame.group_by("code").agg(
        pl.col("order_date").min().alias("first"), pl.col("order_date").max().alias("last")
    )
    return bucket_cells(frame, states.sort("code"), "code")


def number(day: date) -> int:
    return 12 * day.year + day.month - 1


def naive_table(orders: list[Order], as_of: date) -> list[dict[str, Any]]:
    """The definitions, written down as they are said."""
    visits: dict[str, set[int]] = defaultdict(set)
    for customer, day, _ in orders:
        visits[customer].add(number(day))
    last = max(max(months) for months in visits.values())
    rows = []
    for first in sorted({min(months) for months in visits.values()}):
        members = [customer for customer, months in visits.items() if min(months) == first]
        total = 0
        for month in range(first, last + 1):
            revenue = sum(amount for customer, day, amount in orders if customer in members and number(day) == month)
            total += revenue
            active = sum(month in visits[customer] for customer in members)
            rolling = sum(max(visits[customer]) >= month for customer in members)
            after = date((month + 1) // 12, (month + 1) % 12 + 1, 1)
            rows.append(
                {
                    "cohort_month": date(first // 12, first % 12 + 1, 1),
                    "period_index": month - first,
                    "cohort_size": len(members),
                    "active_customers": active,
                    "retention": active / len(members),
                    "rolling_active_customers": rolling,
                    "rolling_retention": rolling / len(members),
                    "revenue": Decimal(revenue) / 100,
                    "cumulative_revenue": Decimal(total) / 100,
                    "cumulative_ltv": total / (len(members) * 100),
                    "is_partial": as_of < after - timedelta(days=1),
                }
            )
    return rows


@given(orders=ORDERS, as_of=st.dates(date(2022, 11, 1), date(2024, 6, 30)))
@settings(max_examples=60)
def test_against_the_definitions(orders: list[Order], as_of: date) -> None:
    assert cohort_rows(cells_of(orders), as_of, 2) == naive_table(orders, as_of)


@given(orders=ORDERS, parts=st.integers(1, 4))
@settings(max_examples=40)
def test_cells_of_buckets_add_up(orders: list[Order], parts: int) -> None:
    split = [[order for order in orders if ord(order[0]) % parts == part] for part in range(parts)]
    merged = merge_cells(cells_of(some) for some in split if some)
    assert merged == cells_of(orders)
    assert merge_cells([merged]) == merged


@given(orders=ORDERS)
@settings(max_examples=40)
def test_both_ways_to_count_visits(orders: list[Order]) -> None:
    by_bitmap = cells_of(orders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort, "_BITMAP_BYTES", 0)
        assert cells_of(orders) == by_bitmap


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_distinct_visits(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "_BITMAP_BYTES", limit)
    code, month = np.array([1, 0, 1, 1, 0], np.uint32), np.array([-5, 7, -5, 3, 7], np.int32)
    visitor, visited = cohort._distinct_visits(code, month, 2)
    assert sorted(zip(visitor.tolist(), visited.tolist(), strict=True)) == [(0, 7), (1, -5), (1, 3)]


MOMENTS = [
    datetime(1, 1, 1),
    datetime(1582, 10, 15),
    datetime(1899, 12, 31, 23, 59, 59, 999_999),
    datetime(1969, 12, 31, 23, 59, 59),
    datetime(1970, 1, 1),
    datetime(2000, 2, 29, 12),
    datetime(2024, 12, 31, 23, 59, 59, 999_999),
    datetime(9999, 12, 31, 23, 59),
]


def test_months_of_early_and_late_years() -> None:
    for some in ([moment] for moment in MOMENTS):
        assert month_numbers(pl.Series(some)).tolist() == [number(some[0])]
    assert month_numbers(pl.Series(MOMENTS)).tolist() == [number(moment) for moment in MOMENTS]
    assert month_numbers(pl.Series([], dtype=pl.Datetime("us"))).tolist() == []


@given(moments=st.lists(st.datetimes(), min_size=1, max_size=5))
@settings(max_examples=30)
def test_months_of_any_time(moments: list[datetime]) -> None:
    found = month_numbers(pl.Series(moments, dtype=pl.Datetime("us")))
    assert found.tolist() == [number(moment) for moment in moments]
    assert [month_start(int(month)) for month in found] == [date(moment.year, moment.month, 1) for moment in moments]


@pytest.mark.parametrize(
    ("as_of", "partial"),
    [(date(2024, 2, 28), True), (date(2024, 2, 29), False), (date(2024, 3, 1), False), (date(2024, 1, 31), True)],
)
def test_a_month_is_partial_until_its_last_day(as_of: date, partial: bool) -> None:
    rows = cohort_rows(cells_of([("a", datetime(2024, 2, 1), 5)]), as_of, 2)
    assert [row["is_partial"] for row in rows] == [partial]


@pytest.mark.parametrize("as_of", [date(2024, 1, 1), date(9999, 12, 30), date.max])
def test_the_last_month_there_is(as_of: date) -> None:
    rows = cohort_rows(cells_of([("a", datetime(9999, 12, 31, 10), 5)]), as_of, 2)
    assert [(row["cohort_month"], row["is_partial"]) for row in rows] == [(date(9999, 12, 1), as_of != date.max)]


def test_money_beyond_64_bits() -> None:
    cells = merge_cells([cells_of([("a", datetime(2024, 1, 1), 2**62), ("a", datetime(2024, 1, 2), 2**62)])] * 2)
    (row,) = cohort_rows(cells, date(2024, 1, 31), 4)
    assert row["revenue"] == Decimal(2**64).scaleb(-4)


def test_the_table() -> None:
    table = cohort_table(
        cells_of([("a", datetime(2024, 1, 1), 250), ("b", datetime(2024, 2, 1), 1)]), date(2024, 2, 29), 2
    )
    assert table.schema == cohort_schema(2)
    assert table["revenue"].to_pylist() == [Decimal("2.50"), Decimal(0), Decimal("0.01")]
    assert cohort_table([], date(2024, 1, 1), 2).num_rows == 0
