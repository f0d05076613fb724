"""Law 3: state(A + B) = merge(state(A), state(B)) for every metric and rule; the same part twice changes nothing."""

import math
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.aggregate.aggregation import CUSTOMER, Aggregation, Facts, chunk, combine, states_of
from daskae.aggregate.cohort import Cell, bucket_cells, cohort_table, merge_cells
from daskae.aggregate.customer import BUILT_IN, RANKED, finalize_customers
from daskae.aggregate.rfm import score_cuts
from daskae.config import MetricSettings
from tests.support import EXACT_DUPLICATE, POSITIVE_QUANTITY, REPEATED_ORDER, assert_same_tables, orders_csv, run

SCALE = 4
SCHEMA: dict[str, Any] = {CUSTOMER: pl.String, "order_date": pl.Datetime("us"), "amount": pl.Int64, "lines": pl.UInt32}
STATES = states_of(BUILT_IN)
CODE = "code"

Order = tuple[str, datetime, int, int]
ORDERS: st.SearchStrategy[list[Order]] = st.lists(
    st.tuples(
        st.sampled_from(["C1", "C2", "C3", "00C3", "é"]),
        st.datetimes(datetime(2019, 1, 1), datetime(2024, 12, 31)),
        st.integers(-(10**9), 10**13),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=30,
)
SETTINGS = st.builds(
    MetricSettings,
    margin=st.sampled_from([Decimal(1), Decimal("0.375"), Decimal("0.3333")]),
    frequency=st.sampled_from(["observation", "tenure"]),
    churn_days=st.sampled_from([0, 30, 365]),
)


def frame(orders: Sequence[Order]) -> pl.DataFrame:
    """Orders as the reduce stage has them."""
    return pl.DataFrame(orders, schema=SCHEMA, orient="row")


def facts_of(states: pl.DataFrame, settings: MetricSettings) -> Facts:
    """What is true of the whole data set, as a run finds it."""
    ranked = {name: states.select(value.alias("v")).to_series().sort() for name, value in RANKED.items()}
    cuts = {name: score_cuts([values.to_numpy().astype(np.int64)]) for name, values in ranked.items()}
    last: Any = states["last"].max()
    return Facts(last.date(), SCALE, settings, states.height, cuts)


def pieces(data: st.DataObject, orders: list[Order]) -> list[pl.DataFrame]:
    """Split orders into up to four parts, any way, in any order."""
    labels = data.draw(st.lists(st.integers(0, 3), min_size=len(orders), max_size=len(orders)))
    parts = [[order for order, label in zip(orders, labels, strict=True) if label == i] for i in range(4)]
    return [frame(part) for part in data.draw(st.permutations(parts)) if part]


@pytest.mark.parametrize("item", BUILT_IN, ids=lambda item: item.name)
@given(data=st.data(), orders=ORDERS, settings=SETTINGS)
def test_metrics_merge(item: Aggregation, data: st.DataObject, orders: list[Order], settings: MetricSettings) -> None:
    whole = chunk(frame(orders), STATES).sort(CUSTOMER)
    facts = facts_of(whole, settings)
    # finalize_customers looks at these states whatever the metrics are.
    states = states_of([*BUILT_IN[:2], *([item] if item not in BUILT_IN[:2] else [])])
    merged = combine([chunk(part, states) for part in pieces(data, orders)], states).sort(CUSTOMER)
    found = finalize_customers(merged, [item], facts)
    assert found.equals(finalize_customers(whole, [item], facts))


@given(data=st.data(), orders=ORDERS)
def test_merging_is_associative(data: st.DataObject, orders: list[Order]) -> None:
    parts = [chunk(part, STATES) for part in pieces(data, orders)]
    flat = combine(parts, STATES).sort(CUSTOMER)
    stepwise = parts[0]
    for part in parts[1:]:
        stepwise = combine([part, stepwise], STATES)
    assert stepwise.select(flat.columns).sort(CUSTOMER).equals(flat)


def cells_of(orders: list[Order]) -> list[Cell]:
    """Cohort cells of whole customers, as one bucket counts them."""
    if not orders:
        return []
    table = frame(orders)
    names = table[CUSTOMER].unique().sort()
    codes = pl.DataFrame({CUSTOMER: names, CODE: pl.Series(range(len(names)), dtype=pl.UInt32)})
    coded = table.join(codes, on=CUSTOMER, maintain_order="left")
    return bucket_cells(coded.select(CODE, "order_date", "amount"), chunk(coded, STATES, by=CODE).sort(CODE), CODE)


@given(data=st.data(), orders=ORDERS)
def test_cohort_cells_of_buckets_merge(data: st.DataObject, orders: list[Order]) -> None:
    customers = sorted({order[0] for order in orders})
    bucket = {name: data.draw(st.integers(0, 2)) for name in customers}
    parts = [cells_of([order for order in orders if bucket[order[0]] == i]) for i in range(3)]
    merged = merge_cells(data.draw(st.permutations(parts)))
    assert merged == merge_cells([cells_of(orders)])
    as_of = max(order[1] for order in orders).date()
    assert cohort_table(merged, as_of, SCALE).equals(cohort_table(cells_of(orders), as_of, SCALE))


@given(orders=ORDERS)
def test_cohort_cells_are_what_the_definitions_say(orders: list[Order]) -> None:
    def month(moment: datetime) -> int:
        return 12 * moment.year + moment.month - 1

    cohort = {name: min(month(o[1]) for o in orders if o[0] == name) for name, *_ in orders}
    as_of = max(order[1] for order in orders).date()
    for row in cohort_table(cells_of(orders), as_of, SCALE).to_pylist():
        start = month(datetime.combine(row["cohort_month"], datetime.min.time()))
        now = start + row["period_index"]
        members = [order for order in orders if cohort[order[0]] == start]
        here = [order for order in members if month(order[1]) == now]
        assert row["cohort_size"] == len({order[0] for order in members})
        assert row["active_customers"] == len({order[0] for order in here})
        assert row["rolling_active_customers"] == len({order[0] for order in members if month(order[1]) >= now})
        assert row["revenue"] == Decimal(sum(order[2] for order in here)).scaleb(-SCALE)
        assert row["is_partial"] == (now == month(datetime.combine(as_of, datetime.min.time())) and not _ends(as_of))


def _ends(day: date) -> bool:
    return date.fromordinal(day.toordinal() + 1).day == 1


def deviation(amounts: Sequence[int], scale: int = SCALE) -> Any:
    """The standard deviation that a run gives to one customer with these amounts (integer units)."""
    orders = frame([("C1", datetime(2024, 1, 1), amount, 1) for amount in amounts])
    states = chunk(orders, STATES)
    facts = Facts(date(2024, 1, 1), scale, MetricSettings(), 1, facts_of(states, MetricSettings()).rfm_cuts)
    return finalize_customers(states, BUILT_IN, facts)["std_order_value"].to_pylist()[0]


def exact_deviation(amounts: Sequence[int], scale: int = SCALE) -> Decimal:
    """The same with fractions, and a square root of fifty digits."""
    mean = Fraction(sum(amounts), len(amounts))
    spread = sum(((amount - mean) * (amount - mean) for amount in amounts), Fraction(0))
    variance = spread / ((len(amounts) - 1) * 10 ** (2 * scale))
    with localcontext(prec=50):
        return (Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt()


@given(base=st.integers(0, 10**13), amounts=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=12))
def test_deviation_is_exact_far_from_zero(base: int, amounts: list[int]) -> None:
    amounts = [base + amount for amount in amounts]
    exact = exact_deviation(amounts)
    assert abs(Decimal(deviation(amounts)) - exact) <= exact * Decimal("1e-12")


@given(amounts=st.lists(st.integers(-(10**13), 10**13), min_size=2, max_size=30))
def test_deviation_is_exact_for_spread_values(amounts: list[int]) -> None:
    exact = exact_deviation(amounts)
    assert abs(Decimal(deviation(amounts)) - exact) <= exact * Decimal("1e-12")


@pytest.mark.parametrize("scale", [0, 2, 4])
def test_deviation_of_large_close_values(scale: int) -> None:
    assert deviation([(10**8 + i) * 10**scale for i in range(1, 6)], scale) == 1.5811388300841898


@given(amount=st.integers(-(10**13), 10**13), count=st.integers(2, 50))
def test_deviation_of_a_constant_is_zero(amount: int, count: int) -> None:
    found = deviation([amount] * count)
    assert found == 0.0
    assert math.copysign(1, found) == 1


def test_one_order_has_no_deviation() -> None:
    assert deviation([5]) is None


def test_rule_counts_of_files_add_up(tmp_path: Path) -> None:
    rules = [POSITIVE_QUANTITY, {"rule": "range", "name": "large", "column": "amount", "max": 40, "on_failure": "warn"}]
    parts = [orders_csv(50), orders_csv(80, first=50)]
    paths = [tmp_path / f"orders-{i}.csv" for i in range(2)]
    for path, data in zip(paths, parts, strict=True):
        path.write_bytes(data)
    alone = [run(path, tmp_path / path.stem, rules=rules) for path in paths]
    both = run(paths, tmp_path / "both", rules=rules)

    def states(*runs: Any) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for one in runs:
            for rule in one.summary.rules:
                checked, affected = found.get(rule.rule_name, (0, 0))
                found[rule.rule_name] = (checked + rule.checked_rows, affected + rule.affected_rows)
        return found

    assert states(both) == states(*alone)
    assert both.summary.rows.read == sum(one.summary.rows.read for one in alone)
    expected = {name: sum(one.counts.get(name, 0) for one in alone) for name in both.counts}
    assert both.counts == expected


def test_the_same_part_twice_changes_nothing(tmp_path: Path) -> None:
    rules = [POSITIVE_QUANTITY, EXACT_DUPLICATE, REPEATED_ORDER]
    orders = tmp_path / "in"
    orders.mkdir()
    path = orders / "orders.csv"
    path.write_bytes(orders_csv(120))
    first = run(path, tmp_path, rules=rules)
    again = run(path, tmp_path, rules=rules)
    assert again.summary.reused_partitions == again.summary.partitions == first.summary.partitions
    assert again.summary.already_published
    assert again.summary.rows == first.summary.rows
    assert_same_tables(again.tables, first.tables)
    # Named twice, by itself and by its folder, it is still one file.
    twice = run([path, orders, path], tmp_path / "twice", rules=rules)
    assert twice.summary.rows == first.summary.rows
    assert_same_tables(twice.tables, first.tables)
