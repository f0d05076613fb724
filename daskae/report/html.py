"""The report: one HTML file that needs no network, no script and no other file, and is the same for the same run.

It opens from a mail, from an artifact store that forbids scripts, and years later. All text from outside is escaped by
the template engine, and a content security policy in the page forbids everything but its own styles.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskae.durable import replacing
from daskae.report import charts, words
from daskae.report.colors import DARK, LIGHT, STEPS, style_rules
from daskae.report.data import CohortCell, MonthTotal, ReportData
from daskae.report.heatmap import MOST_COHORTS, rate_table, rate_text, shown_cohorts, value_table
from daskae.summary import RunSummary
from daskae.units import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from jinja2 import Environment

SAMPLE_LENGTH = 240
"""Characters shown of a rejected row."""

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_INPUTS = 12


def write_report(path: Path, summary: RunSummary, data: ReportData) -> None:
    """Write the report of a run; a file of that name is replaced at once and whole.

    Parameters
    ----------
    path : Path
        The HTML file.
    summary : RunSummary
        The closing record of the run.
    data : ReportData
        What is shown beside it.
    """
    page = render_report(summary, data)
    with replacing(path) as unfinished:
        unfinished.write_bytes(page.encode("utf-8"))


def render_report(summary: RunSummary, data: ReportData) -> str:
    """Return the page as text."""
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            s=summary,
            d=data,
            status=words.status_line(summary),
            as_of=words.day_text(summary.as_of),
            reused=words.reuse_line(summary),
            stages=words.stage_shares(summary),
            sample_length=SAMPLE_LENGTH,
            most_inputs=_MOST_INPUTS,
            bar=charts.bar,
            styles={"light": style_rules(LIGHT), "dark": style_rules(DARK)},
            steps=STEPS,
            rows_bar=charts.stacked_bar([(summary.rows.accepted, "good"), (summary.rows.rejected, "bad")]),
            **_cohort_parts(data),
            **_month_parts(data),
        )
    )


@cache
def templates() -> "Environment":
    """Return what compiles the templates, and keeps them for the next report of this process."""
    # Only a run that writes a report pays for the template engine.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": format_bytes,
        "count": format_count,
        "day": words.day_name,
        "figure": lambda value, name: words.figure(name, value),
        "label": _headline,
        "money": words.money,
        "month": words.month_name,
        "percent": words.percent,
        "rate": rate_text,
        "seconds": format_seconds,
        "visible": words.visible,
    }
    return environment


def _headline(name: str) -> str:
    label = words.figure_label(name)
    return label[:1].upper() + label[1:]


def _cohort_parts(data: ReportData) -> dict[str, Any]:
    cohorts = shown_cohorts(data.cohorts)
    total = len({cell.cohort_month for cell in data.cohorts})
    digits = data.money_digits if all(abs(cell.cumulative_ltv) < 1000 for cell in data.cohorts) else 0
    return {
        "retention": rate_table(cohorts, lambda cell: cell.retention, data.overall_retention, count=True),
        "rolling": rate_table(
            cohorts, lambda cell: cell.rolling_retention, data.overall_rolling_retention, count=False
        ),
        "ltv": value_table(cohorts, lambda cell: words.money(cell.cumulative_ltv, digits)),
        "ltv_chart": _ltv_chart(cohorts, data),
        "hidden_cohorts": total - len(cohorts),
        "most_cohorts": MOST_COHORTS,
    }


def _ltv_chart(cohorts: Sequence[Sequence[CohortCell]], data: ReportData) -> str:
    curves = []
    for cohort in cohorts:
        last = cohort[-1]
        name = words.month_name(last.cohort_month)
        value = _amount(words.money(last.cumulative_ltv, data.money_digits), data)
        hint = f"{name}, {format_count(last.cohort_size)} customers: {value} each after month {last.period_index}"
        points = tuple((cell.period_index, cell.cumulative_ltv) for cell in cohort)
        curves.append(charts.Curve(name, points, hint, last.is_partial))
    return charts.curve_chart(curves, "Cumulative lifetime value by cohort") if curves else ""


def _month_parts(data: ReportData) -> dict[str, Any]:
    if not data.months:
        return {"revenue_chart": "", "customer_chart": ""}
    revenue = [
        charts.Column(month.month, ((float(month.revenue), "one"),), _month_hint(month, data), month.is_partial)
        for month in data.months
    ]
    customers = [
        charts.Column(
            month.month,
            ((month.new_customers, "one"), (month.active_customers - month.new_customers, "two")),
            _month_hint(month, data),
            month.is_partial,
        )
        for month in data.months
    ]
    return {
        "revenue_chart": charts.column_chart(revenue, "Revenue by month"),
        "customer_chart": charts.column_chart(customers, "Active customers by month"),
    }


def _month_hint(month: MonthTotal, data: ReportData) -> str:
    revenue = _amount(words.money(month.revenue, data.money_digits), data)
    return (
        f"{words.month_name(month.month)}: revenue {revenue}, {format_count(month.orders)} orders, "
        f"{format_count(month.active_customers)} active customers, {format_count(month.new_customers)} of them new"
    )


def _amount(text: str, data: ReportData) -> str:
    return f"{text} {words.visible(data.currency)}".rstrip()
