"""The order contract: which columns an order line has, of what type, and how they come from the source's columns.

Money is exact: decimals of 38 digits with ``scale`` digits after the point while rows are checked, integers of
10**-scale units from the exchange on.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from daskae.config import ColumnSettings, ColumnType
from daskae.errors import SettingsError

CONTRACT_TYPES: dict[str, ColumnType] = {
    "order_id": "text",
    "customer_id": "text",
    "order_date": "datetime",
    "amount": "decimal",
    "quantity": "decimal",
    "price": "decimal",
    "status": "text",
    "currency": "text",
}
REQUIRED = ("customer_id", "order_date", "amount")
_COMMON_NAMES = {"amount": ("amount", "order_amount")}
ISO_FORMATS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
)


@dataclass(frozen=True)
class Column:
    """One column of the contract and where it comes from."""

    name: str
    dtype: ColumnType
    source: str
    """A source column, or a SQL expression over source columns."""
    is_expression: bool
    formats: tuple[str, ...] = ISO_FORMATS

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Source columns it needs."""
        if not self.is_expression:
            return (self.source,)
        return tuple(dict.fromkeys(sql_expression(self.source, f"columns.{self.name}").meta.root_names()))


@dataclass(frozen=True)
class Contract:
    """All columns of the order table, in order, required ones first."""

    columns: tuple[Column, ...]
    scale: int
    null_values: tuple[str, ...] = ()
    timezone: str = "UTC"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def sources(self) -> tuple[str, ...]:
        """Source columns needed, each once."""
        return tuple(dict.fromkeys(source for column in self.columns for source in column.sources))


def sql_expression(text: str, where: str) -> pl.Expr:
    """Parse a SQL expression; nothing is ever evaluated as Python.

    Raises
    ------
    SettingsError
        If it is not one expression in Polars' SQL.
    """
    try:
        expression = pl.sql_expr(text)
    except Exception as error:
        raise SettingsError("not a usable SQL expression", where, text, hint=str(error).splitlines()[0][:200]) from None
    if not expression.meta.eq(expression.meta.undo_aliases()):
        raise SettingsError("an expression must not name its result", where, text, hint="is an operator missing?")
    if looks_beyond_row(expression):
        raise SettingsError(
            "an expression may look at its own row only", where, text, "no aggregate, window or subquery",
            "what needs many rows is a metric",
        )  # fmt: skip
    if "Selector" in _words(json.loads(expression.meta.serialize(format="json"))):
        raise SettingsError("an expression must name its columns", where, text, "no pattern that stands for columns")
    if _CLOCK.search(_QUOTED.sub("''", text)):
        raise SettingsError(
            "an expression must not look at the clock", where, text, "values that are the same tomorrow",
            "give the date as a text, or use a freshness rule",
        )  # fmt: skip
    return expression


def looks_beyond_row(expression: pl.Expr) -> bool:
    """Whether the value for a row depends on other rows."""
    return not _BEYOND_ROW.isdisjoint(_words(json.loads(expression.meta.serialize(format="json"))))


_CLOCK = re.compile(r"\bnow\s*\(|\b(?:current|local)_?(?:timestamp|date|time)\b", re.IGNORECASE)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_BEYOND_ROW = frozenset(
    {"Agg", "Explode", "Over", "Len", "Shift", "Rolling", "SubPlan", "Range", "Rank", "CumSum", "Gather"}
)


def _words(node: object) -> Iterator[str]:
    """Yield keys and plain texts of a serialized expression, but for its literals and names of columns."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            if key not in ("Column", "Literal"):
                yield from _words(value)
    elif isinstance(node, list):
        for item in node:
            yield from _words(item)
    elif isinstance(node, str):
        yield node


def build_contract(
    columns: Mapping[str, str | ColumnSettings],
    available: Sequence[str],
    *,
    scale: int,
    null_values: Sequence[str] = (),
    timezone: str = "UTC",
) -> Contract:
    """Resolve the ``[columns]`` table against the columns that every source has.

    Without settings, source columns named as the contract are taken.

    Raises
    ------
    SettingsError
        If a required column is missing, an expression is wrong, or a source column does not exist.
    """
    given = dict(columns) or name_columns(available)
    for name in REQUIRED:
        if name not in given:
            raise SettingsError(
                f"no source column for {name}", "columns", ", ".join(available), "a source column or an SQL expression",
                f'name it in the settings file: [columns] {name} = "..."',
            )  # fmt: skip
    order = [name for name in CONTRACT_TYPES if name in given] + [name for name in given if name not in CONTRACT_TYPES]
    resolved = tuple(_column(name, given[name], available) for name in order)
    for column in resolved:
        _require_sources(column, available)
    return Contract(resolved, scale, tuple(null_values), timezone)


def name_columns(available: Sequence[str]) -> dict[str, str | ColumnSettings]:
    """Return the columns that are taken where none are set: those that are named as the contract."""
    found: dict[str, str | ColumnSettings] = {}
    for name in CONTRACT_TYPES:
        for candidate in _COMMON_NAMES.get(name, (name,)):
            if candidate in available:
                found.setdefault(name, candidate)
    return found


def _column(name: str, given: str | ColumnSettings, available: Sequence[str]) -> Column:
    spec = ColumnSettings(column=given) if isinstance(given, str) and given in available else given
    if isinstance(spec, str):
        spec = ColumnSettings(expression=spec)
    dtype = spec.dtype or CONTRACT_TYPES.get(name, "text")
    if name in CONTRACT_TYPES and dtype != CONTRACT_TYPES[name]:
        raise SettingsError(
            f"{name} has a fixed type", f"columns.{name}.dtype", dtype, CONTRACT_TYPES[name], "leave dtype out"
        )
    formats = (spec.format,) if isinstance(spec.format, str) else tuple(spec.format or ISO_FORMATS)
    return Column(name, dtype, spec.column or spec.expression or "", spec.column is None, formats)


def _require_sources(column: Column, available: Sequence[str]) -> None:
    for source in column.sources:
        if source not in available:
            near = difflib.get_close_matches(source, available, 1)
            raise SettingsError(
                f"no such source column for {column.name}", f"columns.{column.name}", repr(source),
                ", ".join(available),
                f"did you mean {near[0]!r}?" if near else "",
            )  # fmt: skip
