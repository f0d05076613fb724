"""Kinds of rules beside the first ones: what they say of rows, and what is wrong with their settings."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from daskae.config import RuleSettings, ValidationSettings
from daskae.errors import ExchangeError, SettingsError
from daskae.validate.build import build_rules, require_boolean, select_rules
from daskae.validate.custom import RowRule, TableRule
from daskae.validate.reference import distinct_keys, is_missing, keys_digest, write_keys
from daskae.validate.row_rules import MOST_ERRORS, judge_rows
from daskae.validate.rules import Rule

from .building import SOURCES, check, contract, orders, rules


def broken(rule: dict[str, Any], **cells: Any) -> list[int]:
    """Rows that break a rule, all others being good."""
    state = check(orders(**cells), {**rule, "on_failure": "warn", "name": "r"}, samples=100).counts["r"]
    assert (state.errors, state.affected) == (0, len(state.samples))
    return [place[1] for place, _ in state.samples]


@pytest.mark.parametrize(
    ("rule", "cells", "expected"),
    [
        ({"rule": "type", "column": "country", "dtype": "integer"}, ["1", " 2 ", "x", "", None, "1.5"], [2, 5]),
        ({"rule": "type", "column": "country", "dtype": "decimal"}, ["1.25", "x", "1.00001", "1e2"], [1, 2]),
        ({"rule": "type", "column": "country", "dtype": "date"}, ["2024-01-01", "2024-02-30", ""], [1]),
        (
            {"rule": "type", "column": "country", "dtype": "date", "format": "%d/%m/%Y"},
            ["31/01/2024", "2024-01-01"],
            [1],
        ),
        ({"rule": "type", "column": "country", "dtype": "boolean"}, ["true", "no", "maybe"], [2]),
        ({"rule": "type", "column": "customer_id", "dtype": "integer"}, ["1", "2"], [0, 1]),
        (
            {"rule": "length", "column": "country", "min": 2, "max": 3},
            ["N", "NL", "NLD", "NLDX", "", None, "éé"],
            [0, 3, 4],
        ),
        ({"rule": "length", "column": "country", "max": 1}, ["N", "NL"], [1]),
        ({"rule": "completeness", "column": "country", "min_share": 0.5}, ["NL", "", None], [1, 2]),
    ],
)
def test_which_rows_break_a_rule(rule: dict[str, Any], cells: list[Any], expected: list[int]) -> None:
    assert broken(rule, country=cells) == expected


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"rule": "type", "column": "country"}, "rule type needs dtype"),
        ({"rule": "type", "column": "amount", "dtype": "integer"}, "(?s)contract enforces the type.*amount: decimal"),
        (
            {"rule": "type", "column": "country", "dtype": "integer", "format": "%d"},
            "only dates and times have a format",
        ),
        ({"rule": "length", "column": "amount", "max": 3}, "(?s)length needs a text column.*decimal"),
        ({"rule": "length", "column": "country"}, "rule length needs min or max"),
        ({"rule": "length", "column": "country", "min": 3, "max": 2}, "no value can be in this range"),
        ({"rule": "length", "column": "country", "min": -1}, "whole number of characters"),
        ({"rule": "length", "column": "country", "min": 1.5}, "whole number of characters"),
        ({"rule": "not_null", "column": "country", "min_share": 0.5}, "rule not_null takes no min_share"),
        ({"rule": "monotonic"}, "rule monotonic needs column"),
        ({"rule": "monotonic", "column": "paid"}, "(?s)monotonic needs a .* column.*boolean"),
        ({"rule": "monotonic", "column": "amount", "on_failure": "reject_row"}, "a monotonic rule rejects no row"),
        ({"rule": "freshness", "max_age_days": 1}, "(?s)needs a day to judge by.*as-of"),
        ({"rule": "freshness", "as_of": "today"}, "rule freshness needs max_age_days"),
        (
            {"rule": "freshness", "as_of": "today", "max_age_days": 1, "column": "amount"},
            "(?s)freshness needs a.*decimal",
        ),
        ({"rule": "freshness", "as_of": "today", "max_age_days": 1, "max_rows": 3}, "no threshold by rows"),
        ({"rule": "row_count"}, "rule row_count needs a bound"),
        ({"rule": "row_count", "min": 2, "max": 1}, "no number can be in this range"),
        ({"rule": "row_count", "min_ratio": 2, "max_ratio": 1}, "no number can be in this range"),
        ({"rule": "row_count", "min": 1.5}, "a number of rows is a whole number"),
        ({"rule": "row_count", "column": "amount", "min": 1}, "rule row_count takes no column"),
        ({"rule": "reference", "column": "country"}, "rule reference needs source"),
        (
            {"rule": "reference", "column": "amount", "source": "x.csv"},
            "(?s)reference needs a text or integer.*decimal",
        ),
        ({"rule": "distribution", "column": "amount", "min": 1}, "rule distribution needs statistic"),
        ({"rule": "distribution", "column": "amount", "statistic": "mean"}, "distribution needs min or max"),
        ({"rule": "distribution", "column": "country", "statistic": "mean", "min": 1}, "(?s)of the mean needs.*text"),
        (
            {"rule": "distribution", "column": "amount", "statistic": "quantile", "min": 1},
            "the statistic quantile needs quantile",
        ),
        (
            {"rule": "distribution", "column": "amount", "statistic": "mean", "quantile": 0.5, "min": 1},
            "the mean takes no quantile",
        ),
        (
            {"rule": "distribution", "column": "country", "statistic": "share", "min": 0.1},
            "statistic share needs value",
        ),
        (
            {"rule": "distribution", "column": "country", "statistic": "share", "value": "NL", "min": 2},
            "a share is between 0 and 1",
        ),
        (
            {"rule": "distribution", "column": "amount", "statistic": "mean", "min": 3, "max": 2},
            "no value can be in this range",
        ),
        (
            {"rule": "distribution", "column": "order_date", "statistic": "min", "min": "soon"},
            "bound is not of the column's type",
        ),
    ],
)
def test_wrong_rules(rule: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        rules(rule)


@pytest.mark.parametrize("rule", [{"rule": "length", "column": "country", "max": 3, "pattern": "x"}])
def test_a_parameter_of_another_kind(rule: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"(?s)rule length takes no pattern.*column, min, max"):
        rules(rule)


@pytest.mark.parametrize("share", [0.07, 0.29, 0.57, 0.58, 0.1])
def test_a_share_is_as_it_is_written(share: float) -> None:
    rule = Rule("n", "range", "block_run", "error", ("amount",), None, None, share)
    most = round(share * 100)
    assert rule.passed(most, 100)
    assert not rule.passed(most + 1, 100)
    least = Rule("n", "completeness", "block_run", "error", ("amount",), min_share=share)
    assert least.passed(100 - most, 100)
    assert not least.passed(100 - most + 1, 100)


# ---------------------------------------------------------------------------------------------------------- references


def keys_file(folder: Path, *keys: str | None) -> Path:
    path = folder / "keys.arrow"
    write_keys(distinct_keys(pl.Series(list(keys), dtype=pl.String)), path)
    return path


def test_keys_that_are_missing(tmp_path: Path) -> None:
    path = keys_file(tmp_path, *(f"K{i}" for i in range(1000)), None, "é", "")
    values = pl.Series(["K0", "K999", "K1000", None, "é", "", "k1"])
    assert is_missing(values, path).to_list() == [False, False, True, False, False, False, True]
    assert is_missing(pl.Series([], dtype=pl.String), path).to_list() == []
    assert is_missing(pl.Series([None, None], dtype=pl.String), path).to_list() == [False, False]


def test_keys_that_share_a_hash_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from daskae.validate import reference

    def one_hash(values: pl.Series) -> Any:
        import numpy as np

        return np.full(len(values), 7, np.uint64)

    monkeypatch.setattr(reference, "hash_text", one_hash)
    path = keys_file(tmp_path, "a", "b", "c")
    assert is_missing(pl.Series(["c", "a", "x", "b"]), path).to_list() == [False, False, True, False]


def test_the_digest_of_keys_is_that_of_the_set() -> None:
    one, other = (keys_digest(distinct_keys(pl.Series(keys))) for keys in (["a", "b", "a"], ["b", "a"]))
    assert one == other
    assert one != keys_digest(distinct_keys(pl.Series(["ab"])))
    assert one != keys_digest(distinct_keys(pl.Series(["a", "c"])))


def test_keys_that_are_gone(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="keys of a reference cannot be read"):
        is_missing(pl.Series(["a"]), tmp_path / "nothing.arrow")


# ------------------------------------------------------------------------------------------------- rules in Python


def custom(*given: RowRule | TableRule) -> tuple[Rule, ...]:
    built = build_rules([], contract(), SOURCES, given)
    from daskae.stages.spec import sample_table

    require_boolean(built, sample_table(contract(), SOURCES))
    return built


def judged(rule: RowRule, table: pl.DataFrame) -> tuple[list[bool], int, str]:
    found = judge_rows(custom(rule)[0], table, table.height)
    return found.mask.to_list(), found.errors, found.error


AMOUNTS = pl.DataFrame({"customer_id": ["a"] * 5, "quantity": [1, 2, 3, 4, None]})


def test_a_condition_in_polars_and_in_pandas_say_the_same() -> None:
    table = AMOUNTS.with_columns(pl.col("quantity").cast(pl.Decimal(38, 4)))
    expected = [False, False, True, True, False]
    assert judged(RowRule("r", pl.col("quantity") <= 2), table) == (expected, 0, "")
    function = RowRule("r", lambda frame: frame["quantity"] <= 2, frame=True, columns=["quantity"])
    assert judged(function, table) == (expected, 0, "")


def test_a_function_that_raises_names_its_rows() -> None:
    def fails_on_three(frame: Any) -> Any:
        if 3 in set(frame["quantity"].dropna()):
            raise ValueError("three\nis   too many")
        return frame["quantity"] != 4

    rule = RowRule("r", fails_on_three, frame=True, columns=["quantity"])
    assert judged(rule, AMOUNTS) == ([False, False, False, True, False], 1, "ValueError: three is too many")


def test_a_function_that_always_raises_rejects_nothing() -> None:
    calls = []

    def fails(frame: Any) -> Any:
        calls.append(len(frame))
        raise KeyError("no such column")

    table = pl.concat([AMOUNTS] * 2000)
    mask, errors, error = judged(RowRule("r", fails, frame=True, columns=["quantity"]), table)
    assert (sum(mask), errors) == (0, table.height)
    assert error.startswith("KeyError")
    assert len(calls) < 4 * MOST_ERRORS


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda frame: True, "TypeError: a pandas Series of true and false was expected, bool came"),
        (lambda frame: frame["quantity"].head(0), "values were expected, one a row, 0 came"),
        (lambda frame: frame["customer_id"], "Arrow"),
    ],
)
def test_answers_that_are_none(answer: Any, text: str) -> None:
    _, errors, error = judged(RowRule("r", answer, frame=True, columns=["quantity", "customer_id"]), AMOUNTS)
    assert errors == 5
    assert text in error


def test_an_expression_that_fails_for_one_row() -> None:
    (rule,) = rules({"rule": "expression", "name": "r", "expression": "CAST(country AS INTEGER) > 1"}, over=contract())
    table = pl.DataFrame({"country": ["1", "2", "x", "3", None]})
    found = judge_rows(rule, table, 5)
    assert (found.mask.to_list(), found.errors) == ([True, False, False, False, False], 1)
    assert "InvalidOperation" in found.error or "Error" in found.error


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (RowRule("r", pl.col("nothing") > 1), "(?s)unknown column.*nothing"),
        (RowRule("r", pl.col("amount") > pl.col("amount").mean()), "own row only"),
        (RowRule("r", pl.col("amount") + 1), "does not fit its columns"),
        (RowRule("r", lambda frame: frame), "(?s)needs a Polars expression.*frame = True"),
        (RowRule("r", pl.col("amount") > 1, frame=True), "needs a function"),
        (RowRule("r", lambda frame: frame, frame=True, columns=["nothing"]), "(?s)unknown column.*nothing"),
        (RowRule("", pl.col("amount") > 1), "needs a name"),
        (RowRule("unparsable_date", pl.col("amount") > 1), "name is taken"),
        (TableRule("t", {}, lambda state: True), "at least one aggregate"),
        (TableRule("t", {"x": pl.col("amount")}, lambda state: True), "not one number"),
        (TableRule("t", {"x": pl.col("nothing").sum()}, lambda state: True), "unknown column"),
        (TableRule("t", {"x": pl.len()}, lambda state: True, combine="mean"), "(?s)unknown way to merge.*mean"),  # type: ignore[arg-type]
        (
            TableRule("t", {"x": pl.len()}, lambda state: True, combine={"y": "sum"}),
            "combine must name every aggregate",
        ),
        (TableRule("t", {"x": pl.len()}, lambda state: True, on_failure="reject_row"), "rejects no row"),  # type: ignore[arg-type]
    ],
)
def test_wrong_rules_in_python(rule: RowRule | TableRule, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        custom(rule)


def test_the_definition_changes_with_a_function_and_not_with_a_verdict() -> None:
    from tests.stages.test_map import spec

    def one(frame: Any) -> Any:
        return frame["amount"] > 1

    def two(frame: Any) -> Any:
        return frame["amount"] > 2

    base = spec()

    def fingerprint(rule: RowRule | TableRule) -> str:
        from dataclasses import replace

        return replace(base, rules=custom(rule)).map_fingerprint

    assert fingerprint(RowRule("r", one, frame=True)) != fingerprint(RowRule("r", two, frame=True))
    assert fingerprint(RowRule("r", one, frame=True)) == fingerprint(RowRule("r", one, frame=True, max_rows=3))
    chunk = {"n": pl.len()}
    assert fingerprint(TableRule("t", chunk, lambda state: True)) == fingerprint(TableRule("t", chunk, lambda s: False))
    other = TableRule("t", {"n": pl.col("amount").count()}, lambda state: True)
    assert fingerprint(TableRule("t", chunk, lambda state: True)) != fingerprint(other)


# ----------------------------------------------------------------------------------------------------------------- tags


def test_rules_are_selected_by_tags() -> None:
    built = rules(
        {"rule": "not_null", "column": "country", "tags": ["a", "b"]},
        {"rule": "not_null", "column": "amount", "tags": ["b"]},
        {"rule": "not_null", "column": "quantity"},
    )

    def names(**given: list[str]) -> list[str]:
        return [rule.columns[0] for rule in select_rules(built, ValidationSettings(**given))]

    assert names() == ["country", "amount", "quantity"]
    assert names(tags=["b"]) == ["country", "amount"]
    assert names(tags=["b"], exclude_tags=["a"]) == ["amount"]
    assert names(exclude_tags=["b"]) == ["quantity"]
    with pytest.raises(
        SettingsError, match=r"(?s)no rule has this tag.*validation\.tags.*'bb'.*a, b.*did you mean 'b'"
    ):
        names(tags=["bb"])


def test_settings_know_the_new_parameters() -> None:
    assert RuleSettings(rule="freshness", as_of="today", max_age_days=3).as_of == "today"
    with pytest.raises(ValueError, match="as_of"):
        RuleSettings(rule="freshness", as_of="now", max_age_days=3)
