"""Bulk insert into a staged table of DuckDB: Arrow batches are read where they are, and let go when they are in.

What is registered is a reader, which holds nothing once it is read. A table would be held until the transaction ends,
with all the others before it: twice the memory for half a million rows, and more for more (measured).
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from daskae.arrow import to_array
from daskae.load.base import TableParts
from daskae.load.sql.columns import plain_columns
from daskae.load.sql.dialect import POSITION
from daskae.load.sql.duckdb.session import driver, transaction

_BATCHES_PER_STATEMENT = 12  # with batches of 10,000 rows about one row group of the file
_SOURCE = "_daskae_batches"


def copy_rows(
    connection: sa.Connection, stage: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch]
) -> int:  # fmt: skip
    """Insert all rows in one transaction, some batches a statement; return how many arrived."""
    copied, position = 0, 1
    names = ", ".join(map(quote, [POSITION, *parts.schema.names]))
    statement = f"INSERT INTO {quote(stage.name)} ({names}) SELECT {names} FROM {_SOURCE}"
    with transaction(connection):
        plain = driver(connection)
        while some := list(islice(batches, _BATCHES_PER_STATEMENT)):
            numbered = []
            for batch in some:
                numbers = to_array(np.arange(position, position + batch.num_rows))
                columns = [numbers, *plain_columns(batch, parts.name)]
                numbered.append(pa.RecordBatch.from_arrays(columns, [POSITION, *parts.schema.names]))
                position += batch.num_rows
            plain.register(_SOURCE, pa.RecordBatchReader.from_batches(numbered[0].schema, iter(numbered)))
            del numbered, some
            try:
                copied += int(plain.execute(statement).fetchall()[0][0])
            finally:
                plain.unregister(_SOURCE)
    return copied


def quote(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'
