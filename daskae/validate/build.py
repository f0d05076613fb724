"""From settings and Python to rules that are ready to run; what is wrong is said before anything runs."""

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import date

import polars as pl

from daskae.config import OnFailure, RuleSettings, ValidationSettings
from daskae.errors import SettingsError
from daskae.schema import Contract
from daskae.validate.columns import Columns
from daskae.validate.custom import CustomRule, build_custom, default_severity
from daskae.validate.row_builders import ROW_BUILDERS
from daskae.validate.rules import ALL_COLUMNS, RESERVED, TABLE_KINDS, Rule
from daskae.validate.table_builders import build_table_parts

_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "completeness": ("column", "min_share"),
    "not_null": ("column",),
    "range": ("column", "min", "max"),
    "allowed_values": ("column", "values"),
    "pattern": ("column", "pattern"),
    "type": ("column", "dtype", "format"),
    "length": ("column", "min", "max"),
    "expression": ("expression",),
    "reference": ("column", "source", "source_column", "table"),
    "unique": ("column", "columns"),
    "monotonic": ("column", "direction", "strict"),
    "freshness": ("column", "max_age_days", "as_of"),
    "row_count": ("min", "max", "min_ratio", "max_ratio"),
    "distribution": ("column", "statistic", "quantile", "value", "min", "max"),
}
_OF_EVERY_RULE = {"rule", "name", "description", "enabled", "tags", "on_failure", "severity", "max_rows", "max_share"}
_COUNTS_NO_ROWS = ("freshness", "row_count", "distribution")


def build_rules(
    settings: Sequence[RuleSettings],
    contract: Contract,
    available: Sequence[str],
    custom: Sequence[CustomRule] = (),
    as_of: date | None = None,
) -> tuple[Rule, ...]:
    """Check and build all enabled rules, those of the settings first.

    Raises
    ------
    SettingsError
        For an unknown kind, column or parameter, a pattern that does not compile, a range that nothing can satisfy, or
        two rules of one name.
    """
    columns = Columns(contract, tuple(available))
    rules = [_build(item, i, columns, as_of) for i, item in enumerate(settings) if item.enabled]
    rules += [build_custom(item, columns) for item in custom if item.enabled]
    names = [rule.name for rule in rules]
    for i, name in enumerate(names):
        if name in names[:i] or name in RESERVED:
            raise SettingsError("a rule's name is taken", f"rules[{i}].name", name, "names are unique")
    return tuple(rules)


def select_rules(rules: Sequence[Rule], settings: ValidationSettings) -> tuple[Rule, ...]:
    """Return the rules that the settings' tags ask for.

    Raises
    ------
    SettingsError
        For a tag that no rule has.
    """
    known = sorted({tag for rule in rules for tag in rule.tags})
    for key, tags in (("tags", settings.tags), ("exclude_tags", settings.exclude_tags)):
        for tag in tags:
            if tag not in known:
                near = difflib.get_close_matches(tag, known, 1)
                raise SettingsError(
                    "no rule has this tag", f"validation.{key}", repr(tag), ", ".join(known) or "no rule has a tag",
                    f"did you mean {near[0]!r}?" if near else "",
                )  # fmt: skip
    wanted, unwanted = set(settings.tags), set(settings.exclude_tags)
    return tuple(
        rule for rule in rules if (not wanted or wanted & set(rule.tags)) and not unwanted & set(rule.tags)
    )  # fmt: skip


def _build(item: RuleSettings, index: int, columns: Columns, as_of: date | None) -> Rule:
    where = f"rules[{index}]" + (f" ({item.name})" if item.name else "")
    if item.rule not in _PARAMETERS:
        raise SettingsError("unknown kind of rule", f"{where}.rule", repr(item.rule), ", ".join(_PARAMETERS))
    _check_parameters(item, where)
    on_failure = item.on_failure or _usual_failure(item.rule)
    severity = item.severity or default_severity(on_failure)
    if item.rule in TABLE_KINDS:
        return _table_rule(item, columns, where, on_failure, severity, as_of)
    if item.rule == "unique":
        names, breaks, parameters = _unique_columns(item, where, columns), None, None
    else:
        parts = ROW_BUILDERS[item.rule](item, columns, where)
        names, breaks, parameters = parts.columns, parts.breaks, parts.parameters
    return Rule(
        _name(item, names), item.rule, on_failure, severity, names, breaks, item.max_rows, item.max_share,
        item.description, tuple(item.tags), item.min_share, parameters or {},
    )  # fmt: skip


def _usual_failure(kind: str) -> OnFailure:
    return "block_run" if kind == "completeness" or kind in TABLE_KINDS else "reject_row"


def _name(item: RuleSettings, columns: Sequence[str]) -> str:
    """Return the name given, or one made of the kind and the columns."""
    names = ["all"] if columns == (ALL_COLUMNS,) else list(columns)
    return item.name or "_".join([item.rule, *names, *([item.statistic] if item.statistic else [])])


def _table_rule(
    item: RuleSettings, columns: Columns, where: str, on_failure: OnFailure, severity: str, as_of: date | None
) -> Rule:
    if on_failure == "reject_row":
        raise SettingsError(
            f"a {item.rule} rule rejects no row", f"{where}.on_failure", on_failure, "warn, info, block_run"
        )
    if item.rule in _COUNTS_NO_ROWS and (item.max_rows is not None or item.max_share is not None):
        raise SettingsError(
            f"a {item.rule} rule has no threshold by rows", where, allowed="neither max_rows nor max_share"
        )
    parts = build_table_parts(item, columns, where, as_of)
    return Rule(
        _name(item, parts.columns), item.rule, on_failure, severity, parts.columns, None, item.max_rows, item.max_share,
        item.description, tuple(item.tags), None, parts.parameters, parts.bounds,
    )  # fmt: skip


def _check_parameters(item: RuleSettings, where: str) -> None:
    """Refuse parameters that the kind of rule does not take."""
    for name in RuleSettings.model_fields:
        if name in _OF_EVERY_RULE or getattr(item, name) is None or name in _PARAMETERS[item.rule]:
            continue
        raise SettingsError(
            f"rule {item.rule} takes no {name}", f"{where}.{name}", allowed=", ".join(_PARAMETERS[item.rule])
        )


def _unique_columns(item: RuleSettings, where: str, columns: Columns) -> tuple[str, ...]:
    names = [item.column] if item.column is not None else item.columns
    if names is None or names == []:
        raise SettingsError("rule unique needs column or columns", where, allowed='columns = "*" for whole rows')
    if names == ALL_COLUMNS:
        return (ALL_COLUMNS,)
    for name in names:
        columns.dtype(name, where)
    return tuple(names)


def require_boolean(rules: Sequence[Rule], sample: pl.DataFrame) -> None:
    """Try every expression on an empty table of the right types, so that a wrong one fails before the run.

    Raises
    ------
    SettingsError
        If an expression does not fit the columns' types, is not a condition, or not an aggregate where it must be.
    """
    for rule in rules:
        try:
            if rule.breaks is not None:
                _require_condition(rule, rule.breaks, sample)
            for name, chunk in rule.chunk.items():
                if sample.clear(2).select(chunk.alias("x")).height != 1:
                    raise SettingsError("a table rule's chunk is not one number", rule.name, name, "an aggregate")
        except pl.exceptions.PolarsError as error:
            text = re.sub(r"\s+", " ", str(error))[:200]
            raise SettingsError("a rule does not fit its columns", rule.name, hint=text) from None


def _require_condition(rule: Rule, breaks: pl.Expr, sample: pl.DataFrame) -> None:
    dtype = sample.lazy().select(breaks.alias("x")).collect_schema()["x"]
    sample.select(breaks.alias("x"))
    if dtype != pl.Boolean:
        raise SettingsError("a rule's expression is not a condition", rule.name, str(dtype), "true or false")
