"""Built-in functions on text columns."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal

import polars as pl

from daskae.errors import SettingsError
from daskae.patterns import EMAIL
from daskae.transform.operations import Expressions
from daskae.transform.view import View

Columns = str | list[str]
Unfit = Literal["reject", "keep", "null"]


def _each(view: View, column: Columns, change: Callable[[pl.Expr], pl.Expr]) -> Expressions:
    return Expressions(tuple(change(pl.col(name)).alias(name) for name in view.texts(column)))


def trim(view: View, *, column: Columns) -> Expressions:
    """Take away blanks of every kind at both ends."""
    return _each(view, column, lambda text: text.str.strip_chars())


def collapse_blanks(view: View, *, column: Columns) -> Expressions:
    """Make one blank of every run of blanks, tabs and line ends."""
    return _each(view, column, lambda text: text.str.replace_all(r"\s+", " "))


def lower(view: View, *, column: Columns) -> Expressions:
    """Write in lower case."""
    return _each(view, column, lambda text: text.str.to_lowercase())


def upper(view: View, *, column: Columns) -> Expressions:
    """Write in upper case."""
    return _each(view, column, lambda text: text.str.to_uppercase())


def title(view: View, *, column: Columns) -> Expressions:
    """Write each word with a capital."""
    return _each(view, column, lambda text: text.str.to_titlecase())


def standardize_email(view: View, *, column: str, valid_column: str | None = None) -> Expressions:
    """Write an address one way: no blanks around it, wide forms as plain ones, lower case.

    ``<column>_is_valid`` says whether it has the form of an address; it is null where there is none.
    """
    view.texts(column)
    clean = pl.col(column).str.normalize("NFKC").str.strip_chars().str.to_lowercase()
    filled = pl.when(clean != "").then(clean)
    return Expressions((filled.alias(column), filled.str.contains(EMAIL).alias(valid_column or f"{column}_is_valid")))


def replace(view: View, *, column: Columns, find: str, replacement: str, regex: bool = False) -> Expressions:
    """Replace every occurrence of a text, or of a pattern whose groups the replacement names as ``${1}``."""
    if not find:
        raise SettingsError("a step looks for an empty text", view.where, "find", "one character at least")
    if regex:
        _require_pattern(find, view)
    return _each(view, column, lambda text: text.str.replace_all(find, replacement, literal=not regex))


def _require_pattern(pattern: str, view: View) -> None:
    try:  # Polars' own engine decides; it is linear in the text, so no pattern can hang a run.
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise SettingsError(
            "a pattern is not usable", view.where, pattern, hint=str(error).splitlines()[0][:200]
        ) from None


def map_values(view: View, *, column: str, values: dict[str, str], unfit: Unfit = "keep") -> Expressions:
    """Replace whole values; what is not listed is kept, made null or rejected, as ``unfit`` says."""
    view.texts(column)
    if not values:
        raise SettingsError("a step has no values to map", view.where, "values")
    known = pl.col(column).is_in(list(values))
    mapped = pl.col(column).replace(_texts(values))
    return _unless(known, mapped, column, unfit)


def _texts(values: Mapping[str, str]) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items()}


def _unless(fits: pl.Expr, value: pl.Expr, column: str, unfit: Unfit) -> Expressions:
    """Write a value where the column's text fits; nulls stay."""
    if unfit == "null":
        return Expressions((pl.when(fits).then(value).alias(column),))
    return Expressions(
        (pl.when(fits).then(value).otherwise(pl.col(column)).alias(column),),
        (~fits).fill_null(False) if unfit == "reject" else None,
    )


def date_format(
    view: View, *, column: Columns, read_as: str, write_as: str = "%Y-%m-%d", unfit: Unfit = "reject"
) -> Expressions:
    """Write dates, which a text column holds in one format, in another."""
    names = view.texts(column)
    _require_format(read_as, view, reads=True)
    _require_format(write_as, view, reads=False)
    parts = []
    for name in names:
        text = pl.when(~is_blank(pl.col(name))).then(pl.col(name).str.strip_chars())
        moment = _moment(text, read_as)
        fits = pl.when(text.is_not_null()).then(moment.is_not_null())
        parts.append(_unless(fits, moment.dt.to_string(write_as), name, unfit))
    rejects = [part.rejects for part in parts if part.rejects is not None]
    return Expressions(
        tuple(column for part in parts for column in part.columns), pl.any_horizontal(rejects) if rejects else None
    )


def _require_format(item: str, view: View, *, reads: bool) -> None:
    """Try a format on a moment, and back: what is read must give the day."""
    moment = datetime(2024, 2, 29, 13, 14, 15)
    try:
        text = pl.Series("v", [moment]).dt.to_string(item)
        usable = "%" in item
        if reads:
            found = text.to_frame().select(_moment(pl.col("v"), item)).to_series()[0]
            usable = found is not None and found.date() == moment.date()
    except pl.exceptions.PolarsError:
        usable = False
    if not usable:
        raise SettingsError("a date format is not usable", view.where, item, "a format such as %d.%m.%Y")


def _moment(text: pl.Expr, item: str) -> pl.Expr:
    """Read texts as times by one format; null where it does not fit."""
    if any(mark in item for mark in ("%H", "%I", "%T", "%R", "%s", "%c", "%X")):
        return text.str.to_datetime(item, time_unit="us", strict=False, cache=False)
    return text.str.to_date(item, strict=False, cache=False).cast(pl.Datetime("us"))


def is_blank(text: pl.Expr) -> pl.Expr:
    """Whether a text is null or blanks only."""
    return (text.str.strip_chars() == "").fill_null(True)
