"""How figures, months and states are written; the same words on the terminal and in the HTML report."""

from datetime import date
from decimal import Decimal, InvalidOperation

from daskae.summary import RunSummary
from daskae.units import format_count, format_seconds

# Month names of our own: strftime follows the locale, and the report must not.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_KPI_LABELS = {
    "average_customer_ltv": "average customer LTV",
    "churn_rate_percentage": "churn rate",
    "average_order_value": "average order value",
}

_STATUS = {
    "done": "Done",
    "done_with_rejects": "Done, with more rejected rows than allowed",
    "refused": "Refused",
    "failed": "Failed",
    "interrupted": "Interrupted",
    "running": "Still running",
}


def visible(text: str, limit: int = 0) -> str:
    """Return text from outside with what cannot be seen written as an escape, shortened to `limit` characters.

    Control characters, lone surrogates and marks that turn the direction of writing could otherwise make a page or a
    terminal show something that is not there.
    """
    if limit and len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def percent(part: float, whole: float) -> str:
    """Write a share so that 0 and 100 stand for exactly none and all: ``0 %``, ``<0.01 %``, ``12.34 %``, ``100 %``."""
    if not whole:
        return "–"
    if part == 0:
        return "0 %"
    if part == whole:
        return "100 %"
    share = 100 * part / whole
    if 0 < share < 0.01:
        return "<0.01 %"
    return ">99.99 %" if 99.99 < share < 100 else f"{share:.2f} %"


def money(value: Decimal | float, digits: int = 2) -> str:
    """Write an amount with thousands separated and a fixed number of digits, halves to even."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    return f"{exact:z,.{digits}f}"


def figure(name: str, value: str | int | float | None) -> str:
    """Write the value of a KPI for people: counts whole, amounts to two digits, percentages with their sign."""
    if value is None:
        return "–"
    if isinstance(value, int):
        text = format_count(value)
    elif isinstance(value, float):
        text = f"{value:,.2f}"
    else:
        text = _decimal_text(value)
    return f"{text} %" if name.endswith("_percentage") else text


def figure_label(name: str) -> str:
    """Name a KPI in words."""
    return _KPI_LABELS.get(name, name.replace("_", " "))


def month_name(month: date) -> str:
    """Write a month: ``Jan 2024``."""
    return f"{_MONTHS[month.month - 1]} {month.year}"


def month_abbreviation(month: date) -> str:
    """Write a month without its year: ``Jan``."""
    return _MONTHS[month.month - 1]


def day_name(day: date) -> str:
    """Write a day: ``9 Dec 2011``."""
    return f"{day.day} {month_name(day)}"


def day_text(text: str) -> str:
    """Write an ISO date as :func:`day_name` does; leave any other text as it is."""
    try:
        return day_name(date.fromisoformat(text))
    except ValueError:
        return visible(text)


def status_line(summary: RunSummary) -> str:
    """Say in one line how the run ended."""
    text = _STATUS[summary.status]
    if summary.already_published:
        text += ": the target already holds this very result"
    elif summary.status == "refused":
        text += " to publish: the target is as it was"
    elif summary.status == "failed":
        text += ": the tables were published before" if summary.tables else ": nothing was published"
    elif summary.status == "interrupted":
        text += ": the same command goes on where this run stopped"
    total = summary.seconds.get("total")
    return text if total is None else f"{text} ({format_seconds(total)})"


def reuse_line(summary: RunSummary) -> str:
    """Say how much was taken over from earlier runs: ``12 of 48 reused``."""
    return f"{format_count(summary.reused_partitions)} of {format_count(summary.partitions)} reused"


def stage_shares(summary: RunSummary) -> list[tuple[str, float, float]]:
    """Return stage, seconds and share of the longest stage, in order, without the total."""
    stages = {name: seconds for name, seconds in summary.seconds.items() if name != "total"}
    longest = max(stages.values(), default=0.0)
    return [(name, seconds, seconds / longest if longest else 0.0) for name, seconds in stages.items()]


def _decimal_text(value: str) -> str:
    try:
        exact = Decimal(value)
    except InvalidOperation:
        return visible(value)
    if not exact.is_finite():
        return visible(value)
    return money(exact, 0 if exact == exact.to_integral_value() else 2)
