"""Bulk insert into a table of SQLite."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect

from daskae.load.base import TableParts
from daskae.load.sql.sqlite.session import driver, transaction
from daskae.load.sql.sqlite.values import to_python

_BATCHES_PER_COMMIT = 20  # other writers get their turn in between
_VALUES_PER_STATEMENT = 500  # several rows a statement are a third faster; old builds of SQLite take 999 values at most


def copy_rows(
    connection: sa.Connection,
    table: str,
    parts: TableParts,
    batches: Iterator[pa.RecordBatch],
    marks: Mapping[str, Any],
) -> int:
    """Insert all rows, a few hundred values a statement; return how many.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Within a transaction all is done in it, else in several small ones.
    table : str
        The table's name.
    parts : TableParts
        The table the rows are of.
    batches : iterator of pyarrow.RecordBatch
        The rows.
    marks : mapping of str to object
        Further columns, with a value that all rows have.
    """
    copied = 0
    insert = _Insert(table, parts.schema.names, marks)
    inside = driver(connection).in_transaction
    while (first := next(batches, None)) is not None:
        some = chain([first], islice(batches, _BATCHES_PER_COMMIT - 1))
        del first  # no batch is held longer than it takes to insert it: its part's pages would be held with it
        with nullcontext() if inside else transaction(connection):
            for batch in some:
                values = [to_python(*column, parts.name) for column in zip(batch.columns, parts.schema, strict=True)]
                insert.run(connection, values, batch.num_rows)
                copied += batch.num_rows
    return copied


class _Insert:
    """An INSERT of several rows; the values that all of them have are bound once, behind all others."""

    def __init__(self, table: str, names: Sequence[str], marks: Mapping[str, Any]) -> None:
        quote = dialect().identifier_preparer.quote_identifier
        self._start = f"INSERT INTO {quote(table)} ({', '.join(map(quote, (*names, *marks)))}) VALUES "
        self._width = len(names)
        self._marks = tuple(marks.values())

    def run(self, connection: sa.Connection, columns: Sequence[Sequence[Any]], count: int) -> None:
        """Insert rows that come as columns."""
        several = max(1, _VALUES_PER_STATEMENT // self._width)
        values = chain.from_iterable(zip(*columns, strict=True))
        whole, rest = divmod(count, several)
        plain, size = driver(connection), several * self._width
        plain.executemany(self._statement(several), ((*islice(values, size), *self._marks) for _ in range(whole)))
        if rest:
            plain.execute(self._statement(rest), (*values, *self._marks))

    def _statement(self, rows: int) -> str:
        first_mark = rows * self._width + 1
        marks = [f"?{first_mark + number}" for number in range(len(self._marks))]
        starts = range(1, first_mark, self._width)
        cells = ([*(f"?{start + place}" for place in range(self._width)), *marks] for start in starts)
        return self._start + ", ".join(f"({', '.join(row)})" for row in cells)
