"""How Arrow values are stored in MariaDB, and how they travel: as the text of INSERT statements of many rows.

======================  =================  ==============================================================
Arrow                   declared           stored as
======================  =================  ==============================================================
string                  LONGTEXT           text, compared by its code points, trailing spaces included
string in a key         VARCHAR(255)       the same; a longer one is refused
integers                BIGINT             integer; DECIMAL(20, 0) for unsigned ones of 64 bits
bool                    BOOL               TINYINT 0 or 1
float                   DOUBLE             the same double; NaN and infinities are refused, never made null
date32                  DATE               date
timestamp without zone  DATETIME(6)        time to the microsecond, without any zone
decimal128              DECIMAL(38, s)     the same decimal
======================  =================  ==============================================================
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from daskae.load.sql.columns import TypeNames, plain_columns, require_finite

KEY_LENGTH = 255  # two such columns and the load fit into the 3072 bytes of an index of utf8mb4
_DIGITS = 38
_NULL = pa.scalar("NULL", pa.large_string())


def sql_type(field: pa.Field, table: str, indexed: bool, collation: str) -> sa.types.TypeEngine[Any]:
    """Return the declared type of a column.

    Raises
    ------
    LoadError
        When there is no place for the type.
    """
    text = sa.VARCHAR(KEY_LENGTH, collation) if indexed else mysql.LONGTEXT(collation=collation)
    names = TypeNames("MariaDB", text, mysql.DOUBLE(), mysql.DATETIME(fsp=6), sa.BOOLEAN(), sa.BIGINT(), sa.DATE())
    return names.declared(field, table)


def to_statements(start: bytes, batch: pa.RecordBatch, table: str, position: int, limit: int) -> Iterator[bytes]:
    """Write rows behind their numbers as INSERT statements, none above a limit of bytes unless a single row is.

    Raises
    ------
    LoadError
        When a value cannot be stored without loss.
    """
    numbers = pa.array(np.arange(position, position + batch.num_rows)).cast(pa.large_string())
    literals = [numbers]
    for field, column in zip(batch.schema, plain_columns(batch, table), strict=True):
        literals.append(_literals(column, f"table {table}, column {field.name}"))
    rows = pc.binary_join_element_wise(*literals, pa.scalar(",", pa.large_string()))
    yield from _within(start, rows, limit)


def _within(start: bytes, rows: pa.LargeStringArray, limit: int) -> Iterator[bytes]:
    size = pc.sum(pc.binary_length(rows)).as_py() + 3 * len(rows)
    if size + len(start) > limit and len(rows) > 1:
        half = len(rows) // 2
        yield from _within(start, rows.slice(0, half), limit)
        yield from _within(start, rows.slice(half), limit)
        return
    together = pa.LargeListArray.from_arrays(pa.array([0, len(rows)], pa.int64()), rows)
    yield b"%s (%s)" % (
        start,
        pc.binary_join(together, pa.scalar("),(", pa.large_string()))[0].as_buffer().to_pybytes(),
    )


def _literals(column: pa.Array, place: str) -> pa.LargeStringArray:
    """Write values as literals: texts for all but integers, as MariaDB reads each into its column exactly."""
    if pa.types.is_floating(column.type):
        require_finite(column, place)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    plain = pa.types.is_integer(column.type)
    texts = column.cast(pa.large_string())
    if _is_text(column.type):
        texts = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), "'", "''")
    if not plain:
        quote = pa.scalar("'", pa.large_string())
        texts = pc.binary_join_element_wise(quote, texts, quote, pa.scalar("", pa.large_string()))
    return texts.fill_null(_NULL)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
