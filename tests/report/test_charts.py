import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.report.charts import HEIGHT, TOP, Column, Curve, bar, column_chart, compact, curve_chart, nice_ticks
from daskae.report.colors import STEPS
from daskae.report.heatmap import rate_text, scale_top, shade_of

from .scenes import month_after

amounts = st.floats(-1e12, 1e12)


@given(amounts, amounts)
def test_ticks_cover_the_range_and_are_few(one: float, other: float) -> None:
    low, high = min(0.0, one, other), max(0.0, one, other)
    ticks = nice_ticks(low, high)
    slack = 1e-9 + 1e-6 * (high - low)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 8
    assert 0.0 in ticks
    assert ticks == sorted(set(ticks))


def test_ticks_are_round() -> None:
    assert nice_ticks(0, 23) == [0, 5, 10, 15, 20, 25]
    assert nice_ticks(0, 0) == [0, 0.2]
    assert nice_ticks(-40, 100) == [-50, 0, 50, 100]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1000, "1k"), (1500, "1.5k"), (-2.5e6, "-2.5M"), (0.25, "0.25")]
)
def test_compact(value: float, text: str) -> None:
    assert compact(value) == text


def columns(values: list[float], first: date = date(2023, 11, 1)) -> list[Column]:
    return [
        Column(month_after(first, number), ((value, "one"),), f"hint {number}", False)
        for number, value in enumerate(values)
    ]


def rects(svg: str) -> list[tuple[float, float]]:
    """Top and height of each drawn column."""
    return [(float(y), float(h)) for y, h in re.findall(r'<rect [^>]*y="([-\d.]+)" [^>]*height="([-\d.]+)"', svg)]


def test_columns_are_as_high_as_their_values_and_hang_when_negative() -> None:
    (full, half, below) = rects(column_chart(columns([100, 50, -50]), "t"))
    assert full[1] == pytest.approx(2 * half[1], abs=0.2)
    assert below[1] == pytest.approx(half[1], abs=0.2)
    assert below[0] == pytest.approx(full[0] + full[1], abs=0.2)
    assert all(TOP <= top <= HEIGHT for top, _ in (full, half, below))


def test_january_is_named_by_its_year() -> None:
    labels = re.findall(r'text-anchor="middle">([^<]+)<', column_chart(columns([1] * 14), "t"))
    assert " ".join(labels) == "Nov Dec 2024 Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"


def test_a_lone_month_between_marks_is_named() -> None:
    many = column_chart(columns([1] * 200), "t")
    assert ">2024<" in many
    assert ">Nov<" not in many


@pytest.mark.parametrize("points", [((0, 0.0),), ((0, 5.0),), ((0, 5.0), (1, 5.0)), ((0, -3.0), (1, 4.0))])
@pytest.mark.parametrize("ends_partial", [True, False])
def test_curves_of_any_length_are_drawn(points: tuple[tuple[int, float], ...], ends_partial: bool) -> None:
    svg = curve_chart([Curve("Jan 2024", points, "hint", ends_partial)], "t")
    assert svg.count("<circle") == 1
    assert "nan" not in svg
    assert ">Jan 2024</text>" in svg
    assert ('class="open"' in svg) == (ends_partial and len(points) > 1)


def test_names_of_curves_never_cover_each_other() -> None:
    curves = [Curve(f"c{n}", ((0, 1.0), (5, 10.0 + n / 100)), "h", False) for n in range(9)]
    assert curve_chart(curves, "t").count('class="name"') < 2


def test_hints_are_escaped() -> None:
    svg = curve_chart([Curve("<b>", ((0, 1.0), (1, 2.0)), "<script>", False)], '"><script>')
    assert "<script" not in svg
    assert "<b>" not in svg


def test_a_bar_is_never_invisible_nor_too_long() -> None:
    assert 'width="0"' in bar(0)
    assert 'width="0.5"' in bar(1e-9)
    assert 'width="100"' in bar(3)


def test_one_odd_cohort_does_not_make_the_others_pale() -> None:
    assert scale_top([0.1] * 99 + [1.0]) == 0.1
    assert scale_top([0.31]) == 0.4
    assert scale_top([]) == 1.0
    assert scale_top([0.0, 0.0]) == 1.0
    assert scale_top([0.0] * 99 + [0.04]) == 0.05


@given(st.floats(0, 1), st.floats(0, 1))
def test_shades_follow_the_rate(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= shade_of(low, 0.4) <= shade_of(high, 0.4) <= STEPS - 1


def test_rates_keep_all_apart_from_nearly_all() -> None:
    assert rate_text(1.0) == "100"
    assert rate_text(0.9999) == "100.0"
    assert rate_text(0.374) == "37.4"
    assert rate_text(0.0) == "0.0"
