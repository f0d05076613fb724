"""How Arrow values are stored in PostgreSQL, and how they travel as CSV; see :mod:`.binary` for the faster way.

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

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv as pc
import sqlalchemy as sa

from daskae.load.sql.columns import TypeNames

TYPES = TypeNames("PostgreSQL", sa.TEXT(), sa.DOUBLE_PRECISION(), sa.TIMESTAMP(), sa.BOOLEAN(), sa.BIGINT(), sa.DATE())
_OPTIONS = pc.WriteOptions(include_header=False, quoting_style="needed")


def to_csv(columns: Sequence[pa.Array]) -> memoryview:
    """Write rows of plain types as CSV; a null is nothing, an empty text is two quotes."""
    names = [str(number) for number in range(len(columns))]
    sink = pa.BufferOutputStream()
    pc.write_csv(pa.RecordBatch.from_arrays(list(columns), names), sink, _OPTIONS)
    return memoryview(sink.getvalue())
