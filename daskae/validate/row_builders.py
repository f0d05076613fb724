"""The built-in row rules, each made from its settings into the expression or the parameters that judge a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from daskae.config import RuleSettings
from daskae.errors import SettingsError
from daskae.patterns import EMAIL
from daskae.schema import ISO_FORMATS, sql_expression
from daskae.validate.columns import NUMBERS, TIMES, Columns, read_bound, read_bounds


@dataclass(frozen=True)
class RowParts:
    """What a kind of row rule contributes to its record."""

    columns: tuple[str, ...]
    breaks: pl.Expr | None = None
    parameters: Mapping[str, Any] | None = None


def need(item: RuleSettings, name: str, where: str, allowed: str = "") -> Any:
    """Return a parameter that must be there.

    Raises
    ------
    SettingsError
    """
    value = getattr(item, name)
    if value is None:
        raise SettingsError(f"rule {item.rule} needs {name}", where, allowed=allowed)
    return value


def _not_null(item: RuleSettings, columns: Columns, where: str) -> RowParts:
    name = need(item, "column", where)
    if columns.dtype(name, where) == "text":
        return RowParts((name,), (pl.col(name).str.strip_chars() == "").fill_null(True))
    return RowParts((name,), pl.col(name).is_null())


def _range(item: RuleSettings, columns: Columns, where: str) -> RowParts:
    name = need(item, "column", where, "column, min, max")
    dtype = columns.of_type(name, where, "range", (*NUMBERS, *TIMES))
    low, high = read_bounds(item.min, item.max, dtype, "range", where)
    return RowParts((name,), _outside(pl.col(name), low, high))


def _length(item: RuleSettings, columns: Columns, where: str) -> RowParts:
    name = need(item, "column", where)
    columns.of_type(name, where, "length", ("text",))
    low, high = read_bounds(item.min, item.max, "integer", "length", where)
    for bound in (low, high):
        if bound is not None and (bound < 0 or bound != int(bound)):
            raise SettingsError("a length is a whole number of characters", where, str(bound), "0 or more")
    return RowParts((name,), _outside(pl.col(name).str.len_chars(), low, high))


def _outside(value: pl.Expr, low: Any, high: Any) -> pl.Expr:
    below = pl.lit(False) if low is None else value < pl.lit(low)
    above = pl.lit(False) if high is None else value > pl.lit(high)
    return below | above


def _allowed_values(item: RuleSettings, columns: Columns, where: str) -> RowParts:
    name = need(item, "column", where)
    dtype = columns.dtype(name, where)
    if not item.values:
        raise SettingsError("rule allowed_values needs values", where)
    if dtype == "text":
        return RowParts((name,), ~pl.col(name).is_in([str(value) for value in item.values]))
    if dtype not in NUMBERS:
        raise SettingsError("rule allowed_values needs a text or number column", where, dtype)
    bounds = [read_bound(value, dtype, where) for value in item.values]
    return RowParts((name,), pl.all_horizontal([pl.col(name) != pl.lit(bound) for bound in bounds]))


def _pattern(item: RuleSettings, columns: Columns, where: str) -> RowParts:
    name, pattern = need(item, "column", where), need(item, "pattern", where)
    columns.of_type(name, where, "pattern", ("text",))
    pattern = EMAIL if pattern == "email" else pattern
    try:  # Polars' own engine decides; it is linear in the text, so no pattern can hang a run.
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise SettingsError(
            "a pattern is not usable", f"{where}.pattern", pattern, hint=str(error).splitlines()[0]
        ) from None
    return RowParts((name,), ~pl.col(name).str.contains(pattern))


def _expression(item: RuleSettings, columns: Columns, where: str) -> RowParts:
    expression = sql_expression(need(item, "expression", where), f"{where}.expression")
    names = tuple(dict.fromkeys(expression.meta.root_names()))
    for name in names:
        columns.dtype(name, where)
    return RowParts(names, ~expression)


def _type(item: RuleSettings, columns: Columns, where: str) -> RowParts:
    name, dtype = need(item, "column", where), need(item, "dtype", where)
    if columns.dtype(name, where) != "text":
        column = columns.of_contract(name)
        raise SettingsError(
            "the contract enforces the type of this column already", where, f"{name}: {column.dtype if column else ''}",
            "a source column, or a text column of the contract",
        )  # fmt: skip
    if item.format is not None and dtype not in TIMES:
        raise SettingsError("only dates and times have a format", f"{where}.format", dtype, ", ".join(TIMES))
    formats = (item.format,) if isinstance(item.format, str) else tuple(item.format or ISO_FORMATS)
    contract = columns.contract
    return RowParts(
        (name,), None,
        {"dtype": dtype, "formats": formats, "scale": contract.scale, "null_values": contract.null_values,
         "timezone": contract.timezone},
    )  # fmt: skip


def _reference(item: RuleSettings, columns: Columns, where: str) -> RowParts:
    name, source = need(item, "column", where), need(item, "source", where)
    dtype = columns.of_type(name, where, "reference", ("text", "integer"))
    return RowParts(
        (name,), None,
        {"source": source, "source_column": item.source_column or name, "table": item.table or "", "dtype": dtype},
    )  # fmt: skip


ROW_BUILDERS: Mapping[str, Callable[[RuleSettings, Columns, str], RowParts]] = {
    "completeness": _not_null,
    "not_null": _not_null,
    "range": _range,
    "allowed_values": _allowed_values,
    "pattern": _pattern,
    "type": _type,
    "length": _length,
    "expression": _expression,
    "reference": _reference,
}
