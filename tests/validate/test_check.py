from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from daskae.validate.check import Checked

from .building import check, orders

POSITIVE = {"rule": "range", "name": "positive", "column": "quantity", "min": 1}
DUTCH = {"rule": "allowed_values", "name": "dutch", "column": "country", "values": ["NL"]}
CHEAP = {"rule": "range", "name": "cheap", "column": "amount", "max": 100}
SUM = {"rule": "expression", "name": "sum", "expression": "amount > quantity"}


def rejected(checked: Checked) -> list[tuple[Any, ...]]:
    return checked.rejected.select("row", "reason", "reasons", "column", "value").rows()


def counts(checked: Checked) -> dict[str, tuple[int, int]]:
    return {name: (item.checked, item.affected) for name, item in checked.counts.items() if item.affected}


def test_good_rows_pass() -> None:
    checked = check(orders(a=["1", "2"]), POSITIVE, DUTCH)
    assert checked.accepted.rows() == [("x", Decimal(1)), ("x", Decimal(2))]
    assert checked.rows.tolist() == [0, 1]
    assert rejected(checked) == []
    assert {name: (item.checked, item.affected) for name, item in checked.counts.items()} == {
        "positive": (2, 0),
        "dutch": (2, 0),
    }


def test_the_first_reason_and_all_reasons() -> None:
    cells = orders(
        c=["x", "", "x", "x", "x"],
        a=["1", "x", "y", "200", "1"],
        q=["1", "0", "1", "0", "z"],
        country=["NL", "FR", "NL", "FR", "NL"],
    )
    checked = check(cells, POSITIVE, DUTCH, CHEAP)
    assert rejected(checked) == [
        (1, "missing_customer_id", ["missing_customer_id", "unparsable_number", "positive", "dutch"], "c", ""),
        (2, "unparsable_number", ["unparsable_number"], "a", "y"),
        (3, "positive", ["positive", "dutch", "cheap"], "q", "0"),
        (4, "unparsable_number", ["unparsable_number"], "q", "z"),
    ]
    assert checked.rows.tolist() == [0]
    assert counts(checked) == {
        "positive": (5, 2), "dutch": (5, 2), "cheap": (5, 1), "missing_customer_id": (5, 1), "unparsable_number": (5, 3)
    }  # fmt: skip


def test_one_reason_for_two_columns_is_named_once() -> None:
    checked = check(orders(a=["x"], q=["y"]))
    assert rejected(checked) == [(0, "unparsable_number", ["unparsable_number"], "a", "x")]


def test_rules_count_in_their_order() -> None:
    cells = orders(q=["0"], country=["FR"])
    assert rejected(check(cells, POSITIVE, DUTCH))[0][1:3] == ("positive", ["positive", "dutch"])
    assert rejected(check(cells, DUTCH, POSITIVE))[0][1:3] == ("dutch", ["dutch", "positive"])


@pytest.mark.parametrize("on_failure", ["warn", "info", "block_run"])
def test_rules_that_reject_no_row(on_failure: str) -> None:
    checked = check(orders(q=["0", "1"]), {**POSITIVE, "on_failure": on_failure}, DUTCH)
    assert checked.accepted.height == 2
    assert rejected(checked) == []
    assert counts(checked) == {"positive": (2, 1)}


def test_such_a_rule_is_not_among_the_reasons() -> None:
    checked = check(orders(q=["0"], country=["FR"]), {**POSITIVE, "on_failure": "warn"}, DUTCH)
    assert rejected(checked) == [(0, "dutch", ["dutch"], "country", "FR")]


def test_values_shown() -> None:
    cells = orders(a=["1", "x" * 500], q=["5", "1"])
    checked = check(cells, SUM)
    assert rejected(checked) == [
        (0, "sum", ["sum"], "a", "1"),
        (1, "unparsable_number", ["unparsable_number"], "a", "x" * 200),
    ]


def test_a_null_breaks_no_rule_but_not_null() -> None:
    cells = orders(q=["", ""], country=[None, "NL"])
    assert rejected(check(cells, POSITIVE, DUTCH, SUM)) == []
    missing = {"rule": "not_null", "name": "missing", "column": "country"}
    assert rejected(check(cells, missing)) == [(0, "missing", ["missing"], "country", "")]


def test_rows_are_numbered_over_the_broken_ones() -> None:
    checked = check(orders(q=["1", "0", "1"]), POSITIVE, broken=[0, 2])
    assert checked.rows.tolist() == [1, 4]
    assert [row[0] for row in rejected(checked)] == [3]


def test_a_repeated_header_is_that_and_nothing_else() -> None:
    cells = orders(c=["x", "c"], d=["2024-01-01", "d"], a=["1", "a"], q=["1", "q"], country=["NL", "country"])
    checked = check(cells, POSITIVE, DUTCH, header=[1])
    assert [row[:3] for row in rejected(checked)] == [(1, "repeated_header", ["repeated_header"])]
    assert checked.rows.tolist() == [0]
    assert counts(checked).keys() <= {"repeated_header"}


def test_every_row_is_somewhere() -> None:
    cells = orders(q=["1", "0", "x", ""], c=["", "x", "x", "x"])
    checked = check(cells, POSITIVE)
    assert sorted([*checked.rows.tolist(), *checked.rejected["row"]]) == [0, 1, 2, 3]
    assert checked.mask is not None
    assert checked.mask.to_list() == [False, False, False, True]


def test_no_rows() -> None:
    checked = check(orders().head(0), POSITIVE, SUM)
    assert (checked.accepted.height, checked.rejected.height) == (0, 0)


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "not_null", "column": "country"},
        {"rule": "allowed_values", "column": "country", "values": [1, 2]},
        {"rule": "pattern", "column": "country", "pattern": "^[12]$"},
        {"rule": "expression", "expression": "country IN ('1', '2')"},
    ],
)
def test_source_columns_of_other_types_are_texts_to_rules(rule: dict[str, Any]) -> None:
    checked = check(orders(country=[1, 2, 3]).with_columns(pl.col("country").cast(pl.Int64)), rule)
    assert checked.rows.tolist() == ([0, 1, 2] if rule["rule"] == "not_null" else [0, 1])


@pytest.mark.parametrize("expression", ["TRUE", "1 = 2"])
def test_a_constant_rule(expression: str) -> None:
    checked = check(orders(a=["1", "2", "3"]), {"rule": "expression", "name": "constant", "expression": expression})
    assert len(checked.rows) == (3 if expression == "TRUE" else 0)
    assert checked.counts["constant"].checked == 3
    assert checked.counts["constant"].affected == (0 if expression == "TRUE" else 3)
