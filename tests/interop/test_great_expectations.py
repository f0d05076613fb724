from typing import Any

import pytest

from daskae.config import load_settings
from daskae.errors import SettingsError
from daskae.interop.great_expectations import read_suite
from daskae.interop.rules import import_rules

from .running import broken_rows, built, expectation, suite_of

Cells = dict[str, list[str | None]]
PAIR = {"column_A": "a", "column_B": "b"}
PAIRS: Cells = {"a": ["2", "1", "1", "", ""], "b": ["1", "1", "2", "1", ""]}

B = "values_to_be_between"
R = "row_count_to_be_between"
L = "value_lengths_to_be_between"
BY_ROW: list[tuple[str, dict[str, Any], Cells, list[int]]] = [
    ("values_to_not_be_null", {"column": "x"}, {"x": ["a", "", " "]}, [1, 2]),
    ("values_to_be_null", {"column": "x"}, {"x": ["a", ""]}, [0]),
    (B, {"column": "x", "min_value": 1, "max_value": 2.5}, {"x": ["0.99", "1", "2.5", "3", ""]}, [0, 3]),
    (B, {"column": "x", "min_value": 1, "strict_min": True}, {"x": ["1", "1.1", "0"]}, [0, 2]),
    (B, {"column": "x", "max_value": 1, "strict_max": True, "min_value": None}, {"x": ["1", "0.5"]}, [0]),
    (
        B, {"column": "x", "min_value": "2024-01-02", "max_value": "2024-02-01T12:00:00"},
        {"x": ["2024-01-01", "2024-01-02", "2024-02-01 12:00:01", ""]}, [0, 2],
    ),
    (B, {"column": "x", "min_value": "b", "max_value": "d'"}, {"x": ["a", "b", "d'", "e"]}, [0, 3]),
    ("values_to_be_in_set", {"column": "x y", "value_set": ["NL", 'B"E', None]}, {"x y": ["NL", 'B"E', "nl", ""]}, [2]),
    ("values_to_be_in_set", {"column": "x", "value_set": [1, 2.5]}, {"x": ["1.0", "2.50", "3"]}, [2]),
    ("values_to_be_in_set", {"column": "x", "value_set": [True]}, {"x": ["true", "false", "1"]}, [1]),
    ("values_to_not_be_in_set", {"column": "x", "value_set": ["it's"]}, {"x": ["it's", "its", ""]}, [0]),
    ("values_to_not_be_in_set", {"column": "x", "value_set": [1, -2.5]}, {"x": ["1", "-2.50", "3", ""]}, [0, 1]),
    ("distinct_values_to_be_in_set", {"column": "x", "value_set": ["a"]}, {"x": ["a", "b"]}, [1]),
    ("values_to_match_regex", {"column": "x", "regex": "b+\\Z"}, {"x": ["abb", "ba", ""]}, [1]),
    ("values_to_not_match_regex", {"column": "x", "regex": "it's|b"}, {"x": ["it's", "ab", "c", ""]}, [0, 1]),
    ("values_to_match_regex_list", {"column": "x", "regex_list": ["^a", "b$"]}, {"x": ["ac", "cb", "c"]}, [2]),
    (
        "values_to_match_regex_list", {"column": "x", "regex_list": ["^a", "b$"], "match_on": "all"},
        {"x": ["ac", "cb", "ab", ""]}, [0, 1],
    ),
    ("values_to_not_match_regex_list", {"column": "x", "regex_list": ["^a", "b$"]}, {"x": ["ac", "cb", "c"]}, [0, 1]),
    (L, {"column": "x", "min_value": 2, "max_value": 3}, {"x": ["é", "ab", "abcd", ""]}, [0, 2]),
    (L, {"column": "x", "min_value": 2, "strict_min": True}, {"x": ["ab", "abc"]}, [0]),
    ("value_lengths_to_equal", {"column": "x", "value": 2}, {"x": ["a", "ab", "abc"]}, [0, 2]),
    ("values_to_be_of_type", {"column": "x", "type_": "int64"}, {"x": ["1", "x", "1.5", ""]}, [1, 2]),
    ("values_to_be_in_type_list", {"column": "x", "type_list": ["INTEGER", "FLOAT"]}, {"x": ["1", "x", "1.5"]}, [1]),
    (
        "values_to_match_strftime_format", {"column": "x", "strftime_format": "%d/%m/%Y %H:%M:%S.%f"},
        {"x": ["31/12/2023 10:00:00.25", "12/31/2023 10:00:00.5", "2023-12-31"]}, [1, 2],
    ),
    ("pair_values_A_to_be_greater_than_B", PAIR, PAIRS, [1, 2, 3]),
    ("pair_values_a_to_be_greater_than_b", PAIR | {"or_equal": True, "ignore_row_if": "neither"}, PAIRS, [2, 3, 4]),
    ("pair_values_a_to_be_greater_than_b", PAIR | {"ignore_row_if": "either_value_is_missing"}, PAIRS, [1, 2]),
    ("pair_values_to_be_equal", PAIR, PAIRS, [0, 2, 3]),
    ("to_exist", {"column": "x"}, {"x": ["a", ""]}, []),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "kwargs", "cells", "expected"), BY_ROW, ids=lambda item: str(item)[:40])
def test_an_expectation_breaks_for_the_rows_it_should(
    kind: str, kwargs: dict[str, Any], cells: Cells, expected: list[int]
) -> None:
    imported = suite_of(expectation(f"expect_column_{kind}", **kwargs))
    assert imported.skipped == []
    assert list(broken_rows(imported, cells).values()) == [expected]
    assert [rule["on_failure"] for rule in imported.rules] == ["warn"]


@pytest.mark.parametrize(
    ("kind", "kwargs", "expected"),
    [
        ("table_" + R, {"min_value": 1, "max_value": 9}, [{"rule": "row_count", "min": 1, "max": 9}]),
        ("table_" + R, {"max_value": 9, "strict_max": True}, [{"rule": "row_count", "max": 8}]),
        ("table_row_count_to_equal", {"value": 5}, [{"rule": "row_count", "min": 5, "max": 5}]),
        ("column_min_to_be_between", {"column": "x", "min_value": 1}, [{"statistic": "min", "min": 1}]),
        ("column_max_to_be_between", {"column": "x", "max_value": "2024-01-01"}, [{"statistic": "max"}]),
        ("column_mean_to_be_between", {"column": "x", "min_value": 1}, [{"statistic": "mean", "min": 1}]),
        ("column_median_to_be_between", {"column": "x", "min_value": 1}, [{"statistic": "quantile", "quantile": 0.5}]),
        (
            "column_quantile_values_to_be_between",
            {"column": "x", "quantile_ranges": {"quantiles": [0.1, 0.9], "value_ranges": [[0, 1], [None, 5]]}},
            [{"quantile": 0.1, "min": 0, "max": 1}, {"quantile": 0.9, "max": 5}],
        ),
        ("column_values_to_be_unique", {"column": "x"}, [{"rule": "unique", "columns": ["x"]}]),
        ("compound_columns_to_be_unique", {"column_list": ["x", "y"]}, [{"rule": "unique", "columns": ["x", "y"]}]),
    ],
)  # fmt: skip
def test_an_expectation_of_the_whole_table(kind: str, kwargs: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    imported = suite_of(expectation(f"expect_{kind}", **kwargs))
    assert imported.skipped == []
    rules, _ = built(imported, ["x", "y"])
    assert ("accepted rows" in "".join(imported.notes)) == (imported.rules[0]["rule"] != "unique")
    assert len(rules) == len(imported.rules) == len(expected)
    for rule, part in zip(imported.rules, expected, strict=True):
        assert rule.items() >= part.items()


@pytest.mark.parametrize(
    ("kind", "kwargs", "reason"),
    [
        ("column_values_to_match_regex", {"column": "x", "regex": "(?=a)b"}, "look-around"),
        ("column_values_to_match_regex", {"column": "x", "regex": 1}, "no text"),
        ("column_values_to_match_regex_list", {"column": "x", "regex_list": []}, "no list of patterns"),
        ("column_values_to_be_in_set", {"column": "x", "value_set": []}, "no value is allowed"),
        ("column_values_to_be_in_set", {"column": "x", "value_set": {"$PARAMETER": "y"}}, "at run time"),
        ("column_values_to_be_in_set", {"column": "x", "value_set": ["a"], "row_condition": "y > 1"}, "some rows only"),
        ("column_values_to_be_between", {"column": "x"}, "no bounds"),
        (
            "column_values_to_be_between",
            {"column": "x", "min_value": 2, "max_value": 1},
            "no value can be in this range",
        ),
        ("column_values_to_be_between", {"column": "x", "min_value": 2, "surprise": 1}, "surprise"),
        ("column_values_to_be_between", {"min_value": 2}, "does not name its column"),
        ("column_values_to_not_be_null", {"column": "x", "mostly": 2}, "not a share"),
        ("column_values_to_be_unique", {"column": "x", "mostly": 0.9}, "mostly"),
        ("column_values_to_be_of_type", {"column": "x", "type_": "bytes"}, "'bytes'"),
        ("column_values_to_be_of_type", {"column": "x", "type_": "str"}, "nothing to check"),
        ("column_values_to_match_strftime_format", {"column": "x", "strftime_format": "%c"}, "%c"),
        ("column_mean_to_be_between", {"column": "x", "min_value": 1, "strict_min": True}, "not itself allowed"),
        ("column_quantile_values_to_be_between", {"column": "x", "quantile_ranges": {"quantiles": [1]}}, "one range"),
        ("column_stdev_to_be_between", {"column": "x", "min_value": 1}, "no rule says this"),
        ("table_columns_to_match_set", {"column_set": ["x"]}, "only that the columns exist"),
        ("table_columns_to_match_ordered_list", {"column_list": ["x"]}, "order is no rule"),
    ],
)
def test_what_cannot_be_said_is_listed_with_its_reason(kind: str, kwargs: dict[str, Any], reason: str) -> None:
    imported = suite_of(expectation(f"expect_{kind}", **kwargs))
    assert [item.what.partition("(")[0] for item in imported.skipped] == [f"expect_{kind}"]
    assert reason in imported.skipped[0].reason
    assert all(rule["name"].endswith("_exists") for rule in imported.rules)


def test_both_forms_of_a_suite_give_the_same_rules() -> None:
    kwargs = {"column": "quantity", "min_value": 1, "mostly": 0.95, "result_format": "BASIC"}
    kind = "expect_column_values_to_be_between"
    old = {"expectation_type": kind, "kwargs": kwargs, "meta": {"notes": {"format": "markdown", "content": ["why"]}}}
    new = {"type": kind, "kwargs": kwargs, "meta": {}, "notes": "why", "id": "9c3", "severity": "critical"}
    first = import_rules(read_suite({"expectation_suite_name": "s", "meta": {}, "expectations": [old]}, "s"))
    second = import_rules(read_suite({"name": "s", "expectations": [new]}, "s"))
    assert first.rules == [
        {
            "name": "quantity_to_be_between", "rule": "range", "column": "quantity", "min": 1, "on_failure": "warn",
            "max_share": 0.05, "description": "why",
        }
    ]  # fmt: skip
    assert second.rules == [first.rules[0] | {"severity": "error"}]
    assert first.columns == {"quantity": "quantity"}


def test_severities() -> None:
    severities = ["critical", "warning", "info"]
    items = [expectation("expect_column_values_to_not_be_null", column="x") | {"severity": item} for item in severities]
    rules = suite_of(*items).rules
    assert [(rule["severity"], rule["on_failure"]) for rule in rules] == [
        ("error", "warn"), ("warning", "warn"), ("info", "info")
    ]  # fmt: skip
    assert [rule["name"] for rule in rules] == [f"x_to_not_be_null{end}" for end in ("", "_2", "_3")]


@pytest.mark.parametrize(("document", "text"), [({}, "not a suite"), ({"expectations": ["x"]}, "not a suite")])
def test_what_is_no_suite_is_refused(document: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        read_suite(document, "s.json")


def test_a_column_that_two_checks_read_in_two_ways_has_two_entries() -> None:
    imported = suite_of(
        expectation("expect_column_values_to_be_between", column="x", min_value=1),
        expectation("expect_column_values_to_match_regex", column="x", regex=r"^\d$"),
        expectation("expect_column_values_to_not_be_null", column="x"),
    )
    assert imported.columns["x"] == {"column": "x", "dtype": "float"}
    assert imported.columns["x_text"] == {"column": "x", "dtype": "text"}
    cells: Cells = {"x": ["1", "10", "0", ""]}
    assert list(broken_rows(imported, cells).values()) == [[2], [1], [3]]
    assert any("rejected rows: x" in note for note in imported.notes)


def test_a_stated_type_is_the_type_of_the_column_where_a_check_needs_one() -> None:
    imported = suite_of(
        expectation("expect_column_values_to_be_between", column="x", min_value=1, strict_min=True),
        expectation("expect_column_values_to_be_of_type", column="x", type_="int64"),
    )
    assert imported.columns["x"] == {"column": "x", "dtype": "integer"}
    assert [(rule["rule"], rule["min"]) for rule in imported.rules] == [("range", 2)]


def test_the_form_of_dates_goes_with_the_column() -> None:
    imported = suite_of(
        expectation("expect_column_values_to_match_strftime_format", column="order_date", strftime_format="%d.%m.%Y"),
        expectation("expect_column_max_to_be_between", column="order_date", max_value="2024-12-31"),
    )
    assert imported.columns["order_date"] == {"column": "order_date", "format": "%d.%m.%Y"}
    assert [rule["rule"] for rule in imported.rules] == ["distribution"]


def test_the_columns_of_given_settings_are_referred_to(tmp_path: Any) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        '[columns]\ncustomer_id = "CustomerID"\norder_date = "InvoiceDate"\namount = "Quantity * UnitPrice"\n'
        'quantity = "Quantity"\nchannel = { column = "Country", dtype = "text" }\n'
        '[[rules]]\nname = "Quantity_to_be_between"\nrule = "not_null"\ncolumn = "quantity"\n'
    )
    document = {
        "expectations": [
            expectation("expect_column_values_to_be_between", column="Quantity", min_value=1),
            expectation("expect_column_values_to_be_in_set", column="Country", value_set=["NL"]),
            expectation("expect_column_values_to_be_between", column="UnitPrice", min_value=0),
        ]
    }
    imported = import_rules(read_suite(document, "s"), load_settings({}, path))
    assert [(rule["name"], rule["column"]) for rule in imported.rules] == [
        ("Quantity_to_be_between_2", "quantity"), ("Country_to_be_in_set", "channel"),
        ("UnitPrice_to_be_between", "UnitPrice"),
    ]  # fmt: skip
    assert imported.columns == {"UnitPrice": {"column": "UnitPrice", "dtype": "float"}}
    assert imported.missing == ()
