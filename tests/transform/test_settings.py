"""Every wrong step is an error before the run that names the step."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from daskae.errors import SettingsError
from daskae.transform.steps import Step

from .building import NO_PARTITION, applied, built, orders

TRIM = {"function": "trim", "column": "channel"}


@pytest.mark.parametrize(("step", "text"), [
    ({}, "a function or an expression"),
    ({"function": "trim", "expression": "items"}, "a function or an expression"),
    ({"function": "trin", "column": "channel"}, "unknown function"),
    ({"function": "trim"}, "lacks a parameter"),
    ({**TRIM, "parameters": {"column": "email"}}, "column twice"),
    ({**TRIM, "parameters": {"side": "left"}}, "no such parameter"),
    ({"function": "trim", "column": "chanel"}, "did you mean 'channel'"),
    ({"function": "trim", "column": "amount"}, "amount is decimal"),
    ({"function": "trim", "column": []}, "needs columns"),
    ({"function": "replace", "column": "channel", "parameters": {"find": "(", "replacement": "", "regex": True}},
     "pattern is not usable"),
    ({"function": "replace", "column": "channel", "parameters": {"find": 1, "replacement": ""}}, "another type"),
    ({"function": "map_values", "column": "channel", "parameters": {"values": {}}}, "no values"),
    ({"function": "map_values", "column": "channel", "parameters": {"values": {"a": "b"}, "unfit": "x"}},
     "'reject', 'keep', 'null'"),
    ({"function": "date_format", "column": "channel", "parameters": {"read_as": "%Q"}}, "date format"),
    ({"function": "date_format", "column": "channel", "parameters": {"read_as": "%m"}}, "date format"),
    ({"function": "date_format", "column": "order_date", "parameters": {"read_as": "%d"}}, "order_date is datetime"),
    ({"function": "multiply", "column": "amount", "parameters": {"factor": "many"}}, "not a usable number"),
    ({"function": "multiply", "column": "items", "parameters": {"factor": 1.5}}, "whole numbers only"),
    ({"function": "multiply", "column": "channel", "parameters": {"factor": 2}}, "dtype in"),
    ({"function": "add", "column": "amount", "parameters": {"amount": "0.001"}}, "too many digits"),
    ({"function": "round", "column": "amount", "parameters": {"digits": -1}}, "cannot be rounded"),
    ({"function": "fill_null", "column": "items", "parameters": {"value": "x"}}, "not of the column's type"),
    ({"function": "fill_null", "column": "quantity", "parameters": {"value": 0.001}}, "not of the column's type"),
    ({"function": "rename", "parameters": {"columns": {"amount": "x"}}}, "column of the contract"),
    ({"function": "rename", "parameters": {"columns": {"email": "channel"}}}, "there already"),
    ({"function": "drop", "column": "customer_id"}, "column of the contract"),
    ({"function": "derive", "column": "x", "parameters": {"expression": "SUM(amount)"}}, "its own row only"),
    ({"expression": "amount +", "column": "x"}, "not a usable SQL"),
    ({"expression": "amoun + 1", "column": "x"}, "did you mean 'amount'"),
    ({"expression": "channel * 'a'", "column": "x"}, "does not fit"),
    ({"expression": "items + 0.5e0", "column": "amount"}, "keep the type of amount"),
    ({"expression": "items", "column": "status"}, "that these data do not have"),
    ({"expression": "items", "column": "_x"}, "not allowed"),
    ({"expression": "NULL", "column": "x"}, "cannot be kept"),
    ({"expression": "items"}, "not a condition"),
    ({**TRIM, "condition": "partition_rows > 1"}, "unknown fact"),
    ({**TRIM, "condition": "dataset_bytes"}, "not one"),
    ({**TRIM, "condition": "dataset_bytes >"}, "not a usable SQL"),
    ({**TRIM, "condition": "SUM(dataset_bytes) > 1"}, "its own row only"),
    ({"function": "drop", "column": "channel", "condition": "partition_bytes > 1"}, "depend on the partition"),
    ({"function": "dedupe", "column": "items", "condition": "partition_bytes > 1"}, "depend on the partition"),
    ({"function": "dedupe", "column": "item"}, "unknown column"),
    ({"function": "dedupe"}, "lacks a parameter"),
    ({"expression": "'x'", "column": "items", "on_error": "skip"}, "must not change a column's type"),
])  # fmt: skip
def test_a_wrong_step_is_refused_by_its_name(step: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text) as caught:
        built({"name": "wrong", **step})
    assert "wrong" in caught.value.where


def test_names_are_unique_among_steps_and_rules() -> None:
    with pytest.raises(SettingsError, match="name is taken"):
        built(TRIM, TRIM)
    with pytest.raises(SettingsError, match="name is taken"):
        built(TRIM, taken=["trim_channel"])
    assert built(TRIM, {**TRIM, "name": "again"}).names == ("trim_channel", "again")


def test_a_disabled_step_is_not_looked_at() -> None:
    assert built({"function": "nothing", "enabled": False}).names == ()


def test_parameters_are_checked_against_annotations() -> None:
    def scaled(table: pl.DataFrame, by: int | float, names: list[str] | None = None) -> pl.DataFrame:
        return table

    built(Step("s", scaled, parameters={"by": 1.5, "names": ["a"]}))
    with pytest.raises(SettingsError, match="another type"):
        built(Step("s", scaled, parameters={"by": "x"}))
    with pytest.raises(SettingsError, match="another type"):
        built(Step("s", scaled, parameters={"by": 1, "names": [1]}))
    with pytest.raises(SettingsError, match="did you mean 'names'"):
        built(Step("s", scaled, parameters={"by": 1, "name": []}))


def test_conditions_over_the_data_set_are_decided_before_the_run() -> None:
    assert built({**TRIM, "condition": "dataset_bytes >= 1000 AND dataset_files = 3"}).names == ("trim_channel",)
    steps = built({**TRIM, "condition": "dataset_bytes > 1000"})
    assert steps.names == ()
    assert (
        built({**TRIM, "condition": "dataset_bytes > 0"}).in_tasks[0].definition == built(TRIM).in_tasks[0].definition
    )


def test_conditions_over_the_partition_are_decided_with_it() -> None:
    skipped = {"expression": "'x'", "column": "mark", "condition": "partition_bytes * dataset_files > 30"}
    left, _, runner = applied(orders(), skipped)
    assert left["mark"].to_list() == [None]
    state = runner.states["expression_mark"]
    assert (state.partitions, state.skipped, state.rows_in, state.rows_out) == (1, 1, 1, 1)
    assert NO_PARTITION["partition_bytes"] == 10
    left, _, runner = applied(orders(), {**skipped, "condition": "partition_bytes * dataset_files >= 30"})
    assert left["mark"].to_list() == ["x"]
    assert "how the input is cut" in built(skipped).warnings[0]


def test_only_what_steps_need_is_read() -> None:
    steps = built({"expression": "email || note", "column": "x"}, {"expression": "x || '!'", "column": "x2"})
    assert steps.reads == ("email", "note")
    assert built(TRIM).reads == ()
    assert built({"function": "dedupe", "column": ["email", "items"]}).reads == ("email",)


def test_rules_see_what_steps_before_them_made() -> None:
    steps = built(
        {"expression": "email", "column": "mail", "at": "before_rules"},
        {"expression": "mail", "column": "late"},
        {"function": "drop", "column": ["note", "channel"], "at": "before_rules"},
    )
    names = [column.name for column in steps.checked]
    assert "mail" in names
    assert not {"late", "channel"} & set(names)
    assert set(steps.gone) == {"note", "channel"}
    assert {"mail", "late"} < {column.name for column in steps.columns}


def test_definitions_tell_steps_apart() -> None:
    given = [
        TRIM, {**TRIM, "column": "email"}, {**TRIM, "on_error": "log"}, {**TRIM, "at": "before_rules"},
        {"function": "lower", "column": "channel"}, {"expression": "items + 1", "column": "items"},
        {"expression": "items + 2", "column": "items"}, {"expression": "items > 2"}, {"expression": "items > 3"},
    ]  # fmt: skip
    definitions = [built({**step, "name": "s"}).in_tasks[0].definition for step in given]
    assert len(set(definitions)) == len(given)
    assert definitions == [built({**step, "name": "s"}).in_tasks[0].definition for step in given]


def test_a_condition_of_the_settings_is_sql_only(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SQL"):
        built({**TRIM, "condition": f"open('{tmp_path}/x', 'w') > 1"})
