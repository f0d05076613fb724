from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.report.words import day_text, figure, figure_label, money, month_name, percent, visible


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "–"),
        (0, 5, "0 %"),
        (5, 5, "100 %"),
        (1, 3, "33.33 %"),
        (1, 10**9, "<0.01 %"),
        (10**9 - 1, 10**9, ">99.99 %"),
        (Decimal("1.5"), Decimal(6), "25.00 %"),
        (-1, 4, "-25.00 %"),
    ],
)
def test_percent(part: float, whole: float, text: str) -> None:
    assert percent(part, whole) == text


@given(st.integers(1, 10**12), st.data())
def test_only_none_is_nothing_and_only_all_is_everything(whole: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, whole))
    assert (percent(part, whole) == "0 %") == (part == 0)
    assert (percent(part, whole) == "100 %") == (part == whole)
    assert percent(part, whole) not in ("0.00 %", "100.00 %")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("customers", 4338, "4,338"),
        ("revenue", "8911407.904", "8,911,407.90"),
        ("revenue", "12", "12"),
        ("revenue", "9" * 30 + ".5", "999,999,999,999,999,999,999,999,999,999.50"),
        ("average_order_value", 480.865, "480.87"),
        ("churn_rate_percentage", 1.4753, "1.48 %"),
        ("anything", None, "–"),
        ("newest_order", "2011-12-09", "2011-12-09"),
        ("odd", "NaN", "NaN"),
    ],
)
def test_figure(name: str, value: str | int | float | None, text: str) -> None:
    assert figure(name, value) == text


def test_money_is_rounded_half_to_even_and_never_goes_through_a_float() -> None:
    assert money(Decimal("0.125")) == "0.12"
    assert money(Decimal("0.135")) == "0.14"
    assert money(Decimal("123456789012345678901234567890.01")) == "123,456,789,012,345,678,901,234,567,890.01"
    assert money(Decimal("-1234.5"), 0) == "-1,234"
    assert money(0.1) == "0.10"


def test_names() -> None:
    assert figure_label("average_customer_ltv") == "average customer LTV"
    assert figure_label("repeat_rate") == "repeat rate"
    assert month_name(date(2024, 1, 1)) == "Jan 2024"
    assert day_text("2011-12-09") == "9 Dec 2011"
    assert day_text("now\n") == "now\\n"


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("a\tb\x00c\u202ed\udc80é 漢") == "a\\tb\\x00c\\u202ed\\udc80é 漢"
    assert visible("abcdef", 4) == "abc…"
