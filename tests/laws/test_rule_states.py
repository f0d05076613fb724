"""Law 3 for rules: the state of all rows is the merge of the states of any parts of them, in any order."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.validate.build import build_rules
from daskae.validate.custom import RowRule, TableRule
from daskae.validate.evidence import table_states
from daskae.validate.quality import Quality
from daskae.validate.results import DataSet, judge
from daskae.validate.rules import Rule
from daskae.validate.states import RuleState, merge_states, moved
from tests.support import EXACT_DUPLICATE, POSITIVE_QUANTITY, Run, orders_csv, run
from tests.validate.building import COLUMNS, SOURCES, batch, check, contract, orders, rules

SAMPLES = 3
FACTS = DataSet(40, date(2024, 3, 1))
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["2024-01-01", "2024-01-02", "2024-02-01 10:00:00", "", "x"]),
        st.sampled_from(["1", "2.5", "-3", "0.0001", "99999.9999", "", "x"]),
        st.sampled_from(["NL", "BE", "", "DE"]),
    ),
    min_size=1,
    max_size=40,
)
ROW_RULES: list[dict[str, Any]] = [
    {"rule": "range", "name": "r", "column": "quantity", "min": 1},
    {"rule": "not_null", "name": "r", "column": "country"},
    {"rule": "allowed_values", "name": "r", "column": "country", "values": ["NL"]},
    {"rule": "length", "name": "r", "column": "country", "max": 1},
    {"rule": "type", "name": "r", "column": "country", "dtype": "integer"},
    {"rule": "expression", "name": "r", "expression": "CAST(country AS INTEGER) > 1"},
]
TABLE_RULES: list[dict[str, Any]] = [
    {"rule": "monotonic", "column": "order_date"},
    {"rule": "monotonic", "column": "amount", "direction": "decreasing"},
    {"rule": "monotonic", "column": "country", "strict": True},
    {"rule": "monotonic", "column": "weight"},
    {"rule": "freshness", "max_age_days": 1, "as_of": "2024-02-02"},
    {"rule": "distribution", "column": "amount", "statistic": "mean", "min": 1},
    {"rule": "distribution", "column": "weight", "statistic": "mean", "max": 1},
    {"rule": "distribution", "column": "amount", "statistic": "min", "min": 1},
    {"rule": "distribution", "column": "order_date", "statistic": "max", "min": "2024-01-05"},
    {"rule": "distribution", "column": "amount", "statistic": "quantile", "quantile": 0.5, "min": 1},
    {"rule": "distribution", "column": "country", "statistic": "share", "value": "NL", "max": 0.4},
    {"rule": "distribution", "column": "amount", "statistic": "share", "value": "2.50", "max": 0.4},
]
CUSTOM = [
    TableRule(
        "t", {"total": pl.col("amount").sum(), "rows": pl.len(), "first": pl.col("amount").min()},
        lambda state: state["total"] > 3, combine={"total": "sum", "rows": "sum", "first": "min"},
    ),
    TableRule("t", lambda frame: {"most": frame["amount"].max(), "n": 1}, lambda state: True, combine="max"),
]  # fmt: skip


def cells(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    dates, numbers, countries = (list(column) for column in zip(*rows, strict=True))
    return orders(d=dates, a=numbers, q=numbers, country=countries)


def pieces(data: st.DataObject, count: int) -> list[tuple[int, int]]:
    """Cut rows into runs and shuffle them."""
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    bounds = list(zip([0, *cuts], [*cuts, count], strict=True))
    return list(data.draw(st.permutations(bounds)))


def merged(rule: Rule, states: list[RuleState]) -> RuleState:
    return reduce(lambda one, other: merge_states(rule, one, other, SAMPLES), states)


@pytest.mark.parametrize("given_rule", ROW_RULES, ids=lambda rule: rule["rule"])
@given(data=st.data(), rows=ROWS)
@settings(max_examples=25)
def test_row_rules_merge(given_rule: dict[str, Any], data: st.DataObject, rows: list[tuple[str, str, str]]) -> None:
    rule = {**given_rule, "on_failure": "warn"}
    (built,) = rules(rule, over=contract())

    def state(start: int, stop: int) -> RuleState:
        if start == stop:
            return RuleState(rule=built.fingerprint)
        return check(cells(rows[start:stop]), rule, samples=SAMPLES, done=[start]).counts["r"]

    assert merged(built, [state(*piece) for piece in pieces(data, len(rows))]) == state(0, len(rows))


def table_state(rule: Rule, table: pl.DataFrame, start: int, stop: int) -> RuleState:
    part = table[start:stop]
    found = table_states([rule], part, np.arange(part.height), batch(part), [start], SAMPLES)
    return found[rule.name]


def typed(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    """Rows as they are after the contract: typed, null where they could not be read."""
    from daskae.validate.cast import cast_table

    source = cells(rows)
    return cast_table(source, contract(tuple(COLUMNS))).table.with_columns(source["country"])


BUILT = [build_rules([], contract(tuple(COLUMNS)), SOURCES, [item])[0] for item in CUSTOM]


@pytest.mark.parametrize(
    "rule", [*(rules(item)[0] for item in TABLE_RULES), *BUILT], ids=lambda rule: f"{rule.name}-{rule.parameters}"
)
@given(data=st.data(), rows=ROWS)
@settings(max_examples=25)
def test_table_rules_merge(rule: Rule, data: st.DataObject, rows: list[tuple[str, str, str]]) -> None:
    table = typed(rows)
    whole = table_state(rule, table, 0, table.height)
    states = [table_state(rule, table, *piece) for piece in pieces(data, table.height)]
    forwards, backwards = merged(rule, states), merged(rule, states[::-1])
    assert forwards == backwards
    if len(states) > 2:
        rest = merged(rule, states[1:])
        assert merge_states(rule, states[0], rest, SAMPLES) == forwards
    assert judge(rule, forwards, FACTS, SAMPLES) == judge(rule, whole, FACTS, SAMPLES)


@given(data=st.data(), rows=ROWS)
@settings(max_examples=25)
def test_what_a_monotonic_rule_finds(data: st.DataObject, rows: list[tuple[str, str, str]]) -> None:
    (rule,) = rules({"rule": "monotonic", "column": "amount"})
    table = typed(rows)
    state = merged(rule, [table_state(rule, table, *piece) for piece in pieces(data, table.height)])
    found = judge(rule, moved(rule, state, [100]), FACTS, SAMPLES)
    known = [(i, value) for i, value in enumerate(table["amount"].to_list()) if value is not None]
    broken = [i for (_, before), (i, value) in pairwise(known) if value < before]
    assert (found.checked, found.affected) == (len(known), len(broken))
    assert [sample[0] for sample in found.samples] == [[0, 100 + i] for i in broken[:SAMPLES]]


@given(data=st.data(), rows=ROWS)
@settings(max_examples=25)
def test_quality_merges(data: st.DataObject, rows: list[tuple[str, str, str]]) -> None:
    table = typed(rows)
    (rule,) = rules({"rule": "range", "column": "amount", "min": 1})
    mask = (table["amount"] < 1).fill_null(False)

    def quality(start: int, stop: int) -> Quality:
        return Quality.of(table[start:stop], [rule], {rule.name: mask[start:stop]})

    parts = [quality(*piece) for piece in pieces(data, table.height)]
    assert reduce(Quality.merge, parts).scores(1) == quality(0, table.height).scores(1)
    assert Quality.from_json(parts[0].to_json()) == parts[0]


def outcomes(found: Run) -> list[Any]:
    return [replace(rule, seconds=0.0) for rule in found.summary.rules]


def test_every_rule_is_the_same_for_every_cut(tmp_path: Path) -> None:
    source, keys = tmp_path / "orders.csv", tmp_path / "keys.csv"
    source.write_bytes(orders_csv(700))
    keys.write_text("customer_id\nC0\nC1\nC5\n")
    warn = {"on_failure": "warn"}
    given_rules = [
        POSITIVE_QUANTITY,
        EXACT_DUPLICATE,
        {"rule": "unique", "name": "customers", "column": "customer_id", **warn},
        {"rule": "completeness", "column": "note", "min_share": 0.5},
        {"rule": "type", "column": "note", "dtype": "integer", **warn},
        {"rule": "length", "column": "note", "max": 6, **warn},
        {"rule": "reference", "column": "customer_id", "source": str(keys), **warn},
        {"rule": "expression", "name": "inside", "expression": "CAST(quantity AS INTEGER) / 0 = 1", **warn},
        {"rule": "row_count", "min": 1, "min_ratio": 0.1, **warn},
        *(
            {**item, "name": f"table{i}", **warn}
            for i, item in enumerate(TABLE_RULES)
            if item.get("column", "order_date") in ("amount", "order_date")
        ),
    ]

    def go(name: str, **options: Any) -> Run:
        return run(source, tmp_path / name, rules=given_rules, custom=CUSTOM[:1], **options)

    whole = go("whole")
    assert whole.summary.partitions == 1
    for size in (333, 4000):
        many = go(str(size), block_size=size, workers=2)
        assert many.summary.partitions > 5
        assert outcomes(many) == outcomes(whole)
        assert many.tables["validation_results"].equals(whole.tables["validation_results"])


@pytest.mark.dask
def test_rules_in_python_travel_to_workers(tmp_path: Path) -> None:
    source, keys = tmp_path / "orders.csv", tmp_path / "keys.csv"
    source.write_bytes(orders_csv(300))
    keys.write_text("customer_id\nC0\nC1\n")
    limit = Decimal(40)

    def fails_on_seven(frame: Any) -> Any:
        if (frame["customer_id"] == "C6").any():
            raise ValueError("not this one")
        return frame["amount"] < limit

    custom: list[RowRule | TableRule] = [
        RowRule("frame", fails_on_seven, frame=True, on_failure="warn"),
        TableRule("total", {"total": pl.col("amount").sum()}, lambda state: (state["total"] > limit, f"{limit}")),
    ]
    reference = {"rule": "reference", "column": "customer_id", "source": str(keys)}
    inline, dask = (
        run(source, tmp_path / name, rules=[reference], custom=custom, cluster_name=name, workers=2, block_size=2000)
        for name in ("inline", "local")
    )
    assert dask.summary.engine == "local"
    assert outcomes(dask) == outcomes(inline)
    assert inline.rule("frame").status == "error"
