"""The built-in table rules, each made from its settings: what a part keeps, and what the whole is judged by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from daskae.config import RuleSettings
from daskae.errors import SettingsError
from daskae.validate.columns import NUMBERS, TIMES, Columns, read_bound, read_bounds
from daskae.validate.row_builders import need

TODAY = "today"


@dataclass(frozen=True)
class TableParts:
    """What a kind of table rule contributes to its record."""

    columns: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    bounds: Mapping[str, Any] = field(default_factory=dict)


def _monotonic(item: RuleSettings, columns: Columns, where: str) -> TableParts:
    name = need(item, "column", where)
    columns.of_type(name, where, "monotonic", (*NUMBERS, *TIMES, "text"))
    return TableParts((name,), {"direction": item.direction or "increasing", "strict": bool(item.strict)})


def _freshness(item: RuleSettings, columns: Columns, where: str, as_of: date | None) -> TableParts:
    name = item.column or "order_date"
    columns.of_type(name, where, "freshness", TIMES)
    days = need(item, "max_age_days", where)
    if item.as_of is None and as_of is None:
        raise SettingsError(
            "rule freshness needs a day to judge by", where, allowed='--as-of DATE, or as_of = DATE or "today"',
            hint='the clock is used only where as_of = "today" says so',
        )  # fmt: skip
    day = item.as_of or as_of
    if isinstance(day, str) and day != TODAY:
        day = read_bound(day, "date", f"{where}.as_of")
    return TableParts((name,), {}, {"max_age_days": days, "as_of": str(day)})


def _row_count(item: RuleSettings, where: str) -> TableParts:
    given = {name: getattr(item, name) for name in ("min", "max", "min_ratio", "max_ratio")}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        raise SettingsError("rule row_count needs a bound", where, allowed="min, max, min_ratio, max_ratio")
    for name in ("min", "max"):
        if name in given and (isinstance(given[name], bool) or not isinstance(given[name], int) or given[name] < 0):
            raise SettingsError("a number of rows is a whole number", f"{where}.{name}", repr(given[name]), "0 or more")
    for low, high in (("min", "max"), ("min_ratio", "max_ratio")):
        if low in given and high in given and given[low] > given[high]:
            raise SettingsError(
                "no number can be in this range", where, f"{low} {given[low]}, {high} {given[high]}", f"{low} <= {high}"
            )
    return TableParts((), {}, given)


def _distribution(item: RuleSettings, columns: Columns, where: str) -> TableParts:
    name, statistic = need(item, "column", where), need(item, "statistic", where)
    _require_own_parameters(item, statistic, where)
    if statistic == "share":
        dtype = columns.of_type(name, where, "distribution of shares", (*NUMBERS, "text", "boolean"))
        value = need(item, "value", where)
        read = str(value) if dtype in ("text", "boolean") else str(read_bound(value, dtype, where))
        parameters, bound_type = {"statistic": statistic, "value": read}, "integer"
    else:
        allowed = (*NUMBERS, *TIMES) if statistic in ("min", "max") else NUMBERS
        dtype = columns.of_type(name, where, f"distribution of the {statistic}", allowed)
        parameters = {"statistic": statistic} | ({"quantile": item.quantile} if statistic == "quantile" else {})
        bound_type = dtype if dtype in TIMES else "integer"
    low, high = read_bounds(item.min, item.max, bound_type, "distribution", where)
    if statistic == "share" and any(bound is not None and not 0 <= bound <= 1 for bound in (low, high)):
        raise SettingsError("a share is between 0 and 1", where, f"min {item.min}, max {item.max}", "0 to 1")
    bounds = {"min": low, "max": high}
    return TableParts((name,), parameters, {key: value for key, value in bounds.items() if value is not None})


def _require_own_parameters(item: RuleSettings, statistic: str, where: str) -> None:
    for name, owner in (("quantile", "quantile"), ("value", "share")):
        given = getattr(item, name) is not None
        if given and statistic != owner:
            raise SettingsError(f"the {statistic} takes no {name}", f"{where}.{name}", allowed=f'statistic = "{owner}"')
        if not given and statistic == owner:
            raise SettingsError(f"the statistic {statistic} needs {name}", where)


def build_table_parts(item: RuleSettings, columns: Columns, where: str, as_of: date | None) -> TableParts:
    """Read the settings of a table rule.

    Raises
    ------
    SettingsError
    """
    if item.rule == "freshness":
        return _freshness(item, columns, where, as_of)
    if item.rule == "row_count":
        return _row_count(item, where)
    builders: Mapping[str, Callable[[RuleSettings, Columns, str], TableParts]] = {
        "monotonic": _monotonic, "distribution": _distribution
    }  # fmt: skip
    return builders[item.rule](item, columns, where)
