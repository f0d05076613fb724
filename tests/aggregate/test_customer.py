import statistics
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.aggregate import Aggregation, Facts, Metric, State, metric
from daskae.aggregate.aggregation import chunk, combine, states_of
from daskae.aggregate.customer import BUILT_IN, RANKED, customer_schema, finalize_customers, require_in_range
from daskae.aggregate.rfm import score_cuts
from daskae.config import MetricSettings
from daskae.errors import DaskaeError, SettingsError

AS_OF = date(2024, 12, 31)
Order = tuple[str, datetime, int]
ORDERS = st.lists(
    st.tuples(
        st.sampled_from("abcde"),
        st.integers(0, 900).map(lambda day: datetime(2022, 6, 1) + timedelta(days=day, hours=day % 24)),
        st.integers(-(10**9), 10**9),
    ),
    min_size=1,
    max_size=30,
)


def frame(orders: Sequence[Order]) -> pl.DataFrame:
    schema: dict[str, Any] = {"customer_id": pl.String, "order_date": pl.Datetime("us"), "amount": pl.Int64}
    return pl.DataFrame(list(orders), schema=schema, orient="row").with_columns(pl.lit(1, pl.UInt32).alias("lines"))


def finish(
    states: pl.DataFrame, metrics: Sequence[Metric] = BUILT_IN, scale: int = 2, as_of: date = AS_OF, **given: Any
) -> dict[str, dict[str, Any]]:
    """Finish states of all customers, by customer."""
    cuts = {
        name: score_cuts([np.sort(states.select(value.alias("v"))["v"].to_numpy().astype(np.int64))])
        for name, value in RANKED.items()
    }
    table = finalize_customers(states, metrics, Facts(as_of, scale, MetricSettings(**given), states.height, cuts))
    assert table.schema == customer_schema(metrics, scale)
    return {row["customer_id"]: row for row in table.to_pylist()}


def compute(
    orders: Sequence[Order], metrics: Sequence[Aggregation] = BUILT_IN, **given: Any
) -> dict[str, dict[str, Any]]:
    return finish(chunk(frame(orders), states_of([*BUILT_IN, *metrics])), metrics, **given)


def naive(orders: Sequence[Order], customer: str) -> dict[str, Any]:
    """The definitions, written down as they are said."""
    mine = [order for order in orders if order[0] == customer]
    amounts, days = [amount for _, _, amount in mine], sorted(day for _, day, _ in mine)
    count, active = len(mine), (days[-1].date() - days[0].date()).days
    since = (AS_OF - days[-1].date()).days
    average = sum(amounts) / (count * 100)
    return {
        "customer_id": customer,
        "order_count": count,
        "total_revenue": Decimal(sum(amounts)) / 100,
        "avg_order_value": pytest.approx(average, rel=1e-9, abs=1e-9),
        "std_order_value": pytest.approx(statistics.stdev(amounts) / 100, rel=1e-9, abs=1e-9) if count > 1 else None,
        "first_order_at": days[0],
        "last_order_at": days[-1],
        "days_active": active,
        "avg_days_between_orders": active / (count - 1) if count > 1 else None,
        "days_since_last_order": since,
        "is_churned": since > 365,
        "cohort_month": days[0].date().replace(day=1),
        "realized_ltv": Decimal(sum(amounts)) / 100,
        "projected_ltv": pytest.approx(average * count / 12 * 24, rel=1e-9, abs=1e-9),
    }


@given(orders=ORDERS)
@settings(max_examples=50)
def test_against_the_definitions(orders: list[Order]) -> None:
    names = sorted({customer for customer, _, _ in orders})
    expected = {name: naive(orders, name) for name in names}
    ranked = {
        "rfm_recency": {name: -expected[name]["days_since_last_order"] for name in names},
        "rfm_frequency": {name: expected[name]["order_count"] for name in names},
        "rfm_monetary": {name: expected[name]["total_revenue"] for name in names},
    }
    for measure, values in ranked.items():
        for name in names:
            worse = sum(other < values[name] for other in values.values())
            expected[name][measure] = 1 + 5 * worse // len(names)
    found = compute(orders)
    assert {
        name: {key: value for key, value in row.items() if key != "segment"} for name, row in found.items()
    } == expected


@given(orders=ORDERS, parts=st.integers(1, 4))
@settings(max_examples=40)
def test_states_of_parts_merge_to_the_states_of_the_whole(orders: list[Order], parts: int) -> None:
    states = states_of(BUILT_IN)
    pieces = [chunk(frame(orders[i::parts]), states) for i in range(parts)]
    whole = chunk(frame(orders), states)
    merged = combine([piece for piece in pieces if piece.height], states)
    assert merged.sort("customer_id").rows() == whole.sort("customer_id").rows()


def test_equal_amounts_deviate_by_exactly_nothing() -> None:
    orders = [("a", datetime(2024, 1, 1), 10**13 + 1)] * 7
    assert compute(orders)["a"]["std_order_value"] == 0.0


def test_a_small_deviation_of_large_amounts() -> None:
    orders = [("a", datetime(2024, 1, 1), 10**15), ("a", datetime(2024, 1, 1), 10**15 + 2)] * 50
    assert compute(orders)["a"]["std_order_value"] == pytest.approx(statistics.stdev([0, 2] * 50) / 100)


def test_a_deviation_whose_parts_do_not_fit_128_bits() -> None:
    # n * squares is beyond 2**127 here, so the exact way must have been taken.
    orders = [("a", datetime(2024, 1, 1), 2**50), ("a", datetime(2024, 1, 1), -(2**50))] * 1000
    orders += [("b", datetime(2024, 1, 1), 2**50 + i % 2) for i in range(2000)]
    found = compute(orders)
    assert found["a"]["std_order_value"] == pytest.approx(2**50 / 100 * (2000 / 1999) ** 0.5)
    assert found["b"]["std_order_value"] == pytest.approx(0.005 * (2000 / 1999) ** 0.5)


def test_amounts_too_large_to_sum_are_refused() -> None:
    orders = frame([("a", datetime(2024, 1, 1), 2**61)] * 4)
    with pytest.raises(DaskaeError, match=r"(?s)too large to be summed exactly.*4 orders.*lower money\.scale"):
        require_in_range(orders, chunk(orders, states_of(BUILT_IN)))
    fine = frame([("a", datetime(2024, 1, 1), 10**12)] * 4)
    require_in_range(fine, chunk(fine, states_of(BUILT_IN)))
    require_in_range(fine.head(0), chunk(fine, states_of(BUILT_IN)))


@pytest.mark.parametrize("margin", ["1", "0", "0.5", "0.3", "0.333333333", "2.5", "1E+1", "0.000000001"])
@pytest.mark.parametrize("scale", [0, 2, 9])
def test_the_margin_is_rounded_once_half_to_even(margin: str, scale: int) -> None:
    units = [1, 3, 5, -1, 10**12 + 7]
    found = compute(
        [(str(i), datetime(2024, 1, 1), amount) for i, amount in enumerate(units)], scale=scale, margin=Decimal(margin)
    )
    unit = Decimal(1).scaleb(-scale)
    for i, amount in enumerate(units):
        exact = Decimal(amount) * unit * Decimal(margin)
        assert found[str(i)]["realized_ltv"] == exact.quantize(unit, ROUND_HALF_EVEN)


def test_projection_by_tenure() -> None:
    orders = [
        ("a", datetime(2024, 7, 1, 12), 1000),
        ("a", datetime(2024, 8, 1), 3000),
        ("b", datetime(2024, 12, 30), 500),
    ]
    found = compute(orders, frequency="tenure", lifespan_months=10)
    tenure = (AS_OF - date(2024, 7, 1)).days / 30.4375
    assert found["a"]["projected_ltv"] == pytest.approx(20 * 2 / tenure * 10)
    assert found["b"]["projected_ltv"] == pytest.approx(5 * 1 / 1 * 10)


@pytest.mark.parametrize(("days", "churned"), [(365, False), (366, True)])
def test_the_day_of_churn(days: int, churned: bool) -> None:
    moment = datetime(2024, 12, 31, 23) - timedelta(days=days)
    assert compute([("a", moment, 1)])["a"]["is_churned"] == churned
    assert compute([("a", moment, 1)], churn_days=days - 1)["a"]["is_churned"] is True


def test_an_order_after_the_day_of_judgement() -> None:
    found = compute([("a", datetime(2025, 1, 10), 1)])["a"]
    assert (found["days_since_last_order"], found["is_churned"]) == (-10, False)


def test_ones_own_metrics() -> None:
    largest = metric("largest", pl.col("amount").max(), combine="max", kind="money")
    spent = metric("spent", pl.col("amount").cast(pl.Int128).sum(), combine="sum", kind="money")
    since = metric("since", pl.col("order_date").min(), combine="min", kind="timestamp")
    lines = metric("lines", pl.col("lines").sum(), combine="sum", kind="integer")
    orders = [("a", datetime(2024, 1, 2), 250), ("a", datetime(2024, 1, 1), -(2**60)), ("b", datetime(2024, 1, 1), 7)]
    found = compute(orders, [largest, spent, since, lines])
    assert found["a"] == {
        "customer_id": "a",
        "largest": Decimal("2.50"),
        "spent": Decimal(250 - 2**60).scaleb(-2),
        "since": datetime(2024, 1, 1),
        "lines": 2,
    }
    states = states_of([largest, spent])
    parts = [chunk(frame([order]), states) for order in orders]
    assert combine(parts, states).sort("customer_id").rows() == [("a", 250, 250 - 2**60), ("b", 7, 7)]


@pytest.mark.parametrize("scale", [0, 2, 9])
def test_money_keeps_every_unit(scale: int) -> None:
    found = compute([("a", datetime(2024, 1, 1), 2**53 + 1), ("b", datetime(2024, 1, 1), -1)], scale=scale)
    assert found["a"]["total_revenue"] == Decimal(2**53 + 1).scaleb(-scale)
    assert found["b"]["total_revenue"] == Decimal(-1).scaleb(-scale)


def test_two_states_of_one_name() -> None:
    one = metric("m", pl.col("amount").max(), combine="max")
    assert len(states_of([one, one])) == 1
    for other in (
        metric("m", pl.col("amount").min(), combine="max"),
        metric("m", pl.col("amount").max(), combine="sum"),
    ):
        with pytest.raises(SettingsError, match=r"(?s)two states of one name differ.*metric m.*m\.value"):
            states_of([one, other])


def test_a_state_says_how_it_merges() -> None:
    state = State("s", pl.col("amount").min(), "min")
    assert pl.DataFrame({"s": [3, 1, 2]}).select(state.combined()).item() == 1
