"""Arrow columns in the plain forms that every database is sent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from daskae.errors import LoadError

_DIGITS = 38
Type = sa.types.TypeEngine[Any]


@dataclass(frozen=True)
class TypeNames:
    """How a database declares columns for Arrow's types."""

    database: str
    """For an error's text."""
    text: Type
    floating: Type
    timestamp: Type
    boolean: Type
    integer: Type
    date: Type
    numeric: Callable[[int, int], Type] = sa.NUMERIC
    """Takes precision and scale."""

    def declared(self, field: pa.Field, table: str) -> Type:
        """Return the declared type of a column.

        Raises
        ------
        LoadError
            When there is no place for the type.
        """
        kind = plain_type(field.type)
        if pa.types.is_decimal128(kind) and 0 <= kind.scale <= _DIGITS:
            return self.numeric(_DIGITS, kind.scale)
        choices: tuple[tuple[bool, Type], ...] = (
            (pa.types.is_string(kind) or pa.types.is_large_string(kind), self.text),
            (pa.types.is_uint64(kind), self.numeric(20, 0)),
            (pa.types.is_integer(kind), self.integer),
            (pa.types.is_boolean(kind), self.boolean),
            (pa.types.is_floating(kind), self.floating),
            (pa.types.is_date32(kind), self.date),
            (pa.types.is_timestamp(kind) and kind.tz is None, self.timestamp),
        )
        for fits, declared in choices:
            if fits:
                return declared
        raise LoadError(
            f"{self.database} has no column of this type here",
            where=f"table {table}, column {field.name}",
            got=str(field.type),
            allowed="string, integer, bool, float, date32, timestamp without zone, decimal128 of scale 0 to 38",
        )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values behind a dictionary, times in microseconds."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else kind


def plain_columns(batch: pa.RecordBatch, table: str) -> list[pa.Array]:
    """Return the columns of a batch without dictionaries, times in microseconds.

    Raises
    ------
    LoadError
        When a time is finer than that.
    """
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            columns.append(column.cast(plain_type(field.type)))
        except pa.ArrowInvalid as error:
            place = f"table {table}, column {field.name}"
            raise LoadError("a time is finer than a microsecond", place, str(error)) from error
    return columns


def require_finite(column: pa.Array, place: str) -> None:
    """Refuse NaN and infinities, which many databases have no place for.

    Raises
    ------
    LoadError
        Naming the first of them.
    """
    finite = pc.is_finite(column)
    if pc.all(finite).as_py() is False:
        got = str(column.filter(pc.invert(finite))[0].as_py())
        raise LoadError("a number is not finite", where=place, got=got, allowed="a finite number or a null")
