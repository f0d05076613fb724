"""Rows in PostgreSQL's binary form of COPY, made a column at a time.

A load of a million customers comes in at 1.3 times the rate of a bare COPY of text; as CSV it was 0.6 (measured, see
``benchmarks/load.py``). A row is the number of its fields, then for each field
its length and its bytes, most significant first; a null is the length -1 and nothing else. Times count from 2000. A
NUMERIC is the number of its digits to the base of 10,000, the weight of the first one, the sign, and how many decimal
digits stand after the point (``src/backend/utils/adt/numeric.c``, ``numeric_recv``).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from daskae.arrow import to_scalar

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_DAYS, _MICROSECONDS = 10_957, 946_684_800_000_000
"""From 1970 to 2000."""
_BASE, _BASE_DIGITS = 10_000, 4
_NEGATIVE = 0x4000
_MOST_SCALE = 16  # the digits after the point fit 64 bits

_BOOL, _INT8, _TEXT, _FLOAT8, _VARCHAR, _DATE, _TIMESTAMP, _NUMERIC = 16, 20, 25, 701, 1043, 1082, 1114, 1700

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]


def fits(kind: pa.DataType, oid: int) -> bool:
    """Whether values of a plain Arrow type can be sent to a column with this type's number."""
    if pa.types.is_decimal128(kind):
        return oid == _NUMERIC and 0 <= kind.scale <= _MOST_SCALE
    if pa.types.is_uint64(kind):
        return oid == _NUMERIC
    choices = (
        (pa.types.is_string(kind) or pa.types.is_large_string(kind), (_TEXT, _VARCHAR)),
        (pa.types.is_integer(kind), (_INT8,)),
        (pa.types.is_boolean(kind), (_BOOL,)),
        (pa.types.is_floating(kind), (_FLOAT8,)),
        (pa.types.is_date32(kind), (_DATE,)),
        (pa.types.is_timestamp(kind), (_TIMESTAMP,)),
    )
    return any(is_it and oid in oids for is_it, oids in choices)


def to_binary(columns: Sequence[pa.Array]) -> memoryview:
    """Write rows, whose columns have plain types that :func:`fits` knows; HEADER and TRAILER go around all of them."""
    height = len(columns[0])
    fields = [_Text(column) if _is_text(column) else _Fixed(column) for column in columns]
    sizes = sum((field.sizes for field in fields), np.full(height, 2, np.int64))
    place = np.cumsum(sizes) - sizes
    out = np.empty(int(sizes.sum()), np.uint8)
    _put(out, place, np.full(height, len(fields), ">i2"))
    place += 2
    for field in fields:
        field.write(out, place)
        place += field.sizes
    return out.data


def _put(out: Bytes, place: Places, values: NDArray[Any]) -> None:
    """Copy values of some bytes each to places that no alignment is asked of."""
    width = values.dtype.itemsize
    if len(place):
        # Every byte is seen as the beginning of such a value.
        anywhere = np.ndarray(len(out) - width + 1, f"V{width}", out, strides=(1,))
        anywhere[place] = values.view(f"V{width}")


class _Fixed:
    """A column whose values take the same number of bytes each."""

    def __init__(self, column: pa.Array) -> None:
        values = _values(column)
        self._fields = np.empty(len(column), [("length", ">i4"), ("value", values.dtype)])
        self._fields["length"], self._fields["value"] = values.dtype.itemsize, values
        self._valid = _valid(column)
        width = self._fields.dtype.itemsize
        self.sizes = np.full(len(column), width, np.int64) if self._valid is None else np.where(self._valid, width, 4)

    def write(self, out: Bytes, place: Places) -> None:
        if self._valid is None:
            _put(out, place, self._fields)
            return
        _put(out, place[self._valid], self._fields[self._valid])
        _put(out, place[~self._valid], np.full(int((~self._valid).sum()), -1, ">i4"))


class _Text:
    """A column of texts."""

    def __init__(self, column: pa.Array) -> None:
        column = column.cast(pa.large_string())
        _, offsets, data = column.buffers()
        bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
        self._data = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
        self._starts, self._lengths = bounds[:-1], np.diff(bounds)
        valid = _valid(column)
        self._shown = self._lengths if valid is None else np.where(valid, self._lengths, -1)
        self.sizes = np.maximum(self._shown, 0) + 4

    def write(self, out: Bytes, place: Places) -> None:
        _put(out, place, self._shown.astype(">i4"))
        # Texts of one length at a time: customers' names and words of a list have few lengths.
        for length in np.unique(self._shown).tolist():
            if length > 0:
                rows = np.flatnonzero(self._shown == length)
                anywhere = np.ndarray(len(self._data) - length + 1, f"V{length}", self._data, strides=(1,))
                _put(out, place[rows] + 4, anywhere[self._starts[rows]])


def _is_text(column: pa.Array) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _valid(column: pa.Array) -> NDArray[np.bool_] | None:
    """Return which rows have a value; None for all."""
    valid: NDArray[np.bool_] | None = None
    if column.null_count:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _values(column: pa.Array) -> NDArray[Any]:
    """Return the values as they are sent; anything where there is none."""
    kind = column.type
    if pa.types.is_decimal128(kind):
        return _numeric(_units(column), kind.scale)
    if pa.types.is_date32(kind):
        return (_numbers(column.view(pa.int32())) - _DAYS).astype(">i4")
    if pa.types.is_timestamp(kind):
        return (_numbers(column.view(pa.int64())) - _MICROSECONDS).astype(">i8")
    if pa.types.is_boolean(kind):
        return _numbers(column.cast(pa.uint8()))
    if pa.types.is_floating(kind):
        return _numbers(column.cast(pa.float64())).astype(">f8")
    if pa.types.is_uint64(kind):
        values = _numbers(column)
        return _numeric(values.astype(np.int64) if values.max(initial=0) < 2**63 else values.astype(object), 0)
    return _numbers(column.cast(pa.int64())).astype(">i8")


def _numbers(column: pa.Array) -> NDArray[Any]:
    filled = pc.fill_null(column, to_scalar(0, column.type)) if column.null_count else column
    found: NDArray[Any] = filled.to_numpy(zero_copy_only=False)
    return found


def _units(column: pa.Array) -> NDArray[Any]:
    """Return decimals without their point: as 64-bit integers where all fit, as Python's otherwise."""
    start = 2 * column.offset
    halves = np.frombuffer(column.buffers()[1], np.int64)[start : start + 2 * len(column)].reshape(-1, 2)
    low, high = halves[:, 0], halves[:, 1]
    if (valid := _valid(column)) is not None:
        low, high = np.where(valid, low, 0), np.where(valid, high, 0)
    if (high == low >> 63).all() and (low > -(2**63)).all():
        return low
    wide: NDArray[Any] = high.astype(object) * 2**64 + low.astype(np.uint64).astype(object)
    return wide


def _numeric(units: NDArray[Any], scale: int) -> NDArray[Any]:
    """Return NUMERIC values of ``scale`` digits after the point; all get the digits that the largest one needs."""
    size = np.abs(units)
    after = -(-scale // _BASE_DIGITS)
    whole, part = size // 10**scale, size % 10**scale * 10 ** (after * _BASE_DIGITS - scale)
    before = -(-len(str(int(whole.max(initial=0)))) // _BASE_DIGITS)
    result = np.empty(
        len(units), [("count", ">i2"), ("weight", ">i2"), ("sign", ">u2"), ("scale", ">i2"),
        ("digits", ">i2", (before + after,))],
    )  # fmt: skip
    result["count"], result["weight"], result["scale"] = before + after, before - 1, scale
    result["sign"] = np.where(units < 0, _NEGATIVE, 0)
    for value, first, count in ((whole, 0, before), (part, before, after)):
        for i in reversed(range(first, first + count)):
            result["digits"][:, i] = value % _BASE
            value = value // _BASE
    return result
