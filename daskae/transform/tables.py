"""Built-in functions on rows and columns: derive, filter, rename, drop, fill."""

from datetime import date, datetime
from decimal import Decimal

import polars as pl

from daskae.config import ColumnType
from daskae.errors import SettingsError
from daskae.schema import sql_expression
from daskae.transform.kinds import dtype_of
from daskae.transform.operations import Expressions
from daskae.transform.texts import is_blank
from daskae.transform.view import View, named

Columns = str | list[str]


def derive(view: View, *, column: str, expression: str, dtype: ColumnType | None = None) -> Expressions:
    """Put the value of a SQL expression over the row into a column, old or new.

    Decimals are exact: a row whose value has more digits than money has is rejected, so round where that may be.
    """
    value = _parsed(view, expression)
    if dtype is not None:
        value = value.cast(dtype_of(dtype, view.scale))
    return Expressions((value.alias(column),))


def keep_where(view: View, *, expression: str) -> Expressions:
    """Keep the rows for which a SQL condition is true; the others, those for which it is null too, are rejected."""
    condition = _parsed(view, expression)
    found = view.schema.to_frame().lazy().select(condition.alias("x")).collect_schema()["x"]
    if found != pl.Boolean:
        raise SettingsError("a step's expression is not a condition", view.where, str(found), "true or false")
    return Expressions(rejects=~condition.fill_null(False))


def _parsed(view: View, expression: str) -> pl.Expr:
    parsed = sql_expression(expression, view.where)
    for name in parsed.meta.root_names():
        view.kind(name)
    try:
        view.schema.to_frame().select(parsed.alias("x"))
    except pl.exceptions.PolarsError as error:
        text = " ".join(str(error).split())[:200]
        raise SettingsError("a step does not fit its columns", view.where, expression, hint=text) from None
    return parsed


def rename(view: View, *, columns: dict[str, str]) -> Expressions:
    """Give columns of your own other names."""
    for old, new in columns.items():
        view.require_free(old)
        if new in view.schema or list(columns.values()).count(new) > 1:
            raise SettingsError("a column of that name is there already", view.where, new)
    return Expressions(renames=dict(columns))


def drop(view: View, *, column: Columns) -> Expressions:
    """Take away columns of your own."""
    names = named(column, view.where)
    for name in names:
        view.require_free(name)
    return Expressions(drops=tuple(names))


def fill_null(view: View, *, column: Columns, value: str | int | float | bool | date | datetime) -> Expressions:
    """Put a value where there is none; in a text column, blanks are none."""
    results = []
    for name in named(column, view.where):
        literal = pl.lit(_value(view, name, value), dtype=view.schema[name])
        empty = is_blank(pl.col(name)) if view.kind(name) == "text" else pl.col(name).is_null()
        results.append(pl.when(empty).then(literal).otherwise(pl.col(name)).alias(name))
    return Expressions(tuple(results))


def _value(view: View, name: str, value: object) -> object:
    """Read a value of the settings as a column's type, exactly."""
    kind = view.kind(name)
    try:
        if kind == "text":
            return str(value)
        if kind == "boolean" and isinstance(value, bool):
            return value
        if kind == "decimal":
            number = view.decimal(str(value), "a value")
            if number == round(number, view.scale):
                return number
        if kind == "integer" and Decimal(str(value)) == int(Decimal(str(value))):
            return int(Decimal(str(value)))
        if kind == "float":
            return float(str(value))
        if kind in ("date", "datetime"):
            moment = datetime.fromisoformat(str(value))
            return moment.date() if kind == "date" else moment.replace(tzinfo=None)
    except (ValueError, ArithmeticError):
        pass
    raise SettingsError("a value is not of the column's type", view.where, repr(value), kind)
