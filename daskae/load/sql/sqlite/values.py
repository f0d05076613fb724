"""How Arrow values are stored in SQLite, which has integers, doubles and text, and no exact decimals.

======================  =============  ==========================================================
Arrow                   declared       stored as
======================  =============  ==========================================================
string                  TEXT           text
integers                INTEGER        integer
bool                    BOOLEAN        integer 0 or 1
float                   REAL           real; NaN and infinities are refused, never made null
date32                  DATE           text ``2011-12-01``
timestamp without zone  TIMESTAMP      text ``2011-12-01 08:26:00``, with ``.ffffff`` if not zero
decimal128              NUMERIC        see below
decimal128, not exact   REAL           the nearest real
======================  =============  ==========================================================

Decimals, that is money: an integral value within 64 bits is stored as an INTEGER, every other one as a REAL if it has
at most 15 significant digits. Fifteen digits survive the way through a double, so ``repr`` in Python,
``printf('%.15g')`` in SQL or a cast to text give the very decimal back, while ``SUM``, ``<`` and ``=`` work in plain
SQL. A decimal with more digits makes the load fail: text would keep it but sort and compare wrongly, a rounded number
would be a silent lie. A field whose metadata says ``exact: false`` (an average that was rounded anyway) is always
REAL.

``DATE``, ``TIMESTAMP`` and ``BOOLEAN`` have NUMERIC affinity in SQLite: a text is turned into a number only if it looks
like one, and an ISO date does not.
"""

from collections.abc import Callable
from decimal import Context, Decimal
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from daskae.arrow import to_scalar
from daskae.errors import LoadError

Convert = Callable[[pa.Array, str], list[Any]]

EXACT_DIGITS = 15
_EXACT_SCALE = 22  # the largest power of ten that a double holds exactly
_WIDE = Context(prec=80)
_INT64 = range(-(2**63), 2**63)


def sql_type(field: pa.Field, table: str) -> sa.types.TypeEngine[Any]:
    """Return the declared type of a column.

    Raises
    ------
    LoadError
        When SQLite has no place for the type.
    """
    return _storage(field, table)[0]


def to_python(column: pa.Array, field: pa.Field, table: str) -> list[Any]:
    """Turn a column of one batch into the values to bind, ``None`` for nulls.

    Raises
    ------
    LoadError
        Naming table, column and value, when a value cannot be stored without loss.
    """
    return _storage(field, table)[1](column, f"table {table}, column {field.name}")


def _storage(field: pa.Field, table: str) -> tuple[sa.types.TypeEngine[Any], Convert]:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    inexact = (field.metadata or {}).get(b"exact") == b"false"
    choices: tuple[tuple[bool, Callable[[], sa.types.TypeEngine[Any]], Convert], ...] = (
        (pa.types.is_string(kind) or pa.types.is_large_string(kind), sa.TEXT, _texts),
        (pa.types.is_integer(kind), sa.INTEGER, _integers),
        (pa.types.is_boolean(kind), sa.BOOLEAN, _integers),
        (pa.types.is_floating(kind), sa.REAL, _floats),
        (pa.types.is_date32(kind), sa.DATE, _texts),
        (pa.types.is_timestamp(kind) and kind.tz is None, sa.TIMESTAMP, _timestamps),
        (pa.types.is_decimal128(kind) and inexact, sa.REAL, partial(_decimals, one=float)),
        (pa.types.is_decimal128(kind), sa.NUMERIC, _decimals),
    )
    for fits, declared, convert in choices:
        if fits:
            return declared(), convert
    raise LoadError(
        "SQLite cannot store a column of this type",
        where=f"table {table}, column {field.name}",
        got=str(field.type),
        allowed="string, integer, bool, float, date32, timestamp without zone, decimal128",
    )


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _texts(column: pa.Array, place: str) -> list[Any]:
    values: list[Any] = _plain(column).cast(pa.string()).to_pylist()
    return values


def _numbers(column: pa.Array) -> list[Any]:
    """List 64-bit numbers straight from their buffer: ``to_pylist`` takes many times as long."""
    values = _buffer_values(column, "d" if pa.types.is_floating(column.type) else "q")
    if column.null_count:
        for index in _buffer_values(pc.indices_nonzero(column.is_null()), "Q"):
            values[index] = None
    return values


def _buffer_values(column: pa.Array, code: Literal["d", "q", "Q"]) -> list[Any]:
    start, stop = 8 * column.offset, 8 * (column.offset + len(column))
    values: list[Any] = memoryview(column.buffers()[1])[start:stop].cast(code).tolist()
    return values


def _integers(column: pa.Array, place: str) -> list[Any]:
    try:
        return _numbers(_plain(column).cast(pa.int64()))
    except pa.ArrowInvalid as error:
        raise LoadError("an integer is too large for SQLite", where=place, got=str(error)) from error


def _floats(column: pa.Array, place: str) -> list[Any]:
    column = _plain(column).cast(pa.float64())
    finite = pc.is_finite(column)
    if pc.all(finite).as_py() is False:
        raise LoadError(
            "a number is not finite",
            where=place,
            got=str(column.filter(pc.invert(finite))[0].as_py()),
            allowed="a finite number or a null",
        )
    return _numbers(column)


def _timestamps(column: pa.Array, place: str) -> list[Any]:
    column = _plain(column)
    try:
        return _texts(column.cast(pa.timestamp("s")), place)
    except pa.ArrowInvalid:  # some value has a fraction of a second
        pass
    try:
        texts = column.cast(pa.timestamp("us")).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise LoadError("a time is finer than a microsecond", where=place, got=str(error)) from error
    return _texts(pc.replace_substring_regex(texts, r"\.000000$", ""), place)


def _decimals(column: pa.Array, place: str, one: Callable[[Decimal], int | float] | None = None) -> list[Any]:
    """List decimals as reals and integers; ``one`` converts a single value that takes the slow way.

    A value of at most 15 digits is an integer below 2**53 over an exact power of ten, and such a quotient is the
    nearest double: the same that Python makes of the decimal's text. NUMERIC affinity stores integral ones as
    integers.
    """
    column = _plain(column)
    scale = column.type.scale
    units = pa.Array.from_buffers(pa.decimal128(38, 0), len(column), column.buffers(), offset=column.offset)
    bounds = pc.min_max(units).as_py()
    largest = max(abs(bounds["min"] or 0), abs(bounds["max"] or 0))
    if largest < 10**EXACT_DIGITS and 0 <= scale <= _EXACT_SCALE:
        return _numbers(pc.divide(units.cast(pa.int64()).cast(pa.float64()), to_scalar(10.0**scale, pa.float64())))
    convert = one or partial(_exact_number, place=place)
    return [None if value is None else convert(value) for value in column.to_pylist()]


def _exact_number(value: Decimal, place: str) -> int | float:
    if value == value.to_integral_value() and int(value) in _INT64:
        return int(value)
    if len(value.normalize(_WIDE).as_tuple().digits) <= EXACT_DIGITS:
        return float(value)
    raise LoadError(
        f"SQLite cannot store a decimal of more than {EXACT_DIGITS} digits exactly",
        where=place,
        got=str(value),
        hint="write to Parquet, or to a database with NUMERIC, or set a smaller [money] scale",
    )
