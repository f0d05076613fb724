from datetime import date
from typing import Any

import polars as pl
import pytest

from daskae.config import RuleSettings
from daskae.errors import SettingsError
from daskae.stages.spec import sample_table
from daskae.validate.build import require_boolean
from daskae.validate.cast import cast_table, evaluate
from daskae.validate.rules import RESERVED, Rule

from .building import COLUMNS, SOURCES, contract, orders, rules

WHOLE = contract(tuple(COLUMNS))


def breaks(rule: dict[str, Any], **cells: Any) -> list[bool]:
    """Which rows break one rule."""
    frame = orders(**cells)
    cast = cast_table(frame, WHOLE).table
    table = cast.with_columns(frame[name] for name in frame.columns if name not in cast.columns)
    built = rules(rule)
    require_boolean(built, sample_table(WHOLE, SOURCES))
    expression = built[0].breaks
    assert expression is not None
    return evaluate(table, expression.fill_null(False), table.height).to_list()


@pytest.mark.parametrize(
    ("rule", "cells", "expected"),
    [
        ({"rule": "not_null", "column": "quantity"}, {"q": ["1", "", None]}, [False, True, True]),
        ({"rule": "not_null", "column": "country"}, {"country": ["NL", "", None, " "]}, [False, True, True, True]),
        ({"rule": "completeness", "column": "order_id"}, {"o": ["1", " ", None]}, [False, True, True]),
        (
            {"rule": "range", "column": "quantity", "min": 1},
            {"q": ["1", "0.9999", "", "2"]},
            [False, True, False, False],
        ),
        ({"rule": "range", "column": "amount", "max": 1.1}, {"a": ["1.1", "1.1001", "-5"]}, [False, True, False]),
        ({"rule": "range", "column": "amount", "min": "0.1", "max": "0.1"}, {"a": ["0.1", "0.2"]}, [False, True]),
        (
            {"rule": "range", "column": "items", "min": 2, "max": 3},
            {"q": ["1", "2", "3", "4"]},
            [True, False, False, True],
        ),
        ({"rule": "range", "column": "weight", "max": 0.5}, {"q": ["0.5", "0.6", ""]}, [False, True, False]),
        (
            {"rule": "range", "column": "order_date", "min": "2024-01-02"},
            {"d": ["2024-01-01", "2024-01-02"]},
            [True, False],
        ),
        (
            {"rule": "range", "column": "order_date", "max": "2024-01-02 12:00:00"},
            {"d": ["2024-01-02 12:00:00", "2024-01-02 12:00:01"]},
            [False, True],
        ),
        (
            {"rule": "range", "column": "day", "max": date(2024, 1, 1)},
            {"d": ["2024-01-01 23:00:00", "2024-01-02"]},
            [False, True],
        ),
        (
            {"rule": "allowed_values", "column": "country", "values": ["NL", "BE"]},
            {"country": ["NL", "nl", None]},
            [False, True, False],
        ),
        ({"rule": "allowed_values", "column": "country", "values": [1, 2]}, {"country": ["1", "3"]}, [False, True]),
        (
            {"rule": "allowed_values", "column": "quantity", "values": [1, 2.5]},
            {"q": ["1.0", "2.50", "3", ""]},
            [False, False, True, False],
        ),
        (
            {"rule": "allowed_values", "column": "items", "values": [1, "2"]},
            {"q": ["1", "2", "3"]},
            [False, False, True],
        ),
        (
            {"rule": "pattern", "column": "customer_id", "pattern": "^C[0-9]+$"},
            {"c": ["C1", "c1", "C1\n", "xC1"]},
            [False, True, True, True],
        ),
        (
            {"rule": "pattern", "column": "country", "pattern": "email"},
            {"country": ["a.b+c@d.example", "a@b", "@b.c", "a@b.c.", None]},
            [False, True, True, True, False],
        ),
        (
            {"rule": "expression", "expression": "amount >= quantity"},
            {"a": ["1", "2", "1"], "q": ["1", "1", "2"]},
            [False, False, True],
        ),
        (
            {"rule": "expression", "expression": "country IN ('NL', 'BE')"},
            {"country": ["NL", "FR", None]},
            [False, True, False],
        ),
        ({"rule": "expression", "expression": "quantity IS NOT NULL"}, {"q": ["1", ""]}, [False, True]),
        (
            {"rule": "expression", "expression": "amount BETWEEN 1 AND 10"},
            {"a": ["1", "10", "10.5"]},
            [False, False, True],
        ),
        ({"rule": "expression", "expression": "country LIKE 'N%'"}, {"country": ["NL", "BE"]}, [False, True]),
        ({"rule": "expression", "expression": "TRUE"}, {"a": ["1", "2"]}, [False, False]),
        ({"rule": "expression", "expression": "1 = 2"}, {"a": ["1", "2"]}, [True, True]),
    ],
)
def test_which_rows_break_a_rule(rule: dict[str, Any], cells: dict[str, Any], expected: list[bool]) -> None:
    assert breaks(rule, **cells) == expected


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"rule": "sorted"}, r"(?s)unknown kind of rule.*rules\[0\]\.rule.*'sorted'.*completeness, not_null, range"),
        ({"rule": "range", "column": "nothing", "min": 1}, r"(?s)unknown column.*'nothing'.*customer_id"),
        ({"rule": "not_null", "column": "nothing"}, r"(?s)unknown column.*'nothing'"),
        ({"rule": "unique", "columns": ["order_id", "nothing"]}, r"(?s)unknown column.*'nothing'"),
        ({"rule": "expression", "expression": "nothing > 1"}, r"(?s)unknown column.*'nothing'"),
        ({"rule": "range", "min": 1}, r"(?s)rule range needs column.*column, min, max"),
        ({"rule": "range", "column": "amount"}, "rule range needs min or max"),
        ({"rule": "range", "column": "amount", "min": 2, "max": 1}, r"(?s)no value can be in this range.*min 2, max 1"),
        (
            {"rule": "range", "column": "amount", "min": "many"},
            r"(?s)bound is not of the column's type.*'many'.*decimal",
        ),
        (
            {"rule": "range", "column": "order_date", "min": "tomorrow"},
            r"(?s)bound is not of the column's type.*datetime",
        ),
        ({"rule": "range", "column": "country", "min": 1}, r"(?s)range needs a number or date column.*text"),
        ({"rule": "range", "column": "paid", "min": 1}, r"(?s)range needs a number or date column.*boolean"),
        (
            {"rule": "range", "column": "amount", "min": 1, "values": [1]},
            r"(?s)rule range takes no values.*column, min, max",
        ),
        ({"rule": "not_null", "column": "amount", "min": 1}, "rule not_null takes no min"),
        ({"rule": "expression", "expression": "amount > 1", "column": "amount"}, "rule expression takes no column"),
        ({"rule": "allowed_values", "column": "country"}, "rule allowed_values needs values"),
        ({"rule": "allowed_values", "column": "country", "values": []}, "rule allowed_values needs values"),
        (
            {"rule": "allowed_values", "column": "order_date", "values": ["2024-01-01"]},
            r"(?s)needs a text or number column.*datetime",
        ),
        ({"rule": "allowed_values", "column": "amount", "values": ["x"]}, "bound is not of the column's type"),
        ({"rule": "pattern", "column": "country"}, "rule pattern needs pattern"),
        (
            {"rule": "pattern", "column": "country", "pattern": "("},
            r"(?s)a pattern is not usable.*rules\[0\]\.pattern.*regex",
        ),
        ({"rule": "pattern", "column": "country", "pattern": "(?=a)b"}, "a pattern is not usable"),
        ({"rule": "pattern", "column": "amount", "pattern": "1"}, r"(?s)pattern needs a text column.*decimal"),
        ({"rule": "expression"}, "rule expression needs expression"),
        ({"rule": "expression", "expression": "amount >"}, "not a usable SQL expression"),
        ({"rule": "expression", "expression": "amount > 1; DROP TABLE x"}, "not a usable SQL expression"),
        ({"rule": "expression", "expression": "__import__('os')"}, "not a usable SQL expression"),
        ({"rule": "unique"}, "rule unique needs column or columns"),
        ({"rule": "unique", "columns": []}, "rule unique needs column or columns"),
        ({"rule": "not_null", "column": "amount", "name": "unparsable_date"}, r"(?s)name is taken.*unparsable_date"),
    ],
)
def test_wrong_rules(rule: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        rules(rule)


@pytest.mark.parametrize("bound", ["nan", float("nan"), float("inf"), "-inf", "2024-01-01T00:00:00Z"])
@pytest.mark.parametrize("side", ["min", "max"])
def test_bounds_that_bound_nothing(bound: Any, side: str) -> None:
    column = "order_date" if isinstance(bound, str) and "T" in bound else "amount"
    both = {"min": "2024-01-01", "max": "2024-12-31"} if column == "order_date" else {"min": 1, "max": 2}
    for rest in ({}, both):
        with pytest.raises(SettingsError, match=r"bound|fit its columns"):
            require_boolean(
                rules({"rule": "range", "column": column, **rest, side: bound}), sample_table(WHOLE, SOURCES)
            )


@pytest.mark.parametrize("name", RESERVED)
def test_names_of_built_in_reasons_are_reserved(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"(?s)a rule's name is taken.*{name}"):
        rules({"rule": "not_null", "column": "amount", "name": name})


def test_names_are_unique() -> None:
    twice = {"rule": "range", "column": "amount", "min": 1}
    with pytest.raises(SettingsError, match=r"(?s)a rule's name is taken.*rules\[1\]\.name.*range_amount"):
        rules(twice, twice)
    assert [rule.name for rule in rules(twice, {**twice, "name": "again"})] == ["range_amount", "again"]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("amount + 1", "a rule does not fit its columns|not a condition"),
        ("customer_id > 1", "a rule does not fit its columns"),
        ("country", "a rule does not fit its columns|not a condition"),
        ("amount > (SELECT 1)", "own row only"),
        ("items", "a rule does not fit its columns|not a condition"),
    ],
)
def test_expressions_that_are_no_condition(expression: str, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        require_boolean(rules({"rule": "expression", "expression": expression}), sample_table(WHOLE, SOURCES))


@pytest.mark.parametrize(
    "expression",
    ["amount >= AVG(amount)", "SUM(amount) > 1", "amount > LAG(amount) OVER (ORDER BY amount)", "COUNT(*) > 1"],
)
def test_a_rule_may_not_depend_on_other_rows(expression: str) -> None:
    with pytest.raises(SettingsError, match=r"expression"):
        require_boolean(rules({"rule": "expression", "expression": expression}), sample_table(WHOLE, SOURCES))


@pytest.mark.parametrize(
    ("rule", "name", "on_failure", "severity", "columns"),
    [
        ({"rule": "range", "column": "amount", "min": 1}, "range_amount", "reject_row", "error", ("amount",)),
        ({"rule": "completeness", "column": "order_id"}, "completeness_order_id", "block_run", "error", ("order_id",)),
        ({"rule": "unique", "columns": "*"}, "unique_all", "reject_row", "error", ("*",)),
        (
            {"rule": "unique", "columns": ["order_id", "day"]},
            "unique_order_id_day",
            "reject_row",
            "error",
            ("order_id", "day"),
        ),
        ({"rule": "unique", "column": "order_id"}, "unique_order_id", "reject_row", "error", ("order_id",)),
        (
            {"rule": "not_null", "column": "country", "on_failure": "warn"},
            "not_null_country",
            "warn",
            "warning",
            ("country",),
        ),
        (
            {"rule": "not_null", "column": "country", "on_failure": "info", "severity": "error"},
            "not_null_country",
            "info",
            "error",
            ("country",),
        ),
        (
            {"rule": "expression", "expression": "amount > quantity", "name": "n"},
            "n",
            "reject_row",
            "error",
            ("amount", "quantity"),
        ),
    ],
)
def test_what_is_taken_when_nothing_is_said(
    rule: dict[str, Any], name: str, on_failure: str, severity: str, columns: tuple[str, ...]
) -> None:
    (built,) = rules(rule)
    assert (built.name, built.on_failure, built.severity, built.columns) == (name, on_failure, severity, columns)
    assert built.is_global == (built.kind == "unique")
    assert built.rejects == (on_failure == "reject_row")


def test_a_disabled_rule_is_left_out() -> None:
    assert rules({"rule": "not_null", "column": "amount", "enabled": False}) == ()


@pytest.mark.parametrize(
    ("max_rows", "max_share", "affected", "checked", "passed"),
    [
        (None, None, 0, 10, True),
        (None, None, 1, 10, False),
        (None, None, 0, 0, True),
        (3, None, 3, 10, True),
        (3, None, 4, 10, False),
        (0, None, 0, 10, True),
        (None, 0.1, 1, 10, True),
        (None, 0.1, 2, 10, False),
        (None, 0.0, 1, 10, False),
        (3, 0.1, 2, 10, False),
        (1, 0.5, 2, 10, False),
        (3, 0.5, 3, 10, True),
        (None, 0.0, 0, 0, True),
    ],
)
def test_thresholds(max_rows: int | None, max_share: float | None, affected: int, checked: int, passed: bool) -> None:
    rule = Rule("n", "range", "block_run", "error", ("amount",), None, max_rows, max_share)
    assert rule.passed(affected, checked) == passed


def test_the_definition_changes_with_what_decides_about_rows_only() -> None:
    base = {"rule": "range", "column": "amount", "min": 1}
    (one,) = rules(base)
    assert rules({**base, "max_rows": 5, "description": "x", "tags": ["y"]})[0].definition == one.definition
    for other in ({"min": 2}, {"column": "quantity"}, {"name": "x"}, {"on_failure": "warn"}, {"max": 5}):
        assert rules({**base, **other})[0].definition != one.definition


def test_settings_of_a_rule_are_strict() -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        RuleSettings(rule="range", colum="amount")  # type: ignore[call-arg]


def test_unique_rules_have_no_row_expression() -> None:
    assert rules({"rule": "unique", "columns": "*"})[0].breaks is None
    require_boolean(rules({"rule": "unique", "columns": "*"}), pl.DataFrame())
