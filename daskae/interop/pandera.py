"""Pandera schemas. They are taken as the objects they are, so this works with every version that has these names."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from daskae.config import ColumnType, OnFailure
from daskae.interop.patterns import escaped, rust_pattern
from daskae.interop.records import Check, Need, NotExpressibleError, Suite
from daskae.interop.values import need_of, plain_value, type_named, whole_bounds

TOOL = "pandera"
_Statistics = Mapping[str, Any]


def read_schema(schema: Any) -> Suite:
    """Find the checks of a ``DataFrameSchema`` or ``DataFrameModel``, of pandas or Polars.

    What pandera raises for stops the publish here, what it warns of is a warning, and with ``drop_invalid_rows`` the
    row is rejected.
    """
    schema = schema.to_schema() if hasattr(schema, "to_schema") else schema
    suite = Suite(TOOL)
    usual: OnFailure = "reject_row" if getattr(schema, "drop_invalid_rows", False) else "block_run"
    for name, column in schema.columns.items():
        _read_column(str(name), column, suite, usual, _is_polars(schema))
    _read_table(schema, suite, usual)
    return suite


def _is_polars(schema: Any) -> bool:
    return type(schema).__module__.startswith("pandera.api.polars")


def _read_column(name: str, column: Any, suite: Suite, usual: OnFailure, is_polars: bool) -> None:
    if getattr(column, "regex", False):
        suite.skip(f"column {name}", "its name is a pattern, and a rule is for one column")
        return
    stated = None if column.dtype is None else str(column.dtype)
    dtype = type_named(stated) if stated is not None else None
    suite.name(name, dtype)
    found = _Found(name, dtype, suite, usual)
    if not column.required:
        suite.note(f"column {name} may be absent there; here every source must have it")
    if stated is not None and dtype is None:
        suite.skip(f"{name}: dtype {stated}", "no type here is like it")
    _read_type(found, column.dtype, stated)
    if not column.nullable:
        found.add("not_null", "nullable=False")
    if column.unique:
        _read_unique(found, column.nullable)
    for option in ("parsers", "default"):
        if _is_set(getattr(column, option, None)):
            suite.skip(f"{name}: {option}", "it changes the data, which is what steps do")
    for check in column.checks or []:
        _read_check(check, found, column.nullable, is_polars)


class _Found:
    """Adds the checks of one column to the suite."""

    def __init__(self, name: str, dtype: ColumnType | None, suite: Suite, usual: OnFailure) -> None:
        self.name, self.dtype, self.suite, self.usual = name, dtype, suite, usual

    def add(self, kind: str, origin: str, need: Need = "any", **arguments: Any) -> None:
        """Add one check."""
        check = Check(kind, f"{self.name}: {origin}", (self.name,), need, arguments, on_failure=self.usual)
        self.suite.checks.append(check)


def _read_type(found: _Found, dtype: Any, stated: str | None) -> None:
    if found.dtype is None or stated is None:
        return
    if found.dtype != "text":
        found.add("type", f"dtype {stated}", "text", dtype=found.dtype)
    low, high = whole_bounds(stated)
    if low is not None:
        found.add("between", f"dtype {stated}", "number", min=low, max=high)
    categories = getattr(dtype, "categories", None)
    if categories is not None and len(categories):
        found.add("values", "its categories", "text", values=[plain_value(value) for value in categories])


def _read_unique(found: _Found, nullable: bool) -> None:
    found.add("unique", "unique=True", "stated")
    found.suite.note("of equal rows pandera reports all, a unique rule counts all but the first")
    if nullable:
        found.suite.note("two nulls repeat each other for pandera; in a unique rule nulls take no part")


def _read_check(check: Any, found: _Found, nullable: bool, is_polars: bool) -> None:
    known = getattr(check, "registry_name", None) or check.name
    origin = f"{found.name}: {check.error or check.name}"
    try:
        if check.groupby is not None:
            raise NotExpressibleError("it looks at groups of rows")
        if known not in _CHECKS or not check.statistics:
            raise NotExpressibleError("it is a function in Python; write it as a row rule or an expression")
        kind, arguments = _CHECKS[known](check.statistics, is_polars)
        values = arguments.get("values") or [arguments.get("min"), arguments.get("max")]
        need: Need = "text" if kind in ("matches", "length") else need_of(found.dtype, values)
    except NotExpressibleError as error:
        found.suite.skip(origin, str(error))
        return
    on_failure: OnFailure = "warn" if check.raise_warning else found.usual
    name = "" if check.name == known else f"{found.name}_{check.name}"
    text = " ".join(filter(None, (check.title, check.description)))
    made = Check(kind, origin, (found.name,), need, arguments, name, text, on_failure)
    found.suite.checks.append(made)
    if known == "unique_values_eq":
        found.suite.skip(origin, "only the part that no other value occurs is imported, not that each of them does")
    if not check.ignore_na and nullable and (is_polars or known not in ("not_equal_to", "notin")):
        null = Check("not_null", f"{origin}, ignore_na=False", (found.name,), on_failure=on_failure)
        found.suite.checks.append(null)


def _read_table(schema: Any, suite: Suite, usual: OnFailure) -> None:
    """Find what a schema says of the whole table."""
    unique = schema.unique if isinstance(schema.unique, (list, tuple)) else [schema.unique] if schema.unique else []
    if unique:
        origin = f"unique={list(unique)}"
        suite.checks.append(Check("unique", origin, tuple(map(str, unique)), "stated", on_failure=usual))
        suite.note("of equal rows pandera reports all, a unique rule counts all but the first")
        if any(schema.columns[name].nullable for name in unique if name in schema.columns):
            suite.note("two nulls repeat each other for pandera; in a unique rule nulls take no part")
    for check in schema.checks or []:
        suite.skip(
            f"schema: {check.error or check.name}", "a check of the whole table; write it as an expression or in Python"
        )
    reasons = {
        "strict": "that there are no further columns is no rule; what no rule or metric uses is not read",
        "ordered": "the order of columns is no rule; columns are found by their names",
        "unique_column_names": "a source with two columns of one name is refused anyway",
        "add_missing_columns": "it changes the data, which is what steps do",
        "parsers": "it changes the data, which is what steps do",
        "index": "order files have no index",
        "dtype": "one type for all columns is not read; give it to each column",
    }
    for option, reason in reasons.items():
        if _is_set(getattr(schema, option, None)):
            suite.skip(f"schema: {option}", reason)


def _is_set(option: Any) -> bool:
    return not (option is None or option is False or (isinstance(option, (list, tuple)) and not option))


def _bounds(**ends: Any) -> tuple[str, dict[str, Any]]:
    plain = {name: value if isinstance(value, bool) else plain_value(value) for name, value in ends.items()}
    return "between", plain


def _in_range(given: _Statistics, is_polars: bool) -> tuple[str, dict[str, Any]]:
    return _bounds(
        min=given["min_value"], max=given["max_value"], strict_min=not given.get("include_min", True),
        strict_max=not given.get("include_max", True),
    )  # fmt: skip


def _listed(values: Any) -> dict[str, Any]:
    return {"values": [plain_value(value) for value in values]}


def _sorted_list(values: Any) -> dict[str, Any]:
    """List values that come without an order in one that does not change."""
    return {"values": sorted((plain_value(value) for value in values), key=lambda value: (str(type(value)), value))}


def _matches(given: _Statistics, is_polars: bool) -> tuple[str, dict[str, Any]]:
    pattern = given["pattern"]
    if is_polars:  # which runs the same engine, and puts no group around the pattern
        text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
        return "matches", {"pattern": text if text.startswith("^") else f"^{text}"}
    return "matches", {"pattern": rf"\A(?:{rust_pattern(pattern)})"}


def _contains(given: _Statistics, is_polars: bool) -> tuple[str, dict[str, Any]]:
    pattern = given["pattern"]
    if is_polars:
        return "matches", {"pattern": pattern.pattern if isinstance(pattern, re.Pattern) else pattern}
    return "matches", {"pattern": rust_pattern(pattern)}


def _length(given: _Statistics, is_polars: bool) -> tuple[str, dict[str, Any]]:
    exact = given.get("exact_value")
    low, high = (exact, exact) if exact is not None else (given.get("min_value"), given.get("max_value"))
    return "length", {"min": low, "max": high}


_CHECKS: Mapping[str, Callable[[_Statistics, bool], tuple[str, dict[str, Any]]]] = {
    "equal_to": lambda given, _: ("values", _listed([given["value"]])),
    "not_equal_to": lambda given, _: ("not_values", _listed([given["value"]])),
    "greater_than": lambda given, _: _bounds(min=given["min_value"], strict_min=True),
    "greater_than_or_equal_to": lambda given, _: _bounds(min=given["min_value"]),
    "less_than": lambda given, _: _bounds(max=given["max_value"], strict_max=True),
    "less_than_or_equal_to": lambda given, _: _bounds(max=given["max_value"]),
    "in_range": _in_range,
    "isin": lambda given, _: ("values", _listed(given["allowed_values"])),
    "notin": lambda given, _: ("not_values", _listed(given["forbidden_values"])),
    "unique_values_eq": lambda given, _: ("values", _sorted_list(given["values"])),
    "str_matches": _matches,
    "str_contains": _contains,
    "str_startswith": lambda given, _: ("matches", {"pattern": rf"\A{escaped(given['string'])}"}),
    "str_endswith": lambda given, _: ("matches", {"pattern": rf"{escaped(given['string'])}\z"}),
    "str_length": _length,
}
