"""What each expectation of Great Expectations says, in neutral terms."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daskae.config import ColumnType
from daskae.interop.patterns import rust_pattern
from daskae.interop.records import NotExpressibleError
from daskae.interop.values import need_of, plain_value, type_named

Arguments = Mapping[str, Any]
Meaning = tuple[str, str, dict[str, Any]]
"""Kind, need and arguments of a check."""


@dataclass(frozen=True)
class Expectation:
    """How one expectation is read."""

    keys: tuple[str, ...]
    """Arguments that are understood, beside the columns and ``mostly``."""
    read: Callable[[Arguments, ColumnType | None], list[Meaning]]
    columns: tuple[str, ...] = ("column",)
    """Arguments that name columns."""
    by_row: bool = True
    """Whether ``mostly`` may say how many rows must hold it."""


def _need_of(values: Sequence[Any], dtype: ColumnType | None) -> str:
    return need_of(dtype, list(values), iso_dates=True)


def _between(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    ends = _ends(given)
    return [("between", _need_of([ends["min"], ends["max"]], dtype), ends)]


def _ends(given: Arguments) -> dict[str, Any]:
    return {
        "min": plain_value(given.get("min_value")), "max": plain_value(given.get("max_value")),
        "strict_min": bool(given.get("strict_min")), "strict_max": bool(given.get("strict_max")),
    }  # fmt: skip


def _values(kind: str) -> Callable[[Arguments, ColumnType | None], list[Meaning]]:
    def read(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
        values = given.get("value_set")
        if not isinstance(values, list):
            raise NotExpressibleError("its value_set is no list")
        plain = [plain_value(value) for value in values]
        return [(kind, _need_of(plain, dtype), {"values": plain})]

    return read


def _regex(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    return [("matches", "text", {"pattern": rust_pattern(_text(given, "regex"))})]


def _not_regex(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    return [("matches_none", "text", {"patterns": [rust_pattern(_text(given, "regex"))]})]


def _regex_list(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    patterns = _patterns(given)
    match_on = given.get("match_on") or "any"
    if match_on == "all":
        return [("matches_all", "text", {"patterns": patterns})]
    if match_on != "any":
        raise NotExpressibleError(f"match_on is {match_on!r}")
    return [("matches", "text", {"pattern": "|".join(f"(?:{pattern})" for pattern in patterns)})]


def _not_regex_list(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    return [("matches_none", "text", {"patterns": _patterns(given)})]


def _patterns(given: Arguments) -> list[str]:
    patterns = given.get("regex_list")
    if not isinstance(patterns, list) or not patterns:
        raise NotExpressibleError("its regex_list is no list of patterns")
    return [rust_pattern(pattern) for pattern in patterns]


def _text(given: Arguments, key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise NotExpressibleError(f"its {key} is no text")
    return value


def _lengths(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    return [("length", "text", _ends(given))]


def _length(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    return [("length", "text", {"min": given.get("value"), "max": given.get("value")})]


def _rows(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    return [("row_count", "any", _ends(given))]


def _row_number(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    return [("row_count", "any", {"min": given.get("value"), "max": given.get("value")})]


def _statistic(name: str, **arguments: Any) -> Callable[[Arguments, ColumnType | None], list[Meaning]]:
    def read(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
        ends = _ends(given)
        need = _need_of([ends["min"], ends["max"]], dtype) if name in ("min", "max") else "number"
        return [("statistic", need, {"statistic": name, **arguments, **ends})]

    return read


def _quantiles(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    ranges = given.get("quantile_ranges") or {}
    quantiles, bounds = ranges.get("quantiles"), ranges.get("value_ranges")
    if not isinstance(quantiles, list) or not isinstance(bounds, list) or len(quantiles) != len(bounds):
        raise NotExpressibleError("its quantile_ranges are not one range for each quantile")
    return [
        ("statistic", "number", {"statistic": "quantile", "quantile": quantile, "min": low, "max": high})
        for quantile, (low, high) in zip(quantiles, bounds, strict=True)
    ]


def types_of(given: Arguments) -> ColumnType:
    """Return the one type that the names in a type expectation stand for.

    Raises
    ------
    NotExpressibleError
    """
    names = given.get("type_list") or [given.get("type_")]
    found = {type_named(name) for name in names if isinstance(name, str)} - {None}
    for wide, read in _WIDER.items():
        if wide in found and found <= read:
            return wide
    only = found.pop() if len(found) == 1 else None
    if only is None:
        raise NotExpressibleError(f"no one type here is like {', '.join(map(repr, names))}")
    return only


_WIDER: Mapping[ColumnType, set[ColumnType | None]] = {
    "text": {"text", "integer", "decimal", "float", "datetime", "date", "boolean"},
    "float": {"integer", "decimal", "float"},
    "decimal": {"integer", "decimal"},
    "datetime": {"date", "datetime"},
}
"""Types with all those whose cells they read too."""


def _type(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    named = types_of(given)
    if named == "text":
        raise NotExpressibleError("every cell of a file is a text, so there is nothing to check")
    return [("type", "text", {"dtype": named})]


_SAME_IN_FORMATS = "YmdHIMSybBaApj%"


def format_of(given: Arguments) -> str:
    """Return the form of a date or time as the reader here writes it.

    Raises
    ------
    NotExpressibleError
    """
    text = _text(given, "strftime_format").replace(".%f", "%.f")
    for part in re.findall(r"%\.f|%.?", text, re.DOTALL):
        if part not in ("%.f", "%z") and part[1:] not in list(_SAME_IN_FORMATS):
            raise NotExpressibleError(f"{part} is not known to the reader of dates here")
    return text.replace("%z", "%#z")


def _strftime(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
    return [("type", "text", {"dtype": "datetime", "format": format_of(given)})]


def _pair(sign: str) -> Callable[[Arguments, ColumnType | None], list[Meaning]]:
    def read(given: Arguments, dtype: ColumnType | None) -> list[Meaning]:
        ignored = given.get("ignore_row_if") or "both_values_are_missing"
        nulls = {"both_values_are_missing": "both", "either_value_is_missing": "any", "neither": "none"}.get(ignored)
        if nulls is None:
            raise NotExpressibleError(f"ignore_row_if is {ignored!r}")
        shown = ">=" if sign == ">" and given.get("or_equal") else sign
        need = "number" if sign == ">" and dtype is None else need_of(dtype, [])
        return [("compare", need, {"sign": shown, "nulls": nulls})]

    return read


def _one(kind: str, need: str = "any") -> Callable[[Arguments, ColumnType | None], list[Meaning]]:
    return lambda given, dtype: [(kind, need, {})]


_ENDS = ("min_value", "max_value", "strict_min", "strict_max")
_PAIR = ("column_A", "column_B")
_OLD_TIMES = ("parse_strings_as_datetimes", "output_strftime_format", "allow_cross_type_comparisons")
_UNIQUE = Expectation(("ignore_row_if",), _one("unique", "stated"), ("column_list",), by_row=False)

EXPECTATIONS: Mapping[str, Expectation] = {
    "expect_column_values_to_not_be_null": Expectation((), _one("not_null")),
    "expect_column_values_to_be_null": Expectation((), _one("null")),
    "expect_column_values_to_be_between": Expectation((*_ENDS, *_OLD_TIMES), _between),
    "expect_column_values_to_be_in_set": Expectation(("value_set", *_OLD_TIMES), _values("values")),
    "expect_column_values_to_not_be_in_set": Expectation(("value_set", *_OLD_TIMES), _values("not_values")),
    "expect_column_distinct_values_to_be_in_set": Expectation(
        ("value_set", *_OLD_TIMES), _values("values"), by_row=False
    ),
    "expect_column_values_to_match_regex": Expectation(("regex",), _regex),
    "expect_column_values_to_not_match_regex": Expectation(("regex",), _not_regex),
    "expect_column_values_to_match_regex_list": Expectation(("regex_list", "match_on"), _regex_list),
    "expect_column_values_to_not_match_regex_list": Expectation(("regex_list",), _not_regex_list),
    "expect_column_values_to_be_unique": Expectation((), _one("unique", "stated"), by_row=False),
    "expect_compound_columns_to_be_unique": _UNIQUE,
    "expect_multicolumn_values_to_be_unique": _UNIQUE,
    "expect_column_value_lengths_to_be_between": Expectation(_ENDS, _lengths),
    "expect_column_value_lengths_to_equal": Expectation(("value",), _length),
    "expect_table_row_count_to_be_between": Expectation(_ENDS, _rows, (), by_row=False),
    "expect_table_row_count_to_equal": Expectation(("value",), _row_number, (), by_row=False),
    "expect_column_min_to_be_between": Expectation((*_ENDS, *_OLD_TIMES), _statistic("min"), by_row=False),
    "expect_column_max_to_be_between": Expectation((*_ENDS, *_OLD_TIMES), _statistic("max"), by_row=False),
    "expect_column_mean_to_be_between": Expectation(_ENDS, _statistic("mean"), by_row=False),
    "expect_column_median_to_be_between": Expectation(_ENDS, _statistic("quantile", quantile=0.5), by_row=False),
    "expect_column_quantile_values_to_be_between": Expectation(
        ("quantile_ranges", "allow_relative_error"), _quantiles, by_row=False
    ),
    "expect_column_values_to_be_of_type": Expectation(("type_",), _type),
    "expect_column_values_to_be_in_type_list": Expectation(("type_list",), _type),
    "expect_column_values_to_match_strftime_format": Expectation(("strftime_format",), _strftime),
    "expect_column_pair_values_a_to_be_greater_than_b": Expectation(
        ("or_equal", "ignore_row_if", *_OLD_TIMES), _pair(">"), _PAIR
    ),
    "expect_column_pair_values_to_be_equal": Expectation(("ignore_row_if",), _pair("="), _PAIR),
    "expect_column_to_exist": Expectation((), _one("exists"), by_row=False),
}
