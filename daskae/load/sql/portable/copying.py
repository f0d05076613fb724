"""Insert into a staged table by what every driver has: one statement, many rows of values."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.load.base import TableParts
from daskae.load.sql.columns import plain_columns
from daskae.load.sql.dialect import POSITION
from daskae.load.sql.portable.values import require_same


def copy_rows(
    connection: sa.Connection, stage: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch]
) -> int:  # fmt: skip
    """Insert all rows and read them back, in the transaction of the caller; return how many arrived.

    Raises
    ------
    LoadError
        When the database does not store a value as it is.
    """
    names = parts.schema.names
    position = stage.c[POSITION]
    first = 1
    for batch in batches:
        columns: list[list[Any]] = [column.to_pylist() for column in plain_columns(batch, parts.name)]
        rows = list(zip(*columns, strict=True))
        last = first + batch.num_rows - 1
        numbered = zip(range(first, last + 1), rows, strict=True)
        connection.execute(sa.insert(stage), [{POSITION: number, **dict(zip(names, row, strict=True))}
            for number, row in numbered])  # fmt: skip
        query = sa.select(*(stage.c[name] for name in names)).where(position.between(first, last)).order_by(position)
        require_same(parts.schema, parts.name, rows, connection.execute(query).all())
        first = last + 1
    return first - 1
