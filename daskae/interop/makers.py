"""From one neutral check to the parameters of one rule, given the names and types that its columns have here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from daskae.config import ColumnType
from daskae.interop.records import NUMBERS, TIMES, Check, NotExpressibleError
from daskae.interop.sql import listed, literal, quoted


@dataclass(frozen=True)
class Place:
    """A column as rules may refer to it."""

    name: str
    dtype: ColumnType

    @property
    def sql(self) -> str:
        """Its name in an expression."""
        return quoted(self.name)


Parameters = dict[str, Any]


def rule_parameters(check: Check, places: Sequence[Place]) -> Parameters:
    """Say a check as ``rule`` and its parameters.

    Raises
    ------
    NotExpressibleError
        If no rule says the same.
    """
    return _MAKERS[check.kind](check.arguments, places)


def _expression(text: str) -> Parameters:
    return {"rule": "expression", "expression": text}


def _not_null(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    return {"rule": "not_null", "column": places[0].name}


def _null(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    return _expression(f"{places[0].sql} IS NULL")


def _exists(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    """Make a rule that no row breaks; that the source has its column is checked before the run."""
    return _expression(f"{places[0].sql} IS NULL OR {places[0].sql} IS NOT NULL")


def _unique(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    return {"rule": "unique", "columns": [place.name for place in places]}


def _type(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    return {"rule": "type", "column": places[0].name, **arguments}


def _between(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    """Make a range, or an expression where an end is left out of it or the column has no order that a range knows."""
    place = places[0]
    low, high = _finite(arguments.get("min"), -math.inf), _finite(arguments.get("max"), math.inf)
    if low is None and high is None:
        raise NotExpressibleError("it has no bounds, so every value passes")
    strict_low = low is not None and bool(arguments.get("strict_min"))
    strict_high = high is not None and bool(arguments.get("strict_max"))
    if place.dtype == "integer":
        low, high = _whole(low, strict_low, 1), _whole(high, strict_high, -1)
        strict_low = strict_high = False
    if place.dtype in (*NUMBERS, *TIMES) and not (strict_low or strict_high):
        return {"rule": "range", "column": place.name} | _given(min=low, max=high)
    ends = [
        f"{place.sql} {sign}{'' if strict else '='} {literal(bound, place.dtype)}"
        for bound, sign, strict in ((low, ">", strict_low), (high, "<", strict_high))
        if bound is not None
    ]
    return _expression(" AND ".join(ends))


def _finite(bound: Any, endless: float) -> Any:
    """Return a bound, or None for the infinite one that leaves nothing out."""
    if isinstance(bound, float) and not math.isfinite(bound):
        if bound == endless:
            return None
        raise NotExpressibleError(f"{bound} is no bound")
    return bound


def _whole(bound: Any, strict: bool, step: int) -> Any:
    """Move a bound that is left out of a range of whole numbers to the next one that is in it."""
    if bound is None or not strict:
        return bound
    number = Decimal(str(bound))
    return (math.floor(number) if step > 0 else math.ceil(number)) + step


def _values(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    place, values = places[0], _known(arguments["values"])
    if not values:
        raise NotExpressibleError("no value is allowed at all")
    if place.dtype in NUMBERS and not all(_is_number(value) for value in values):
        raise NotExpressibleError("some of its values are no numbers, as those of the column are")
    if place.dtype == "text" or place.dtype in NUMBERS:
        return {
            "rule": "allowed_values",
            "column": place.name,
            "values": [_plain(item, place.dtype) for item in values],
        }
    return _expression(f"{place.sql} IN {listed(values, place.dtype)}")


def _not_values(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    place, values = places[0], _known(arguments["values"])
    if not values:
        raise NotExpressibleError("no value is forbidden, so every value passes")
    return _expression(f"{place.sql} NOT IN {listed(values, place.dtype)}")


def _known(values: Sequence[Any]) -> list[Any]:
    """Leave out nulls, which break no rule, and what is no number, which equals nothing."""
    rest = [value for value in values if value is not None and value == value]
    return list(dict.fromkeys(rest))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any, dtype: ColumnType) -> Any:
    return str(value) if dtype == "text" else value


def _matches(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    return {"rule": "pattern", "column": places[0].name, "pattern": arguments["pattern"]}


def _matches_all(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    tests = [f"{places[0].sql} ~ {literal(pattern, 'text')}" for pattern in arguments["patterns"]]
    return _expression(" AND ".join(tests))


def _matches_none(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    tests = [f"{places[0].sql} !~ {literal(pattern, 'text')}" for pattern in arguments["patterns"]]
    return _expression(" AND ".join(tests))


def _length(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    low = _whole(arguments.get("min"), bool(arguments.get("strict_min")), 1)
    high = _whole(arguments.get("max"), bool(arguments.get("strict_max")), -1)
    if low is None and high is None:
        raise NotExpressibleError("it has no bounds, so every length passes")
    return {"rule": "length", "column": places[0].name} | _given(min=low, max=high)


def _compare(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    """Make a comparison of two columns; ``nulls`` says which rows with a null pass: any, both or none."""
    left, right = places
    test = f"{left.sql} {arguments['sign']} {right.sql}"
    if arguments["nulls"] == "both":
        return _expression(f"COALESCE({test}, {left.sql} IS NULL AND {right.sql} IS NULL)")
    return _expression(f"COALESCE({test}, FALSE)" if arguments["nulls"] == "none" else test)


def _row_count(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    low = _whole(arguments.get("min"), bool(arguments.get("strict_min")), 1)
    high = _whole(arguments.get("max"), bool(arguments.get("strict_max")), -1)
    if low is None and high is None:
        raise NotExpressibleError("it has no bounds, so every number of rows passes")
    return {"rule": "row_count"} | _given(min=low, max=high)


def _statistic(arguments: Mapping[str, Any], places: Sequence[Place]) -> Parameters:
    low, high = _finite(arguments.get("min"), -math.inf), _finite(arguments.get("max"), math.inf)
    if low is None and high is None:
        raise NotExpressibleError("it has no bounds, so every value passes")
    if (low is not None and arguments.get("strict_min")) or (high is not None and arguments.get("strict_max")):
        raise NotExpressibleError("a bound that is not itself allowed has no equal for a statistic")
    named = _given(statistic=arguments["statistic"], quantile=arguments.get("quantile"))
    return {"rule": "distribution", "column": places[0].name} | named | _given(min=low, max=high)


def _given(**values: Any) -> Parameters:
    return {name: value for name, value in values.items() if value is not None}


_MAKERS: Mapping[str, Callable[[Mapping[str, Any], Sequence[Place]], Parameters]] = {
    "not_null": _not_null,
    "null": _null,
    "exists": _exists,
    "unique": _unique,
    "type": _type,
    "between": _between,
    "values": _values,
    "not_values": _not_values,
    "matches": _matches,
    "matches_all": _matches_all,
    "matches_none": _matches_none,
    "length": _length,
    "compare": _compare,
    "row_count": _row_count,
    "statistic": _statistic,
}
