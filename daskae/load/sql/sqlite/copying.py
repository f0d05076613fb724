"""Bulk insert into a staged table of SQLite."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.load.base import TableParts
from daskae.load.sql.sqlite.session import driver, transaction
from daskae.load.sql.sqlite.values import to_python

_BATCHES_PER_COMMIT = 20  # other writers get their turn in between
_VALUES_PER_STATEMENT = 500  # several rows a statement are a fifth faster; old builds of SQLite take 999 values at most


def copy_rows(
    connection: sa.Connection, stage: str, parts: TableParts, columns: str, batches: Iterator[pa.RecordBatch]
) -> int:
    """Insert all rows, a few hundred values a statement and many statements a transaction.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Outside of a transaction.
    stage : str
        The staged table's name, quoted.
    parts : TableParts
        The table the rows are of.
    columns : str
        Names of its columns, quoted.
    batches : iterator of pyarrow.RecordBatch
        The rows.
    """
    copied = 0
    start = f"INSERT INTO {stage} ({columns}) VALUES"
    while some := list(islice(batches, _BATCHES_PER_COMMIT)):
        with transaction(connection):
            for batch in some:
                values = map(to_python, batch.columns, parts.schema, repeat(parts.name))
                _insert(connection, start, len(parts.schema), zip(*values, strict=True), batch.num_rows)
                copied += batch.num_rows
    return copied


def _insert(connection: sa.Connection, start: str, width: int, rows: Iterable[tuple[Any, ...]], count: int) -> None:
    row = f"({', '.join('?' * width)})"
    several = max(1, _VALUES_PER_STATEMENT // width)
    values = chain.from_iterable(rows)
    whole, rest = divmod(count, several)
    plain = driver(connection)
    statement = f"{start} {', '.join([row] * several)}"
    plain.executemany(statement, (tuple(islice(values, several * width)) for _ in range(whole)))
    if rest:
        plain.execute(f"{start} {', '.join([row] * rest)}", tuple(values))
