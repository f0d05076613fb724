from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.errors import DaskaeError, SettingsError
from daskae.transform import registry
from daskae.transform.registry import register
from daskae.transform.steps import Step

from .building import applied, built, orders


@pytest.fixture(autouse=True)
def _own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KNOWN", {})


def halved(table: pl.DataFrame, column: str, by: int = 2) -> pl.DataFrame:
    return table.with_columns((pl.col(column) // by).alias("half"))


def careful(table: pl.DataFrame) -> pl.DataFrame:
    """Fail on any table that has a bad channel."""
    if "bad" in table["channel"]:
        raise ValueError("a bad channel")
    return table.with_columns(pl.col("channel").str.to_uppercase(), seen=pl.lit(True))


def test_a_function_by_name_and_by_itself() -> None:
    register("halved")(halved)
    for step in (
        {"function": "halved", "name": "s", "parameters": {"column": "items"}},
        Step("s", halved, column="items"),
        Step("s", "halved", parameters={"column": "items", "by": 1}),
    ):
        left, marks, _ = applied(orders(items=[4, 5]), step)
        assert left["half"].to_list() in ([2, 2], [4, 5])
        assert marks == []


def test_a_function_on_a_pandas_frame() -> None:
    @register("net", frame=True)
    def net(frame: pd.DataFrame, rate: str) -> pd.DataFrame:
        assert isinstance(frame["amount"].iloc[0], Decimal) if len(frame) else True
        frame["amount"] = frame["amount"] * Decimal(rate)  # type: ignore[type-var]
        frame["weekday"] = frame["order_date"].dt.day_of_week
        return frame

    step = {"function": "net", "parameters": {"rate": "0.5"}}
    left, _, _ = applied(orders(amount=[Decimal("1.50"), Decimal("1.25")]), {**step, "at": "before_rules"})
    assert left["amount"].to_list()[0] == Decimal("0.75")
    assert left.height == 1, "0.625 has more digits than money has"
    assert left.schema["amount"] == pl.Decimal(38, 2)
    assert left["weekday"].to_list() == [1]


def test_money_too_large_for_a_frame_is_an_error_of_its_row() -> None:
    @register("same", frame=True)
    def same(frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    table = orders(amount=[Decimal(10**16), Decimal(10**16 - 1)])
    left, _, runner = applied(table, {"function": "same", "on_error": "skip"})
    assert left["amount"].to_list() == table["amount"].to_list()
    assert runner.states["same"].failed == 1


def test_a_function_may_reject_rows() -> None:
    def few(table: pl.DataFrame) -> pl.DataFrame:
        return table.with_columns((pl.col("items") < 2).alias("_rejected"))

    left, marks, _ = applied(orders(items=[1, 2, 3]), Step("few", few))
    assert left["items"].to_list() == [2, 3]
    assert "_rejected" not in left.columns
    assert [(name, mask.tolist()) for name, _, mask in marks] == [("few", [True, False, False])]


@pytest.mark.parametrize(("function", "text"), [
    (lambda table: table.head(1), "every row"),
    (lambda table: table.reverse(), "moved rows"),
    (lambda table: table.with_columns(amount=pl.col("amount").cast(pl.Float64)), "keep the type of amount"),
    (lambda table: table.drop("customer_id"), "take away a column of the contract"),
    (lambda table: table.with_columns(x=pl.lit(None)), "a type that cannot be kept"),
    (lambda table: table.with_columns(x=pl.lit([1])), "a type that cannot be kept"),
    (lambda table: None, "a DataFrame is expected"),
    (lambda table: table.with_columns(_x=1), "not allowed"),
])  # fmt: skip
def test_a_function_must_keep_the_rows_and_the_contract(function: Any, text: str) -> None:
    with pytest.raises(DaskaeError, match=text) as caught:
        applied(orders(items=[1, 2]), Step("mine", function))
    assert "step mine" in str(caught.value)


def test_moved_pandas_rows_are_found_by_their_index() -> None:
    @register("sorted", frame=True)
    def by_items(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.sort_values("items")

    with pytest.raises(DaskaeError, match="moved rows"):
        applied(orders(items=[2, 1]), {"function": "sorted"})


def test_what_cannot_be_called_on_nothing_declares_its_columns() -> None:
    def first(table: pl.DataFrame) -> pl.DataFrame:
        return table.with_columns(initial=pl.Series([name[0] for name in table["customer_id"]]))

    def picky(table: pl.DataFrame) -> pl.DataFrame:
        table.row(0)
        return first(table)

    with pytest.raises(SettingsError, match="fails on an empty table"):
        built(Step("mine", picky))
    register("picky", adds={"initial": "text"}, reads=[])(picky)
    left, _, _ = applied(orders(), {"function": "picky"})
    assert left["initial"].to_list() == ["c"]


def test_a_function_sees_what_it_reads() -> None:
    seen: list[list[str]] = []

    def look(table: pl.DataFrame) -> pl.DataFrame:
        seen.append(table.columns)
        return table

    register("look", reads=["email"])(look)
    built({"function": "look"})
    assert seen[0][-1] == "email"
    assert "q" not in seen[0]
    assert built({"function": "look"}).reads == ("email",)
    assert set(built(Step("x", look)).reads) == {"c", "d", "a", "q", "note", "email"}
    register("odd", reads=["nothing"])(lambda table: table)
    with pytest.raises(SettingsError, match="unknown column"):
        built({"function": "odd"})


def test_names_are_taken_once() -> None:
    register("mine")(halved)
    register("mine")(halved)
    with pytest.raises(SettingsError, match="name is taken"):
        register("mine")(careful)
    with pytest.raises(SettingsError, match="name is taken"):
        register("trim")(careful)


def test_an_error_names_the_step() -> None:
    with pytest.raises(DaskaeError, match="a step failed") as caught:
        applied(orders(channel=["bad"]), Step("careful", careful))
    assert caught.value.where == "step careful"
    assert "ValueError: a bad channel" in caught.value.got


CHANNELS = st.lists(st.sampled_from(["ok", "bad", "fine"]), min_size=1, max_size=12)


@settings(max_examples=30)
@given(channels=CHANNELS, cut=st.integers(0, 12))
def test_rows_on_which_a_step_fails_do_not_touch_others(channels: list[str], cut: int) -> None:
    step = Step("careful", careful, on_error="skip")
    left, marks, runner = applied(orders(channel=channels), step)
    assert marks == []
    assert left["channel"].to_list() == [name if name == "bad" else name.upper() for name in channels]
    assert left["seen"].to_list() == [None if name == "bad" else True for name in channels]
    state = runner.states["careful"]
    assert state.failed == channels.count("bad")
    assert state.error == ("ValueError: a bad channel" if "bad" in channels else "")
    halves = [applied(orders(channel=piece), step)[0] for piece in (channels[:cut], channels[cut:]) if piece]
    assert pl.concat(halves).equals(left)


def test_a_division_by_zero_is_an_error_of_its_row() -> None:
    table = orders(quantity=[Decimal(0), Decimal(2)], amount=[Decimal(3)] * 2)
    step = {"expression": "ROUND(amount / quantity, 2)", "column": "each", "on_error": "log"}
    left, _, runner = applied(table, step)
    assert left["each"].to_list() == [None, Decimal("1.50")]
    assert runner.states["expression_each"].failed == 1


def test_states_add_up() -> None:
    step = Step("careful", careful, on_error="log")
    whole = applied(orders(channel=["ok", "bad", "bad"]), step)[2].states["careful"]
    parts = [applied(orders(channel=names), step)[2].states["careful"] for names in (["ok", "bad"], ["bad"])]
    for merged in (parts[0].merged(parts[1]), parts[1].merged(parts[0])):
        assert (merged.rows_in, merged.rows_out, merged.failed, merged.error) == (
            whole.rows_in, whole.rows_out, whole.failed, whole.error
        )  # fmt: skip
        assert merged.partitions == 2
