"""The verdict of a rule over the whole data set, from its merged state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from daskae.sketches.quantiles import RELATIVE_ERROR, QuantileSketch
from daskae.validate.monotonic import settle
from daskae.validate.row_rules import error_text
from daskae.validate.rules import TABLE_FUNCTION, Rule
from daskae.validate.states import RuleState, Sample
from daskae.validate.table_builders import TODAY
from daskae.validate.table_states import read_chunk, read_plain

Status = Literal["passed", "failed", "error", "skipped"]


@dataclass(frozen=True)
class DataSet:
    """What is known of the whole data set besides the states."""

    accepted: int
    today: date
    previous: int | None = None
    """Accepted rows of the last successful run over other data; None where there is none."""


@dataclass(frozen=True)
class Verdict:
    """How a rule went."""

    status: Status
    checked: int
    affected: int
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
    """What follows from the data and the rule alone."""
    observed: Mapping[str, Any] = field(default_factory=dict)
    """What depends on the clock or on earlier runs; never part of a table."""
    samples: Sequence[Sample] = ()


def judge(rule: Rule, state: RuleState, data: DataSet, samples: int) -> Verdict:
    """Judge a rule by the state of the whole data set.

    Parameters
    ----------
    rule : Rule
    state : RuleState
        Merged over all parts, with places counted in the whole input.
    data : DataSet
    samples : int
        How many rows are shown.
    """
    if state.error:
        details, observed = _inside(state.error)
        message = f"the rule itself failed for {state.errors:,} rows: {state.error}"
        return Verdict("error", state.checked, state.affected, message, details, observed, state.samples)
    if rule.is_table:
        return _TABLE_JUDGES[rule.kind](rule, state, data, samples)
    return _by_rows(rule, state.checked, state.affected, state.samples)


def _inside(error: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return details and observations of a failure inside: its text may tell how the input was cut, its type not."""
    return {"error": error.partition(":")[0]}, {"error": error}


def _by_rows(rule: Rule, checked: int, affected: int, samples: Sequence[Sample]) -> Verdict:
    share = f"{affected / checked:.4%}" if checked else "none"
    message = f"{affected:,} of {checked:,} rows break it ({share})" if affected else f"all {checked:,} rows satisfy it"
    status: Status = "passed" if rule.passed(affected, checked) else "failed"
    return Verdict(status, checked, affected, message, {}, {}, samples)


def _monotonic(rule: Rule, state: RuleState, data: DataSet, samples: int) -> Verdict:
    checked, affected, shown = settle(state.table or {"pieces": [], "samples": []}, rule.parameters, samples)
    return _by_rows(rule, checked, affected, shown)


def _freshness(rule: Rule, state: RuleState, data: DataSet, samples: int) -> Verdict:
    table = state.table or {"n": 0, "value": None}
    if table["value"] is None:
        return Verdict("failed", table["n"], 0, "there is no date to judge")
    newest = date.fromisoformat(table["value"][:10])
    by_clock = rule.bounds["as_of"] == TODAY
    day = data.today if by_clock else date.fromisoformat(rule.bounds["as_of"])
    age, most = (day - newest).days, rule.bounds["max_age_days"]
    status: Status = "passed" if age <= most else "failed"
    message = f"the newest date is {newest}, {'' if age <= most else 'not '}within {most} days of the day to judge by"
    details = {"newest": table["value"], **({} if by_clock else {"age_days": age})}
    return Verdict(status, table["n"], 0, message, details, {"age_days": age, "as_of": str(day)})


def _row_count(rule: Rule, state: RuleState, data: DataSet, samples: int) -> Verdict:
    rows, bounds = data.accepted, rule.bounds
    fits = bounds.get("min", 0) <= rows <= bounds.get("max", rows)
    relative = "min_ratio" in bounds or "max_ratio" in bounds
    observed: dict[str, Any] = {}
    if relative and data.previous is not None:
        observed = {"previous_rows": data.previous, "ratio": rows / data.previous if data.previous else None}
        least, most = (Fraction(repr(bounds.get(name, end))) for name, end in (("min_ratio", 0), ("max_ratio", 10**18)))
        fits = fits and least * data.previous <= rows <= most * data.previous
    if fits and relative and data.previous is None and not ("min" in bounds or "max" in bounds):
        return Verdict("skipped", rows, 0, f"{rows:,} rows accepted; there is no earlier run to compare with")
    message = f"{rows:,} rows accepted, {'within' if fits else 'outside'} the bounds"
    if not fits and observed:
        message += f"; {data.previous:,} in the last run"
    return Verdict("passed" if fits else "failed", rows, 0, message, {}, observed)


def _distribution(rule: Rule, state: RuleState, data: DataSet, samples: int) -> Verdict:
    table, statistic = state.table or {"n": 0}, rule.parameters["statistic"]
    value, details = None, {}
    if table["n"]:
        value = _STATISTICS[statistic](table, rule.parameters)
    if statistic == "quantile":
        details["relative_error"] = RELATIVE_ERROR
    if value is None:
        return Verdict("failed", table["n"], 0, "there is no value to judge", details)
    low, high = rule.bounds.get("min"), rule.bounds.get("max")
    fits = (low is None or value >= _bound(low)) and (high is None or value <= _bound(high))
    text = value if isinstance(value, str) else _number(value)
    message = f"the {_name(rule.parameters)} is {text}, {'within' if fits else 'outside'} the bounds"
    return Verdict("passed" if fits else "failed", table["n"], 0, message, {"observed": text, **details})


_STATISTICS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Any]] = {
    "min": lambda table, _: read_plain(table["value"]),
    "max": lambda table, _: read_plain(table["value"]),
    "mean": lambda table, _: Fraction(table["sum"]) / table["n"],
    "share": lambda table, _: Fraction(table["hits"], table["n"]),
    "quantile": lambda table, given: _quantile(table["sketch"], given["quantile"]),
}


def _quantile(sketch: dict[str, Any], quantile: float) -> Fraction | None:
    value = QuantileSketch.from_json(sketch).quantile(quantile)
    return None if value is None else Fraction(value)


def _name(parameters: Mapping[str, Any]) -> str:
    statistic: str = parameters["statistic"]
    if statistic == "quantile":
        return f"{parameters['quantile']:g} quantile"
    return f"share of {parameters['value']!r}" if statistic == "share" else statistic


def _bound(bound: Any) -> Any:
    return bound.isoformat() if isinstance(bound, date) else Fraction(bound)


def _number(value: Fraction) -> str:
    """Write a number with at most twelve digits that count."""
    text = f"{Decimal(value.numerator) / Decimal(value.denominator):.12g}"
    return f"{Decimal(text):f}" if abs(value) < 10**15 else text


def _table_function(rule: Rule, state: RuleState, data: DataSet, samples: int) -> Verdict:
    numbers = read_chunk(state.table or {})
    details = {name: value if isinstance(value, int) else str(value) for name, value in numbers.items()}
    try:
        answer = rule.verdict(numbers) if rule.verdict is not None else True
        passed, message = answer if isinstance(answer, tuple) else (answer, "")
        if not isinstance(passed, bool) and type(passed).__name__ != "bool_":
            raise TypeError(f"a verdict is true or false, or that and a message, not {type(passed).__name__}")
    except Exception as failure:
        text = error_text(failure)
        inside, observed = _inside(text)
        return Verdict("error", state.checked, 0, f"the rule itself failed: {text}", {**inside, **details}, observed)
    text = str(message) or ", ".join(f"{name} {value}" for name, value in details.items())
    return Verdict("passed" if passed else "failed", state.checked, 0, text, details)


_TABLE_JUDGES: Mapping[str, Callable[[Rule, RuleState, DataSet, int], Verdict]] = {
    "monotonic": _monotonic,
    "freshness": _freshness,
    "row_count": _row_count,
    "distribution": _distribution,
    TABLE_FUNCTION: _table_function,
}
