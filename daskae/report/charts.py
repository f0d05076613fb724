"""Small charts as inline SVG: columns by month, curves by cohort, bars in tables.

Drawn by hand rather than by a plotting library: the colours follow the page from light to dark, values stay readable
text, each mark explains itself when pointed at, the same input gives the same bytes, and a chart takes milliseconds.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

from daskae.report.colors import STEPS
from daskae.report.words import month_abbreviation, month_name

WIDTH, HEIGHT = 1080, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 30
_FLOOR = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Column:
    """One month of a column chart: parts that stand on each other, from the axis outwards."""

    month: date
    parts: tuple[tuple[float, str], ...]
    """Value and CSS class of each part."""
    hint: str
    is_partial: bool


@dataclass(frozen=True)
class Curve:
    """One line of a curve chart, from period 0 on."""

    label: str
    points: tuple[tuple[int, float], ...]
    hint: str
    ends_partial: bool
    """Whether the last point belongs to a month that may not be complete."""


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers that cover the range from `low` to `high` and hold 0 if the range does."""
    # Nothing that is counted or paid differs by less; an empty range gets a short axis.
    span = high - low if high - low > 1e-9 else 1.0
    raw = span / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def compact(value: float) -> str:
    """Write a number of an axis shortly: ``250k``, ``1.5M``."""
    for size, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def bar(share: float, css: str = "") -> Markup:
    """Draw a bar for a table cell that fills `share` of its width."""
    return Markup(
        '<svg class="bar {}" width="160" height="10" viewBox="0 0 100 10" preserveAspectRatio="none"'
        ' aria-hidden="true"><rect width="{}" height="10"/></svg>'
    ).format(css, _number(100 * min(1.0, max(share, 0.005 if share > 0 else 0.0))))


def stacked_bar(parts: Sequence[tuple[float, str]]) -> Markup:
    """Draw one full-width bar of several parts, each a value and a CSS class."""
    whole = sum(value for value, _ in parts) or 1.0
    rects, at = [], 0.0
    for value, css in parts:
        width = 1000 * value / whole
        rects.append(_tag("rect", {"class": css, "x": at, "width": width, "height": 10}))
        at += width
    return Markup(
        '<svg class="stack" width="600" height="16" viewBox="0 0 1000 10" preserveAspectRatio="none"'
        ' aria-hidden="true">{}</svg>'
    ).format(Markup("").join(rects))


def column_chart(columns: Sequence[Column], title: str) -> Markup:
    """Draw one column a month; negative values hang below the axis."""
    heights = [sum(value for value, _ in column.parts) for column in columns]
    ticks = nice_ticks(min(0.0, *heights, 0.0), max(0.0, *heights, 0.0))
    y = _scale(ticks)
    pitch = (WIDTH - LEFT - RIGHT) / len(columns)
    gap = min(14.0, pitch * 0.28)
    body = [_grid(ticks, y)]
    for number, column in enumerate(columns):
        x, level, rects = LEFT + number * pitch + gap / 2, 0.0, []
        for value, css in column.parts:
            top, low = sorted((y(level), y(level + value)))
            rects.append(_tag("rect", {"class": css, "x": x, "y": top, "width": pitch - gap, "height": low - top}))
            level += value
        group = Markup('<g class="{}"><title>{}</title>{}</g>')
        body.append(group.format("part" if column.is_partial else "whole", column.hint, Markup("").join(rects)))
    body.append(_month_axis([column.month for column in columns], pitch))
    return _svg(title, body)


def curve_chart(curves: Sequence[Curve], title: str) -> Markup:
    """Draw one line a cohort, from the palest for the oldest to the deepest for the newest."""
    values = [value for curve in curves for _, value in curve.points]
    last = max(max((period for curve in curves for period, _ in curve.points), default=0), 1)
    ticks = nice_ticks(min(0.0, *values, 0.0), max(0.0, *values, 0.0))
    y = _scale(ticks)

    def x(period: float) -> float:
        return LEFT + period * (WIDTH - LEFT - RIGHT - 50) / last

    body = [_grid(ticks, y), _period_axis(last, x)]
    body += [_curve(curve, _shade(number, len(curves)), x, y) for number, curve in enumerate(curves)]
    body.append(_end_labels(curves, x, y))
    return _svg(title, body)


def _shade(number: int, count: int) -> str:
    return f"c{STEPS - 1 if count == 1 else round(number * (STEPS - 1) / (count - 1))}"


def _curve(curve: Curve, css: str, x: Callable[[float], float], y: Callable[[float], float]) -> Markup:
    points = [f"{_number(x(period))} {_number(y(value))}" for period, value in curve.points]
    whole = points[:-1] if curve.ends_partial else points
    marks = []
    if len(whole) > 1:
        marks.append(_tag("path", {"d": "M" + "L".join(whole)}))
    if curve.ends_partial and len(points) > 1:
        marks.append(_tag("path", {"class": "open", "d": "M" + "L".join(points[-2:])}))
    end_period, end_value = curve.points[-1]
    marks.append(_tag("circle", {"cx": x(end_period), "cy": y(end_value), "r": 2.2}))
    return Markup('<g class="curve {}" fill="none" stroke="currentColor"><title>{}</title>{}</g>').format(
        css, curve.hint, Markup("").join(marks)
    )


def _end_labels(curves: Sequence[Curve], x: Callable[[float], float], y: Callable[[float], float]) -> Markup:
    """Name every curve whose name, about 54 by 14 behind its end, touches neither another curve nor another name."""
    labels: list[Markup] = []
    lines = [_along([(x(period), y(value)) for period, value in curve.points]) for curve in curves]
    taken: list[tuple[float, float]] = []
    for number, curve in enumerate(curves):
        left, middle = lines[number][0]
        others = [*lines[:number], *lines[number + 1 :], taken]
        if not any(left < at < left + 60 and abs(level - middle) < 9 for line in others for at, level in line):
            taken += [(left + step, middle) for step in range(0, 60, 10)]
            labels.append(_text(left + 6, middle + 4, curve.label, "name"))
    return Markup("").join(labels)


def _along(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points on a line, its end first, so close to each other that a name cannot slip between them."""
    points = list(line[-1:])
    for (left, start), (right, end) in itertools.pairwise(line):
        count = max(1, round((right - left) / 8))
        points += [(left + (right - left) * k / count, start + (end - start) * k / count) for k in range(count)]
    return points


def _svg(title: str, body: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" font-size="12" fill="currentColor">{}</svg>'
    ).format(WIDTH, HEIGHT, title, Markup("").join(body))


def _scale(ticks: Sequence[float]) -> Callable[[float], float]:
    low, high = ticks[0], ticks[-1]
    return lambda value: _FLOOR - (value - low) / (high - low) * (_FLOOR - TOP)


def _grid(ticks: Sequence[float], y: Callable[[float], float]) -> Markup:
    lines = [
        _tag(
            "line",
            {"class": "zero" if tick == 0 else "grid", "x1": LEFT, "x2": WIDTH - RIGHT, "y1": y(tick), "y2": y(tick)},
        )
        for tick in ticks
    ]
    return Markup("").join([*lines, *(_text(LEFT - 8, y(tick) + 4, compact(tick), "end") for tick in ticks)])


def _month_axis(months: Sequence[date], pitch: float) -> Markup:
    """Name as many months as there is room for; January is named by its year."""
    step = next((step for step in (1, 2, 3, 6, 12) if step * pitch >= 44), 12)
    labels = []
    for number, month in enumerate(months):
        if (month.month - 1) % step == 0:
            name = str(month.year) if month.month == 1 else month_abbreviation(month)
            css = "mid year" if month.month == 1 else "mid"
            labels.append(_text(LEFT + (number + 0.5) * pitch, HEIGHT - 8, name, css))
    if not labels and months:
        labels.append(_text(LEFT + pitch / 2, HEIGHT - 8, month_name(months[0]), "mid"))
    return Markup("").join(labels)


def _period_axis(last: int, x: Callable[[float], float]) -> Markup:
    step = next((step for step in (1, 2, 3, 6, 12) if last / step <= 20), 12)
    return Markup("").join(_text(x(period), HEIGHT - 8, str(period), "mid") for period in range(0, last + 1, step))


def _text(x: float, y: float, text: str, css: str) -> Markup:
    anchor = {"end": "end", "mid": "middle"}.get(css.split()[0], "start")
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        css, _number(x), _number(y), anchor, text
    )


def _tag(name: str, attributes: dict[str, str | float]) -> Markup:
    texts = [
        Markup(' {}="{}"').format(Markup(key), value if isinstance(value, str) else _number(value))
        for key, value in attributes.items()
    ]
    return Markup("<{}{}/>").format(Markup(name), Markup("").join(texts))


def _number(value: float) -> str:
    """Write a coordinate with one digit at most, so that files stay small and the same everywhere."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
