from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from .building import after, applied, orders

CENT = Decimal("0.01")


def texts(function: str, cells: list[str | None], **parameters: Any) -> list[Any]:
    """Run one function on a text column."""
    table = after(orders(channel=cells), function=function, column="channel", parameters=parameters)
    return table["channel"].to_list()


def test_blanks_and_case() -> None:
    assert texts("trim", [" a b\t", "\u00a0x", "", None]) == ["a b", "x", "", None]
    assert texts("collapse_blanks", ["a  b\n\nc", "  ", None]) == ["a b c", " ", None]
    assert texts("lower", ["ÀB", None]) == ["àb", None]
    assert texts("upper", ["straße", None]) == ["STRASSE", None]
    assert texts("title", ["new york", "ÉCOLE x"]) == ["New York", "École X"]


def test_several_columns_in_one_step() -> None:
    table = after(orders(channel=[" A "], email=[" B "]), function="trim", column=["channel", "email"])
    assert table.select("channel", "email").rows() == [("A", "B")]


def test_an_address_is_written_one_way_and_judged() -> None:
    given = [" Ann@Example.ORG ", "ｂｏｂ＠example.org", "no address", "a@b", "", "  ", None]
    table = after(orders(email=given), function="standardize_email", column="email")
    assert table["email"].to_list() == [
        "ann@example.org", "bob@example.org", "no address", "a@b", None, None, None
    ]  # fmt: skip
    assert table["email_is_valid"].to_list() == [True, True, False, False, None, None, None]


def test_the_judgement_may_have_a_name() -> None:
    parameters = {"valid_column": "mail_ok"}
    table = after(orders(), function="standardize_email", column="email", parameters=parameters)
    assert table["mail_ok"].to_list() == [True]


def test_replace_by_text_and_by_pattern() -> None:
    assert texts("replace", ["a.b.c", None], find=".", replacement="-") == ["a-b-c", None]
    assert texts("replace", ["id 12", "id"], find=r"id (\d+)", replacement="#${1}", regex=True) == ["#12", "id"]


def test_values_are_mapped_whole() -> None:
    values = {"web": "online", "shop": "store"}
    assert texts("map_values", ["web", "webs", None], values=values) == ["online", "webs", None]
    assert texts("map_values", ["web", "x", None], values=values, unfit="null") == ["online", None, None]
    left, marks, _ = applied(
        orders(channel=["web", "x", None, "shop"]),
        {"function": "map_values", "column": "channel", "parameters": {"values": values, "unfit": "reject"}},
    )
    assert left["channel"].to_list() == ["online", None, "store"]
    assert [(name, column, mask.tolist()) for name, column, mask in marks] == [
        ("map_values_channel", "channel", [False, True, False, False])
    ]


def test_dates_are_written_in_another_format() -> None:
    given = ["31.12.2023", " 29.02.2024", "", None]
    assert texts("date_format", given, read_as="%d.%m.%Y")[:2] == ["2023-12-31", "2024-02-29"]
    assert texts("date_format", ["2024-02-29 13:14"], read_as="%Y-%m-%d %H:%M", write_as="%H%M %d/%m/%y") == [
        "1314 29/02/24"
    ]
    assert texts("date_format", ["30.02.2024"], read_as="%d.%m.%Y", unfit="keep") == ["30.02.2024"]
    assert texts("date_format", ["30.02.2024"], read_as="%d.%m.%Y", unfit="null") == [None]


def test_a_text_that_is_no_date_rejects_its_row() -> None:
    step = {"function": "date_format", "column": "channel", "parameters": {"read_as": "%d.%m.%Y"}}
    left, marks, _ = applied(orders(channel=["30.02.2024", "1.2.2024", " ", None]), step)
    assert left["channel"].to_list() == ["2024-02-01", " ", None]
    assert marks[0][2].tolist() == [True, False, False, False]


UNITS = st.integers(-(10**15), 10**15)
FACTORS = st.decimals(-1000, 1000, places=5, allow_nan=False, allow_infinity=False)


@given(units=st.lists(UNITS, min_size=1, max_size=5), factor=FACTORS)
def test_products_are_exact_and_rounded_half_to_even(units: list[int], factor: Decimal) -> None:
    amounts = [Decimal(value).scaleb(-2) for value in units]
    step = {"function": "multiply", "column": "amount", "parameters": {"factor": str(factor)}}
    found = after(orders(amount=amounts), **step)["amount"].to_list()
    assert found == [(value * factor).quantize(CENT, ROUND_HALF_EVEN) for value in amounts]


@given(units=st.lists(UNITS, min_size=1, max_size=5), digits=st.integers(0, 4))
def test_rounding_is_exact(units: list[int], digits: int) -> None:
    amounts = [Decimal(value).scaleb(-2) for value in units]
    found = after(orders(amount=amounts), function="round", column="amount", parameters={"digits": digits})["amount"]
    assert found.to_list() == [round(value, min(digits, 2)) for value in amounts]
    assert found.dtype == pl.Decimal(38, 2)


def test_sums_and_products_of_other_numbers() -> None:
    table = orders(items=[3, None], weight=[0.5, None], amount=[Decimal("1.10"), Decimal(2)])
    columns = ["amount", "items", "weight"]
    added = after(table, function="add", column=columns, parameters={"amount": 2})
    assert added.select(columns).rows() == [(Decimal("3.10"), 5, 2.5), (Decimal(4), None, None)]
    doubled = after(table, function="multiply", column=columns, parameters={"factor": 2})
    assert doubled.select(columns).rows() == [(Decimal("2.20"), 6, 1.0), (Decimal(4), None, None)]


def test_money_that_does_not_fit_rejects_its_row() -> None:
    step = {"function": "multiply", "column": "amount", "parameters": {"factor": "1e10"}}
    left, marks, _ = applied(orders(amount=[Decimal(10**8), Decimal(1)]), step)
    assert left["amount"].to_list() == [Decimal(10**10)]
    assert marks[0][2].tolist() == [True, False]
    step = {"function": "add", "column": "items", "parameters": {"amount": 1}}
    left, marks, _ = applied(orders(items=[2**63 - 1, 2**63 - 2]), step)
    assert left["items"].to_list() == [2**63 - 1]


def test_derived_decimals_are_exact_or_reject_their_row() -> None:
    step = {"expression": "amount * 1.1", "column": "gross"}
    left, marks, _ = applied(orders(amount=[Decimal("1.50"), Decimal("1.55")]), step)
    assert left["gross"].to_list() == [Decimal("1.65")]
    assert marks[0][2].tolist() == [False, True]
    rounded = after(orders(amount=[Decimal("1.55")]), expression="ROUND(amount * 1.1, 2)", column="gross")
    assert rounded["gross"].to_list() == [Decimal("1.71")], "SQL rounds half away from zero"
    assert rounded.schema["gross"] == pl.Decimal(38, 2)


def test_derived_columns_have_the_types_that_are_kept() -> None:
    table = after(orders(), function="derive", column="n", parameters={"expression": "items", "dtype": "float"})
    assert table["n"].to_list() == [1.0]
    table = after(orders(), expression="CAST(items AS INTEGER)", column="small")
    assert table.schema["small"] == pl.Int64()
    table = after(orders(), expression="amount > 1", column="large")
    assert table["large"].to_list() == [True]
    table = after(orders(), expression="'x'", column="constant")
    assert table["constant"].to_list() == ["x"]


def test_nulls_are_filled() -> None:
    table = orders(channel=["", None, "a"], items=[None, 1, 2], amount=[Decimal(1)] * 3)
    assert after(table, function="fill_null", column="channel", parameters={"value": "none"})["channel"].to_list() == [
        "none", "none", "a"
    ]  # fmt: skip
    assert after(table, function="fill_null", column="items", parameters={"value": 0})["items"].to_list() == [0, 1, 2]
    table = orders(quantity=[None, Decimal(2)])
    filled = after(table, function="fill_null", column="quantity", parameters={"value": 1.25})
    assert filled["quantity"].to_list() == [Decimal("1.25"), Decimal(2)]


def test_columns_are_renamed_and_dropped() -> None:
    table = after(orders(), function="rename", parameters={"columns": {"channel": "via", "email": "mail"}})
    assert {"via", "mail"} < set(table.columns)
    assert not {"channel", "email"} & set(table.columns)
    assert "weight" not in after(orders(), function="drop", column=["weight"]).columns


@pytest.mark.parametrize("step", [
    {"function": "filter", "name": "few", "parameters": {"expression": "items > 1"}},
    {"expression": "items > 1", "name": "few"},
])  # fmt: skip
def test_a_filter_rejects_what_is_not_true(step: dict[str, Any]) -> None:
    left, marks, runner = applied(orders(items=[1, 2, None, 3]), step)
    assert left["items"].to_list() == [2, 3]
    assert [(name, column, mask.tolist()) for name, column, mask in marks] == [
        ("few", "items", [True, False, True, False])
    ]
    state = runner.states["few"]
    assert (state.rows_in, state.rows_out, state.failed) == (4, 2, 0)


def test_a_constant_condition_holds_for_every_row() -> None:
    left, marks, _ = applied(orders(items=[1, 2]), {"expression": "1 = 0", "name": "none"})
    assert left.height == 0
    assert marks[0][2].tolist() == [True, True]


@pytest.mark.parametrize(("column", "change"), [
    ("customer_id", {"function": "replace", "parameters": {"find": "gone", "replacement": " "}}),
    ("customer_id", {"function": "map_values", "parameters": {"values": {"c1": "c1"}, "unfit": "null"}}),
])  # fmt: skip
def test_a_customer_that_a_step_takes_away_rejects_the_row(column: str, change: dict[str, Any]) -> None:
    left, marks, _ = applied(orders(customer_id=["c1", "gone"]), {"name": "s", "column": column, **change})
    assert left["customer_id"].to_list() == ["c1"]
    assert marks[0][0] == "s"
    assert marks[0][2].tolist() == [False, True]


def test_later_steps_do_not_see_rejected_rows() -> None:
    left, marks, runner = applied(
        orders(items=[1, 2, 3, 4]),
        {"name": "a", "expression": "items <> 2"},
        {"name": "b", "expression": "items <> 3 AND items <> 2"},
    )
    assert left["items"].to_list() == [1, 4]
    assert [mask.tolist() for _, _, mask in marks] == [[False, True, False, False], [False, False, True, False]]
    assert runner.states["b"].rows_in == 3
