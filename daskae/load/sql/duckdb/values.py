"""How Arrow values are stored in DuckDB.

======================  =================  ==============================================
Arrow                   declared           stored as
======================  =================  ==============================================
string                  VARCHAR            text
integers                BIGINT             integer; DECIMAL(20,0) for unsigned ones of 64 bits
bool                    BOOLEAN            boolean
float                   DOUBLE             the same double, NaN and infinities included
date32                  DATE               date
timestamp without zone  TIMESTAMP          timestamp, to the microsecond
decimal128              DECIMAL(38,s)      the same decimal
======================  =================  ==============================================
"""

from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.sql.columns import plain_type

_DIGITS = 38


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
        (pa.types.is_floating(kind), sa.DOUBLE()),
        (pa.types.is_date32(kind), sa.DATE()),
        (pa.types.is_timestamp(kind) and kind.tz is None, sa.TIMESTAMP()),
        (pa.types.is_decimal128(kind) and 0 <= kind.scale <= _DIGITS, sa.NUMERIC(_DIGITS, getattr(kind, "scale", 0))),
    )
    for fits, declared in choices:
        if fits:
            return declared
    raise LoadError(
        "DuckDB has no column of this type here",
        where=f"table {table}, column {field.name}",
        got=str(field.type),
        allowed="string, integer, bool, float, date32, timestamp without zone, decimal128 of scale 0 to 38",
    )
