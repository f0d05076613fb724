"""How Arrow values are stored in PostgreSQL, and how they travel: as blocks of CSV that COPY reads.

======================  ================  =======================================================
Arrow                   declared          stored as
======================  ================  =======================================================
string                  TEXT              text; a NUL has no place in it and is refused
integers                BIGINT            integer; NUMERIC(20) for unsigned ones of 64 bits
bool                    BOOLEAN           boolean
float                   DOUBLE PRECISION  the same double, NaN and infinities included
date32                  DATE              date
timestamp without zone  TIMESTAMP         timestamp, to the microsecond
decimal128              NUMERIC(38, s)    the same decimal
======================  ================  =======================================================
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import sqlalchemy as sa

from daskae.errors import LoadError

_DIGITS = 38
_OPTIONS = pc.WriteOptions(include_header=False, quoting_style="needed")


def sql_type(field: pa.Field, table: str) -> sa.types.TypeEngine[Any]:
    """Return the declared type of a column.

    Raises
    ------
    LoadError
        When there is no place for the type.
    """
    kind = plain_type(field.type)
    choices: tuple[tuple[bool, sa.types.TypeEngine[Any]], ...] = (
        (pa.types.is_string(kind) or pa.types.is_large_string(kind), sa.TEXT()),
        (pa.types.is_uint64(kind), sa.NUMERIC(20, 0)),
        (pa.types.is_integer(kind), sa.BIGINT()),
        (pa.types.is_boolean(kind), sa.BOOLEAN()),
        (pa.types.is_floating(kind), sa.DOUBLE_PRECISION()),
        (pa.types.is_date32(kind), sa.DATE()),
        (pa.types.is_timestamp(kind) and kind.tz is None, sa.TIMESTAMP()),
        (pa.types.is_decimal128(kind) and 0 <= kind.scale <= _DIGITS, sa.NUMERIC(_DIGITS, getattr(kind, "scale", 0))),
    )
    for fits, declared in choices:
        if fits:
            return declared
    raise LoadError(
        "PostgreSQL has no column of this type here",
        where=f"table {table}, column {field.name}",
        got=str(field.type),
        allowed="string, integer, bool, float, date32, timestamp without zone, decimal128 of scale 0 to 38",
    )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values behind a dictionary."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def to_csv(batch: pa.RecordBatch, parts_name: str, position: int | None) -> pa.Buffer:
    """Write rows as CSV, behind their numbers if there are to be any; a null is nothing, an empty text is two quotes.

    Raises
    ------
    LoadError
        When a time is finer than a microsecond.
    """
    columns: list[pa.Array] = []
    if position is not None:
        columns.append(pa.array(np.arange(position, position + batch.num_rows)))
    for field, column in zip(batch.schema, batch.columns, strict=True):
        kind = plain_type(field.type)
        try:
            columns.append(column.cast(pa.timestamp("us") if pa.types.is_timestamp(kind) else kind))
        except pa.ArrowInvalid as error:
            place = f"table {parts_name}, column {field.name}"
            raise LoadError("a time is finer than a microsecond", place, str(error)) from error
    names = [str(number) for number in range(len(columns))]
    sink = pa.BufferOutputStream()
    pc.write_csv(pa.RecordBatch.from_arrays(columns, names), sink, _OPTIONS)
    return sink.getvalue()
