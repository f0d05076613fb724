"""Expectation suites of Great Expectations, which are JSON: the form of 0.x as well as that of 1.x."""

from collections.abc import Mapping
from typing import Any

from daskae.config import ColumnType, OnFailure
from daskae.errors import SettingsError
from daskae.interop.expectations import EXPECTATIONS, Arguments, Expectation, format_of, types_of
from daskae.interop.records import Check, NotExpressibleError, Suite
from daskae.interop.values import share_of

TOOL = "great_expectations"
_TYPE_KINDS = ("expect_column_values_to_be_of_type", "expect_column_values_to_be_in_type_list")
_STRFTIME = "expect_column_values_to_match_strftime_format"
_COLUMN_SETS = ("expect_table_columns_to_match_set", "expect_table_columns_to_match_ordered_list")
_OF_THE_TOOL = frozenset({"batch_id", "result_format", "include_config", "catch_exceptions", "auto", "profiler_config"})
"""Arguments that say how the tool runs, and nothing of the data."""
_SEVERITIES: Mapping[str, tuple[str, OnFailure]] = {
    "critical": ("error", "warn"), "warning": ("warning", "warn"), "info": ("info", "info")
}  # fmt: skip


def read_suite(document: Mapping[str, Any], where: str) -> Suite:
    """Find the checks of a suite, as JSON gives it.

    No row is dropped there, so every rule is a warning; a severity of ``info`` stays one.

    Raises
    ------
    SettingsError
        If the document is no suite.
    """
    expectations = document.get("expectations")
    if not isinstance(expectations, list) or not all(isinstance(item, Mapping) for item in expectations):
        raise SettingsError("not a suite of Great Expectations", where, allowed='a JSON object with "expectations"')
    suite = Suite(TOOL)
    items = [(_kind(item), item.get("kwargs") or {}, item) for item in expectations]
    for kind, given, _ in items:
        _name_columns(kind, given, suite)
    for kind, given, item in items:
        if kind in _COLUMN_SETS:
            _read_column_set(kind, given, suite)
        else:
            _read_expectation(kind, given, item, suite)
    return suite


def _kind(item: Mapping[str, Any]) -> str:
    kind = str(item.get("expectation_type") or item.get("type") or "")
    return kind.replace("_A_to_", "_a_to_").replace("_than_B", "_than_b")


def _name_columns(kind: str, given: Arguments, suite: Suite) -> None:
    """Learn the columns and their types before any check is read, as one may depend on another's."""
    found = EXPECTATIONS.get(kind)
    for column in _columns(found, given) if found is not None else ():
        suite.name(column)
        try:
            if kind in _TYPE_KINDS:
                suite.name(column, types_of(given))
            elif kind == _STRFTIME:
                suite.formats.setdefault(column, format_of(given))
        except NotExpressibleError:
            continue  # said when the expectation itself is read


def _columns(found: Expectation, given: Arguments) -> tuple[str, ...]:
    names: list[str] = []
    for key in found.columns:
        value = given.get(key)
        names += value if isinstance(value, list) else [value] if value is not None else []
    return tuple(str(name) for name in names)


def _read_expectation(kind: str, given: Arguments, item: Mapping[str, Any], suite: Suite) -> None:
    found = EXPECTATIONS.get(kind)
    origin = _origin(kind, given)
    try:
        if found is None:
            raise NotExpressibleError("no rule says this" if kind else "it has no type")
        columns = _columns(found, given)
        if len(columns) < len(found.columns):
            raise NotExpressibleError(f"it does not name its {' and '.join(found.columns)}")
        _require_understood(found, given)
        share = share_of(given.get("mostly", 1))
        if share is not None and not found.by_row:
            raise NotExpressibleError("mostly counts rows otherwise than a rule would")
        meanings = found.read(given, _common_type(columns, suite))
    except NotExpressibleError as error:
        suite.skip(origin, str(error))
        return
    severity, on_failure = _SEVERITIES.get(str(item.get("severity", "")).lower(), (None, "warn"))
    for meaning, need, arguments in meanings:
        name = "" if meaning == "exists" or len(meanings) > 1 else _short_name(kind, columns)
        suite.checks.append(
            Check(meaning, origin, columns, need, arguments, name, _notes(item), on_failure, severity, share)  # type: ignore[arg-type]
        )
    _note_differences(kind, share, suite)


def _common_type(columns: tuple[str, ...], suite: Suite) -> ColumnType | None:
    types = {suite.types.get(column) for column in columns}
    return types.pop() if len(types) == 1 else next((item for item in types if item in ("float", "decimal")), None)


def _require_understood(found: Expectation, given: Arguments) -> None:
    """Refuse an expectation with an argument that would be passed over."""
    known = {*found.keys, *found.columns, "mostly", *_OF_THE_TOOL}
    for key, value in given.items():
        if isinstance(value, Mapping) and any(str(name).startswith("$") for name in value):
            raise NotExpressibleError(f"{key} is a parameter that has its value at run time only")
        if key not in known and value not in (None, False, [], {}):
            why = "it looks at some rows only" if key == "row_condition" else f"its argument {key} is not known here"
            raise NotExpressibleError(why)


def _note_differences(kind: str, share: float | None, suite: Suite) -> None:
    if share is not None and kind not in ("expect_column_values_to_not_be_null", "expect_column_values_to_be_null"):
        suite.note("mostly is a share of the rows with a value there; max_share is one of all rows")
    if "unique" in kind:
        suite.note("of equal rows Great Expectations counts all, a unique rule all but the first")
    if "quantile" in kind or "median" in kind:
        suite.note("quantiles and medians here are within half a per cent of the exact value")


def _read_column_set(kind: str, given: Arguments, suite: Suite) -> None:
    """Take that columns exist; that there are no others, or in which order, is no rule."""
    names = given.get("column_set") or given.get("column_list") or []
    for name in names:
        suite.name(str(name))
        suite.checks.append(Check("exists", f"{kind}: {name}", (str(name),)))
    if not names:
        suite.skip(_origin(kind, given), "it names no columns")
    elif kind.endswith("list"):
        suite.skip(_origin(kind, given), "only that the columns exist is imported; their order is no rule")
    elif given.get("exact_match", True) is not False:
        suite.skip(_origin(kind, given), "only that the columns exist is imported; further columns break no rule")


def _short_name(kind: str, columns: tuple[str, ...]) -> str:
    for start in ("expect_column_pair_values_", "expect_column_values_", "expect_column_", "expect_"):
        if kind.startswith(start):
            return "_".join([*columns, kind.removeprefix(start)])
    return kind


def _origin(kind: str, given: Arguments) -> str:
    shown = ", ".join(f"{key}={value!r}" for key, value in given.items() if key not in _OF_THE_TOOL)
    return f"{kind or 'expectation'}({shown})"[:200]


def _notes(item: Mapping[str, Any]) -> str:
    """Return what a person wrote about an expectation, in any of the places where it can stand."""
    meta = item.get("meta")
    for notes in (item.get("description"), item.get("notes"), meta.get("notes") if isinstance(meta, Mapping) else None):
        content = notes.get("content") if isinstance(notes, Mapping) else notes
        if content:
            return " ".join(map(str, content)) if isinstance(content, list) else str(content)
    return ""
