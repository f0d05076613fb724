"""Bulk insert into a staged table of MariaDB.

LOAD DATA LOCAL is not used: it makes the client hand out whatever file the server names, and many servers forbid it.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.base import TableParts
from daskae.load.sql.mariadb.session import driver, transaction
from daskae.load.sql.mariadb.values import to_statements

_LARGEST = 4 << 20  # longer statements bring no more rows a second


def copy_rows(
    connection: sa.Connection, table: str, columns: list[str], parts: TableParts, batches: Iterator[pa.RecordBatch]
) -> int:
    """Insert all rows in one transaction, a large statement or more for each batch; return how many arrived.

    Raises
    ------
    LoadError
        When a value cannot be stored without loss, or a single row is larger than the server takes.
    """
    copied, position = 0, 1
    names = ", ".join(map(quote, columns))
    start = f"INSERT INTO {quote(table)} ({names}) VALUES".encode()
    packet = int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one())
    limit = min(_LARGEST, packet // 2)
    with transaction(connection):
        plain: Any = driver(connection)
        for batch in batches:
            for statement in to_statements(start, batch, parts.name, position, limit):
                if len(statement) >= packet:  # the server would hang up
                    got, allowed = f"a row of {len(statement)} bytes", f"fewer than {packet} bytes"
                    hint = "raise max_allowed_packet on the server, or write to Parquet"
                    raise LoadError("a row is larger than the server takes", f"table {parts.name}", got, allowed, hint)
                copied += plain.query(statement)
            position += batch.num_rows
    return copied


def quote(name: str) -> str:
    """Quote a name in a statement that the driver sends as it is."""
    return "`" + name.replace("`", "``") + "`"
