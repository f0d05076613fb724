"""Read cells as the contract's types, exactly, and say which cells cannot be read.

A cell that cannot be read is never a null: the row is reported as failed with a reason. An empty cell (or one that
holds a declared null text) is null.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation

import numpy as np
import polars as pl

from daskae.schema import Column, Contract, sql_expression

PRECISION = 38
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INT64 = 2**63 - 1
_COUNTED_DIGITS = 6
"""Digits before the point up to which the length of a text tells that it was not rounded."""
_FIRST_TIME, _LAST_TIME = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)


@dataclass(frozen=True)
class Failure:
    """Rows that break one requirement of the contract."""

    reason: str
    column: str
    mask: pl.Series
    """Boolean, one a row; True where it is broken."""


@dataclass(frozen=True)
class CastTable:
    """The contract's columns for every row, null where a cell failed, and the failures in the order they count."""

    table: pl.DataFrame
    failures: list[Failure]


_REASONS = {"datetime": "unparsable_date", "date": "unparsable_date", "decimal": "unparsable_number"}


def cast_table(cells: pl.DataFrame, contract: Contract) -> CastTable:
    """Turn source cells into contract columns.

    Parameters
    ----------
    cells : DataFrame
        All of ``contract.sources``; text, or a typed source's own types.
    contract : Contract
    """
    cells, failures = _as_plain(cells, contract)
    cells = _with_nulls(cells, contract)
    values: dict[str, pl.Series] = {}
    for column in contract.columns:
        value, failed = _cast_column(cells, column, contract)
        if column.name == "customer_id":
            _add(failures, "missing_customer_id", column, value.is_null())
        elif column.name in ("order_date", "amount"):
            failed = value.is_null()
        if failed is not None:
            reason = _REASONS.get(column.dtype, f"unparsable_{column.name}")
            _add(failures, reason, column, failed)
        values[column.name] = value.alias(column.name)
    rank = ["invalid_encoding", "missing_customer_id", "unparsable_date", "unparsable_number"]
    failures.sort(key=lambda item: rank.index(item.reason) if item.reason in rank else len(rank))
    return CastTable(pl.DataFrame(list(values.values())), failures)


def _add(failures: list[Failure], reason: str, column: Column, mask: pl.Series) -> None:
    if mask.any():
        failures.append(Failure(reason, column.name, mask))


def _with_nulls(cells: pl.DataFrame, contract: Contract) -> pl.DataFrame:
    """Apply the declared null texts."""
    if not contract.null_values:
        return cells
    texts = [name for name, dtype in cells.schema.items() if dtype == pl.String]
    nulls = list(contract.null_values)
    return cells.with_columns(
        pl.when(pl.col(name).is_in(nulls)).then(None).otherwise(pl.col(name)).alias(name) for name in texts
    )


def _as_plain(cells: pl.DataFrame, contract: Contract) -> tuple[pl.DataFrame, list[Failure]]:
    """Turn dictionaries, bytes and nested values of typed sources into texts; bytes that are no text are failures."""
    failures: list[Failure] = []
    for name, dtype in cells.schema.items():
        if dtype in (pl.Categorical, pl.Enum, pl.Binary):
            text = _decoded(cells[name]) if dtype == pl.Binary else cells[name].cast(pl.String)
            lost = text.is_null() & cells[name].is_not_null()
            if lost.any():
                failures.append(Failure("invalid_encoding", name, lost))
            cells = cells.with_columns(text)
        elif dtype.is_nested():
            texts = [None if value is None else str(value) for value in cells[name].to_list()]
            cells = cells.with_columns(pl.Series(name, texts, dtype=pl.String))
    return cells, failures


def _decoded(values: pl.Series) -> pl.Series:
    """Read bytes as UTF-8; null where they are not."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:
        texts: list[str | None] = []
        for value in values.to_list():
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                texts.append(None)
        return pl.Series(values.name, texts, dtype=pl.String)


def shown_text(values: pl.Series) -> pl.Series:
    """Return cells of any type as a person may read them; bytes that are no text as backslash escapes."""
    if values.dtype == pl.Binary:
        texts = [None if value is None else value.decode("utf-8", "backslashreplace") for value in values.to_list()]
        return pl.Series(values.name, texts, dtype=pl.String)
    if values.dtype.is_nested():
        return pl.Series(values.name, [None if value is None else str(value) for value in values.to_list()], pl.String)
    return values.cast(pl.String)


def _blank_as_null(values: pl.Series) -> pl.Series:
    """Make texts of blanks only null; other texts stay as they are, blanks included."""
    # What begins with a visible ASCII character, as nearly all do, need not be stripped to be known.
    doubtful = ((values < "!") | (values >= "\x7f")).fill_null(False)
    if not doubtful.any():
        return values
    rows = doubtful.arg_true()
    return _text_as_null(values, doubtful.scatter(rows, values.gather(rows).str.strip_chars() == ""))


def _text_as_null(values: pl.Series, empty: pl.Series) -> pl.Series:
    empty = empty.fill_null(False)
    return _nulled(values, empty) if empty.any() else values


def evaluate(frame: pl.DataFrame, expression: pl.Expr, height: int) -> pl.Series:
    """Evaluate an expression over rows; a constant holds for every row, and a frame may have no columns at all."""
    result = frame.select(expression.alias("value")).to_series() if frame.width else pl.select(expression).to_series()
    return result.new_from_index(0, height) if len(result) != height else result


def _cast_column(cells: pl.DataFrame, column: Column, contract: Contract) -> tuple[pl.Series, pl.Series | None]:
    """Return the values and, unless a null says it, which rows failed."""
    if column.dtype == "decimal":
        return _decimal_column(cells, column, contract.scale)
    if column.is_expression:
        texts = cells.select(pl.col(name).cast(pl.String) for name in column.sources)
        value = evaluate(texts, sql_expression(column.source, f"columns.{column.name}"), cells.height)
    else:
        value = cells[column.source]
    if column.dtype == "text":
        value = value.cast(pl.String)
        ids = column.name in ("customer_id", "order_id")
        return (_blank_as_null(value) if ids else _text_as_null(value, value == "")), None
    if column.dtype in ("datetime", "date"):
        return _datetime(value, column, contract.timezone)
    return _plain(value, column)


def _plain(value: pl.Series, column: Column) -> tuple[pl.Series, pl.Series]:
    """Integers, floats and booleans of free columns."""
    if value.dtype == pl.String:
        value = _empty_as_null(value.str.strip_chars())
    if column.dtype == "boolean" and value.dtype == pl.String:
        words = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}
        result = value.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    else:
        target = {"integer": pl.Int64(), "float": pl.Float64(), "boolean": pl.Boolean()}[column.dtype]
        result = value.cast(target, strict=False)
    if column.dtype == "integer" and (value.dtype.is_float() or isinstance(value.dtype, pl.Decimal)):
        result = _nulled(result, (result.cast(value.dtype, strict=False) != value).fill_null(True))
    if column.dtype == "float":
        result = _nulled(result, (~result.is_finite()).fill_null(False))
    return result, result.is_null() & value.is_not_null()


def _empty_as_null(values: pl.Series) -> pl.Series:
    return values.to_frame("v").select(pl.when(pl.col("v") != "").then(pl.col("v"))).to_series()


def _datetime(value: pl.Series, column: Column, timezone: str) -> tuple[pl.Series, pl.Series]:
    """Read dates and times; formats are tried in their order, each on what the earlier ones could not read."""
    if value.dtype == pl.Date:
        result = value.cast(pl.Datetime("us"))
    elif isinstance(value.dtype, pl.Datetime):
        zoned = value.dt.convert_time_zone(timezone) if value.dtype.time_zone else value
        result = zoned.dt.replace_time_zone(None).cast(pl.Datetime("us"))
    else:
        value = value.cast(pl.String)
        result = _by_formats(value, column.formats, timezone)
    result = _nulled(result, ((result < _FIRST_TIME) | (result > _LAST_TIME)).fill_null(False))
    failed = result.is_null() & value.is_not_null()
    if value.dtype == pl.String and failed.any():
        rows = failed.arg_true()
        failed = failed.scatter(rows, value.gather(rows).str.strip_chars() != "")
    return (result.cast(pl.Date) if column.dtype == "date" else result), failed


def _by_formats(value: pl.Series, formats: tuple[str, ...], timezone: str) -> pl.Series:
    result = value.to_frame("v").select(_parsed(formats[0], timezone)).to_series()
    if not result.null_count():
        return result
    rows = result.is_null().arg_true()
    rest = value.gather(rows).str.strip_chars().to_frame("v")
    return result.scatter(rows, rest.select(pl.coalesce(_parsed(item, timezone) for item in formats)).to_series())


def _parsed(time_format: str, timezone: str) -> pl.Expr:
    """Read the text column ``v`` by one format; null where it does not fit."""
    text = pl.col("v").str
    if not any(mark in time_format for mark in ("%H", "%I", "%T", "%R", "%s", "%c", "%X")):
        return text.to_date(time_format, strict=False, cache=False).cast(pl.Datetime("us"))
    if not any(mark in time_format for mark in ("%z", "%:z", "%#z")):
        return text.to_datetime(time_format, time_unit="us", strict=False, cache=False)
    zoned = text.to_datetime(time_format, time_unit="us", time_zone="UTC", strict=False, cache=False)
    return zoned.dt.convert_time_zone(timezone).dt.replace_time_zone(None)


def _decimal_column(cells: pl.DataFrame, column: Column, scale: int) -> tuple[pl.Series, pl.Series]:
    if not column.is_expression:
        value, failed = to_decimal(cells[column.source], scale)
    else:
        value, failed = _decimal_expression(cells, column, scale)
    units = value.to_physical()
    beyond = (units > _INT64) | (units < -_INT64)
    if beyond.any():
        failed |= beyond.fill_null(False)
        value = _nulled(value, failed)
    return value, failed


def _nulled(value: pl.Series, mask: pl.Series) -> pl.Series:
    return pl.DataFrame({"v": value, "m": mask}).select(pl.when(~pl.col("m")).then(pl.col("v"))).to_series()


def to_decimal(value: pl.Series, scale: int) -> tuple[pl.Series, pl.Series]:
    """Read a column as decimals with ``scale`` digits after the point.

    Texts are read exactly and refused where they have more digits (zeros at the end do not count); a float column is
    rounded, because its digits say nothing exact.

    Returns
    -------
    values : Series of Decimal(38, scale)
    failed : Series of Boolean
        Where a cell holds something that is not such a number.
    """
    target = pl.Decimal(PRECISION, scale)
    if value.dtype.is_float():
        result = value.cast(pl.String).cast(target, strict=False)
        return result, result.is_null() & value.is_not_null()
    if isinstance(value.dtype, pl.Decimal):
        result = value.cast(target, strict=False)
        if (value.dtype.scale or 0) > scale:
            lost = (result.cast(value.dtype, strict=False) != value).fill_null(False)
            return _nulled(result, lost), lost
        return result, result.is_null() & value.is_not_null()
    if value.dtype.is_integer():
        result = value.cast(target, strict=False)
        return result, result.is_null() & value.is_not_null()
    if value.dtype != pl.String:  # a date or a truth value is no number
        nothing = pl.repeat(None, len(value), dtype=target, eager=True)
        return nothing, value.is_not_null()
    return _decimal_text(value, scale)


def _decimal_text(text: pl.Series, scale: int) -> tuple[pl.Series, pl.Series]:
    target = pl.Decimal(PRECISION, scale)
    result = text.cast(target, strict=False)
    failed = result.is_null() & text.is_not_null()
    if failed.any():  # blanks around a number are no fault, blanks alone are no number
        rows = failed.arg_true()
        stripped = text.gather(rows).str.strip_chars()
        again = stripped.cast(target, strict=False)
        result = result.scatter(rows, again)
        failed = failed.scatter(rows, again.is_null() & (stripped != ""))
    # The parser rounds what has more digits than fit, so those texts are read again, exactly.
    suspects = _may_be_rounded(text, result.to_physical(), scale).arg_true()
    doubtful = text.gather(suspects).str.contains(rf"[eE]|\.[0-9]{{{scale + 1}}}")
    if doubtful.any():
        rows = suspects.filter(doubtful)
        texts = text.gather(rows).str.strip_chars()
        exact = pl.Series([_exact(item, scale) for item in texts], dtype=target)
        result = result.scatter(rows, exact)
        failed = failed.scatter(rows, exact.is_null() & (texts != ""))
    return result, failed


def _may_be_rounded(text: pl.Series, units: pl.Series, scale: int) -> pl.Series:
    """Tell which texts may have more than ``scale`` digits after the point: small values, and long texts.

    Such a text of a value above 1 holds all digits before the point, one more than ``scale`` after it, and the point or
    an exponent. A power of ten counts as a number with a digit less: it may have been one before it was rounded.
    """
    one = 10**scale
    doubtful = ((units < one) & (units > -one)).fill_null(True).to_numpy(writable=True)
    lengths = text.str.len_bytes()
    rows = (lengths > scale + 1).arg_true()
    values = np.abs(units.gather(rows).cast(pl.Float64).fill_null(0).to_numpy())
    longest = np.full(len(values), scale + 1, np.uint32)
    for digits in range(_COUNTED_DIGITS):
        longest += values > float(10 ** (scale + digits))
    doubtful[rows] |= lengths.gather(rows).to_numpy() > longest
    return pl.Series(doubtful)


def _exact(text: str, scale: int) -> Decimal | None:
    """Read one text that is written with an exponent or with many digits; None where it does not fit exactly."""
    try:
        if not _NUMBER.fullmatch(text):
            return None
        number = Decimal(text)
        if not number.is_finite() or abs(number.adjusted()) > PRECISION:
            return None
        rounded = round(number, scale)
        return rounded if rounded == number and abs(rounded) < Decimal(10) ** (PRECISION - scale) else None
    except (InvalidOperation, ValueError, OverflowError):
        return None


def _decimal_expression(cells: pl.DataFrame, column: Column, scale: int) -> tuple[pl.Series, pl.Series]:
    """Evaluate an expression over exact decimals; a product has the digits of both factors, so nothing is rounded."""
    operands: dict[str, pl.Series] = {}
    failed = pl.repeat(False, cells.height, dtype=pl.Boolean, eager=True)
    for name in column.sources:
        operands[name], bad = to_decimal(cells[name], scale)
        failed |= bad
    expression = sql_expression(column.source, f"columns.{column.name}")
    wide, overflow = _evaluate(pl.DataFrame(operands), expression, cells.height)
    value, inexact = to_decimal(wide, scale)
    failed |= overflow | inexact
    return _nulled(value, failed), failed


def _evaluate(operands: pl.DataFrame, expression: pl.Expr, height: int) -> tuple[pl.Series, pl.Series]:
    """Evaluate row-wise; where one row's result does not fit 38 digits, halve until that row stands alone."""
    try:
        fine = pl.repeat(False, height, dtype=pl.Boolean, eager=True)
        return evaluate(operands, expression, height), fine
    except pl.exceptions.ComputeError:
        if height == 1:
            return pl.Series([None], dtype=pl.Decimal(PRECISION, 0)), pl.Series([True])
    half = height // 2
    left, left_bad = _evaluate(operands.head(half), expression, half)
    right, right_bad = _evaluate(operands.tail(-half), expression, height - half)
    both = pl.concat([left.to_frame("v"), right.to_frame("v")], how="vertical_relaxed").to_series()
    return both, pl.concat([left_bad, right_bad])
