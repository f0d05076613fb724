"""Built-in functions on numbers; decimals stay exact, and what must be rounded is rounded half to even."""

from collections.abc import Callable
from decimal import Decimal

import polars as pl

from daskae.errors import SettingsError
from daskae.transform.kinds import LARGEST, PRECISION
from daskae.transform.operations import Expressions
from daskae.transform.view import View, named

Columns = str | list[str]
Number = str | int | float


def multiply(view: View, *, column: Columns, factor: Number) -> Expressions:
    """Multiply by a decimal factor; a decimal column keeps its digits after the point."""
    number = view.decimal(factor, "a factor")
    digits = max(0, -int(number.as_tuple().exponent))
    times = int(number.scaleb(digits))

    def change(units: pl.Expr) -> pl.Expr:
        return half_even(units * _int128(times), 10**digits)

    return _changed(view, column, change, float(number), whole=digits == 0)


def add(view: View, *, column: Columns, amount: Number) -> Expressions:
    """Add a decimal amount, which may have no more digits after the point than the column."""
    number = view.decimal(amount, "an amount")
    digits = max(0, -int(number.as_tuple().exponent))
    if digits > view.scale:
        raise SettingsError("an amount has too many digits", view.where, str(number), f"{view.scale} after the point")
    units = int(number.scaleb(view.scale))

    def change(known: pl.Expr) -> pl.Expr:
        return known + _int128(units)

    parts = []
    for name in named(column, view.where):
        kind = view.require(name, "decimal", "integer", "float")
        if kind == "float":
            parts.append(Expressions(((pl.col(name) + float(number)).alias(name),)))
        elif kind == "integer":
            _require_whole(view, digits == 0, name)
            parts.append(_counted(name, pl.col(name).cast(pl.Int128) + _int128(int(number))))
        else:
            parts.append(_moneyed(view, name, change))
    return _together(parts)


def round_half_even(view: View, *, column: Columns, digits: int) -> Expressions:
    """Round to some digits after the point, half to even."""
    if not 0 <= digits <= 18:
        raise SettingsError("a number cannot be rounded so", view.where, f"digits = {digits}", "0 to 18")
    width = 10 ** max(0, view.scale - digits)

    def change(units: pl.Expr) -> pl.Expr:
        return half_even(units, width) * _int128(width)

    parts = []
    for name in named(column, view.where):
        if view.require(name, "decimal", "float") == "float":
            parts.append(Expressions((pl.col(name).round(digits).alias(name),)))
        else:
            parts.append(_moneyed(view, name, change))
    return _together(parts)


def _changed(
    view: View, column: Columns, change: Callable[[pl.Expr], pl.Expr], factor: float, *, whole: bool
) -> Expressions:
    parts = []
    for name in named(column, view.where):
        kind = view.require(name, "decimal", "integer", "float")
        if kind == "float":
            parts.append(Expressions(((pl.col(name) * factor).alias(name),)))
        elif kind == "integer":
            _require_whole(view, whole, name)
            parts.append(_counted(name, change(pl.col(name).cast(pl.Int128))))
        else:
            parts.append(_moneyed(view, name, change))
    return _together(parts)


def _require_whole(view: View, whole: bool, name: str) -> None:
    if not whole:
        raise SettingsError(
            "an integer column takes whole numbers only", view.where, name, hint="declare it as decimal in [columns]"
        )


def _int128(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.Int128)


def half_even(value: pl.Expr, divisor: int) -> pl.Expr:
    """Divide 128-bit integers and round half to even."""
    if divisor == 1:
        return value
    quotient = value // _int128(divisor)
    twice = (value - quotient * _int128(divisor)) * _int128(2)
    odd = (quotient % _int128(2)) != 0
    up = (twice > divisor) | ((twice == divisor) & odd)
    return quotient + up.cast(pl.Int128)


def _moneyed(view: View, name: str, change: Callable[[pl.Expr], pl.Expr]) -> Expressions:
    """Change the units of a decimal column; a row whose result does not fit is rejected."""
    target = pl.Decimal(PRECISION, view.scale)
    units = change(pl.col(name).to_physical())
    fits = units.abs() <= _int128(LARGEST)
    value = pl.when(fits).then(units).cast(target)
    if view.scale:
        value = value * pl.lit(Decimal(1).scaleb(-view.scale), dtype=target)
    return Expressions((value.alias(name),), (~fits).fill_null(False))


def _counted(name: str, value: pl.Expr) -> Expressions:
    fits = value.abs() <= _int128(LARGEST)
    return Expressions((pl.when(fits).then(value).cast(pl.Int64).alias(name),), (~fits).fill_null(False))


def _together(parts: list[Expressions]) -> Expressions:
    rejects = [part.rejects for part in parts if part.rejects is not None]
    return Expressions(
        tuple(column for part in parts for column in part.columns), pl.any_horizontal(rejects) if rejects else None
    )
