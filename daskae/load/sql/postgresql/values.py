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

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import sqlalchemy as sa

from daskae.arrow import to_array
from daskae.errors import LoadError
from daskae.load.sql.columns import TypeNames, plain_type

TYPES = TypeNames("PostgreSQL", sa.TEXT(), sa.DOUBLE_PRECISION(), sa.TIMESTAMP(), sa.BOOLEAN(), sa.BIGINT(), sa.DATE())
_OPTIONS = pc.WriteOptions(include_header=False, quoting_style="needed")


def to_csv(batch: pa.RecordBatch, parts_name: str, position: int | None) -> pa.Buffer:
    """Write rows as CSV, behind their numbers if there are to be any; a null is nothing, an empty text is two quotes.

    Raises
    ------
    LoadError
        When a time is finer than a microsecond.
    """
    columns: list[pa.Array] = []
    if position is not None:
        columns.append(to_array(np.arange(position, position + batch.num_rows)))
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
