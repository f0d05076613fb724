"""Rules as records: what a row, or the whole data set, must satisfy.

A *row rule* is a boolean expression that is true where a row breaks it; it is evaluated in the pass that reads the
data. A
*unique rule* is global: every row that passed all row rules takes part, the first in input order is kept. A null
neither
breaks a row rule (except ``not_null`` and ``completeness``) nor takes part in a unique rule, as in SQL.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

import polars as pl

from daskae.config import OnFailure, RuleSettings
from daskae.errors import SettingsError
from daskae.schema import Contract, sql_expression

ALL_COLUMNS = "*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
EMAIL = rf"^[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})+$"
"""What ``pattern = "email"`` stands for: the form that browsers accept, with a domain of two labels at least."""


@dataclass(frozen=True)
class Rule:
    """One rule, ready to run."""

    name: str
    kind: str
    on_failure: OnFailure
    severity: str
    columns: tuple[str, ...]
    """Columns it looks at; ``("*",)`` for all of the source."""
    breaks: pl.Expr | None = None
    """For row rules: true where a row breaks it."""
    max_rows: int | None = None
    max_share: float | None = None
    description: str = ""
    tags: tuple[str, ...] = ()

    @property
    def is_global(self) -> bool:
        """Whether it needs all rows at once."""
        return self.breaks is None

    @property
    def rejects(self) -> bool:
        """Whether a row that breaks it is rejected."""
        return self.on_failure == "reject_row"

    @property
    def definition(self) -> str:
        """Everything that decides which rows break it, as text; part of the fingerprint."""
        expression = "" if self.breaks is None else self.breaks.meta.serialize(format="json")
        return "|".join([self.name, self.kind, self.on_failure, ",".join(self.columns), expression])

    def passed(self, affected: int, checked: int) -> bool:
        """Decide over the whole data set: within the thresholds, or no row at all where none is set."""
        if self.max_rows is None and self.max_share is None:
            return affected == 0
        share_ok = self.max_share is None or affected <= self.max_share * checked
        return share_ok and (self.max_rows is None or affected <= self.max_rows)


@dataclass(frozen=True)
class _Columns:
    """What a rule may refer to: contract columns with their types, else source columns as text."""

    contract: Contract
    available: tuple[str, ...]

    def dtype(self, name: str, where: str) -> str:
        """Return a column's type, or fail naming the nearest."""
        for column in self.contract.columns:
            if column.name == name:
                return column.dtype
        if name in self.available:
            return "text"
        raise SettingsError(
            "a rule names an unknown column", where, repr(name), ", ".join([*self.contract.names, *self.available])
        )


def build_rules(settings: Sequence[RuleSettings], contract: Contract, available: Sequence[str]) -> tuple[Rule, ...]:
    """Check and build all enabled rules.

    Raises
    ------
    SettingsError
        For an unknown kind, column or parameter, a pattern that does not compile, a range that nothing can satisfy, or
        two rules of one name.
    """
    columns = _Columns(contract, tuple(available))
    rules = [_build(item, i, columns) for i, item in enumerate(settings) if item.enabled]
    names = [rule.name for rule in rules]
    for i, name in enumerate(names):
        if name in names[:i] or name in RESERVED:
            raise SettingsError("a rule's name is taken", f"rules[{i}].name", name, "names are unique")
    return tuple(rules)


RESERVED = (
    "wrong_field_count",
    "malformed_quoting",
    "invalid_encoding",
    "repeated_header",
    "missing_customer_id",
    "unparsable_date",
    "unparsable_number",
)
"""Reasons of the reader and the contract; always tried first, in this order."""

_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "completeness": ("column",),
    "not_null": ("column",),
    "range": ("column", "min", "max"),
    "allowed_values": ("column", "values"),
    "pattern": ("column", "pattern"),
    "expression": ("expression",),
    "unique": ("column", "columns"),
}


def _build(item: RuleSettings, index: int, columns: _Columns) -> Rule:
    where = f"rules[{index}]" + (f" ({item.name})" if item.name else "")
    if item.rule not in _PARAMETERS:
        raise SettingsError("unknown kind of rule", f"{where}.rule", repr(item.rule), ", ".join(_PARAMETERS))
    _check_parameters(item, where)
    if item.rule == "unique":
        names, breaks = _unique_columns(item, where, columns), None
    else:
        breaks = _BUILDERS[item.rule](item, columns, where)
        names = tuple(dict.fromkeys(breaks.meta.root_names()))
    on_failure = item.on_failure or ("block_run" if item.rule == "completeness" else "reject_row")
    if item.rule == "unique" and on_failure != "reject_row":
        raise SettingsError("a unique rule can only reject rows", f"{where}.on_failure", on_failure, "reject_row")
    name = item.name or "_".join([item.rule, *(["all"] if names == (ALL_COLUMNS,) else names)])
    severity = item.severity or {"warn": "warning", "info": "info"}.get(on_failure, "error")
    return Rule(
        name, item.rule, on_failure, severity, names, breaks, item.max_rows, item.max_share, item.description,
        tuple(item.tags),
    )  # fmt: skip


def _check_parameters(item: RuleSettings, where: str) -> None:
    """Refuse parameters that the kind of rule does not take."""
    for name in ("column", "columns", "min", "max", "values", "pattern", "expression"):
        if getattr(item, name) is not None and name not in _PARAMETERS[item.rule]:
            raise SettingsError(
                f"rule {item.rule} takes no {name}", f"{where}.{name}", allowed=", ".join(_PARAMETERS[item.rule])
            )


def _need(item: RuleSettings, name: str, where: str) -> str:
    value = getattr(item, name)
    if value is None:
        raise SettingsError(f"rule {item.rule} needs {name}", where, allowed=", ".join(_PARAMETERS[item.rule]))
    return str(value)


def _unique_columns(item: RuleSettings, where: str, columns: _Columns) -> tuple[str, ...]:
    names = [item.column] if item.column is not None else item.columns
    if names is None or names == []:
        raise SettingsError("rule unique needs column or columns", where, allowed='columns = "*" for whole rows')
    if names == ALL_COLUMNS:
        return (ALL_COLUMNS,)
    for name in names:
        columns.dtype(name, where)
    return tuple(names)


def _not_null(item: RuleSettings, columns: _Columns, where: str) -> pl.Expr:
    name = _need(item, "column", where)
    if columns.dtype(name, where) == "text":
        return (pl.col(name).str.strip_chars() == "").fill_null(True)
    return pl.col(name).is_null()


def _range(item: RuleSettings, columns: _Columns, where: str) -> pl.Expr:
    name = _need(item, "column", where)
    dtype = columns.dtype(name, where)
    if item.min is None and item.max is None:
        raise SettingsError("rule range needs min or max", where)
    low, high = (None if bound is None else _bound(bound, dtype, where) for bound in (item.min, item.max))
    if low is not None and high is not None and low > high:  # type: ignore[operator]
        raise SettingsError("no value can be in this range", where, f"min {item.min}, max {item.max}", "min <= max")
    below = pl.lit(False) if low is None else pl.col(name) < pl.lit(low)
    above = pl.lit(False) if high is None else pl.col(name) > pl.lit(high)
    return below | above


def _bound(value: float | int | str | date, dtype: str, where: str) -> Decimal | float | datetime | date:
    """Read a bound of a range as the column's type."""
    try:
        if dtype in ("decimal", "integer", "float"):
            number = Decimal(str(value))
            if not number.is_finite():
                raise ValueError(value)
            return float(number) if dtype == "float" else number
        if dtype in ("datetime", "date"):
            moment = datetime.fromisoformat(str(value))
            if moment.tzinfo is not None:
                raise ValueError(value)
            return moment if dtype == "datetime" else moment.date()
    except (ValueError, InvalidOperation):
        raise SettingsError("a bound is not of the column's type", where, repr(value), dtype) from None
    raise SettingsError(
        "rule range needs a number or date column", where, dtype, hint="give the column a dtype in [columns]"
    )


def _allowed_values(item: RuleSettings, columns: _Columns, where: str) -> pl.Expr:
    name = _need(item, "column", where)
    dtype = columns.dtype(name, where)
    if not item.values:
        raise SettingsError("rule allowed_values needs values", where)
    if dtype == "text":
        return ~pl.col(name).is_in([str(value) for value in item.values])
    if dtype in ("datetime", "date", "boolean"):
        raise SettingsError("rule allowed_values needs a text or number column", where, dtype)
    bounds = [_bound(value, dtype, where) for value in item.values]
    return pl.all_horizontal([pl.col(name) != pl.lit(bound) for bound in bounds])


def _pattern(item: RuleSettings, columns: _Columns, where: str) -> pl.Expr:
    name, pattern = _need(item, "column", where), _need(item, "pattern", where)
    if columns.dtype(name, where) != "text":
        raise SettingsError("rule pattern needs a text column", where, columns.dtype(name, where))
    pattern = EMAIL if pattern == "email" else pattern
    try:  # Polars' own engine decides; it is linear in the text, so no pattern can hang a run.
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise SettingsError(
            "a pattern is not usable", f"{where}.pattern", pattern, hint=str(error).splitlines()[0]
        ) from None
    return ~pl.col(name).str.contains(pattern)


def _expression(item: RuleSettings, columns: _Columns, where: str) -> pl.Expr:
    expression = sql_expression(_need(item, "expression", where), f"{where}.expression")
    for name in expression.meta.root_names():
        columns.dtype(name, where)
    return ~expression


_BUILDERS: Mapping[str, Callable[[RuleSettings, _Columns, str], pl.Expr]] = {
    "completeness": _not_null,
    "not_null": _not_null,
    "range": _range,
    "allowed_values": _allowed_values,
    "pattern": _pattern,
    "expression": _expression,
}


def require_boolean(rules: Sequence[Rule], sample: pl.DataFrame) -> None:
    """Try every row rule on an empty table of the right types, so that a wrong one fails before the run.

    Raises
    ------
    SettingsError
        If an expression does not fit the columns' types or is not a condition.
    """
    for rule in rules:
        if rule.breaks is None:
            continue
        try:
            dtype = sample.lazy().select(rule.breaks.alias("x")).collect_schema()["x"]
            sample.select(rule.breaks.alias("x"))
        except pl.exceptions.PolarsError as error:
            text = re.sub(r"\s+", " ", str(error))[:200]
            raise SettingsError("a rule does not fit its columns", rule.name, hint=text) from None
        if dtype != pl.Boolean:
            raise SettingsError("a rule's expression is not a condition", rule.name, str(dtype), "true or false")
