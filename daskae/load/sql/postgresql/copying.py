"""COPY into a table of PostgreSQL, by several connections at once for a large one.

The server reads what a connection sends in one process, and that is what takes longest. Blocks are handed out one by
one, so the streams end together; the rows keep their numbers, whichever stream brings them. They go in binary form
where each column has the very type that daskae declares, as CSV otherwise.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from daskae.arrow import to_array
from daskae.errors import LoadError
from daskae.load.base import TableParts
from daskae.load.parts import read_batches
from daskae.load.sql.columns import plain_columns, plain_type
from daskae.load.sql.dialect import POSITION
from daskae.load.sql.postgresql.binary import HEADER, TRAILER, fits, to_binary
from daskae.load.sql.postgresql.failures import sql_state
from daskae.load.sql.postgresql.values import to_csv

_NOT_IN_TEXT = "22021"

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True)
class _Form:
    """How rows travel."""

    name: str
    encode: Callable[[Sequence[pa.Array]], memoryview]
    header: bytes = b""
    trailer: bytes = b""


_CSV = _Form("csv", to_csv)
_BINARY = _Form("binary", to_binary, HEADER, TRAILER)


def copy_rows(
    connections: Sequence[Connection],
    table: sql.Composable,
    columns: list[str],
    parts: TableParts,
    batches: Iterator[pa.RecordBatch],
    constants: Sequence[pa.Scalar] = (),
) -> int:
    """Send all rows, a block for each batch, each with the constants behind; return how many the server took.

    Raises
    ------
    LoadError
        Naming the column and the row, when a text holds a NUL.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    numbered = columns[0] == POSITION
    kinds = [*([pa.int64()] if numbered else []), *(plain_type(field.type) for field in parts.schema)]
    kinds += [constant.type for constant in constants]
    form = _BINARY if _takes_binary(connections[0], table, names, kinds) else _CSV
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(table, names, sql.SQL(form.name))
    source = _Source(batches)
    add = partial(_complete, numbered=numbered, constants=constants)
    send = partial(_send, statement=statement, name=parts.name, source=source, complete=add, form=form)
    try:
        if len(connections) == 1:
            return send(connections[0])
        with ThreadPoolExecutor(len(connections)) as pool:
            streams = [pool.submit(send, connection) for connection in connections]
            try:
                return sum(stream.result() for stream in streams)
            finally:
                source.stop()
    except psycopg.Error as error:
        if sql_state(error) == _NOT_IN_TEXT and (found := _find_nul(parts)):
            raise found from None
        raise


@contextmanager
def defaults(connection: Connection, table: sql.Composable, values: Mapping[str, object]) -> Iterator[None]:
    """Let columns of a table that nobody else knows have these values in all rows: they need not be sent."""
    change = sql.SQL("ALTER TABLE {} ALTER COLUMN {} {}")
    for name, value in values.items():
        default = sql.SQL("SET DEFAULT {}").format(sql.Literal(value))
        connection.execute(change.format(table, sql.Identifier(name), default))
    yield
    for name in values:
        connection.execute(change.format(table, sql.Identifier(name), sql.SQL("DROP DEFAULT")))


class _Source:
    """Batches for several threads, each with the number of its first row."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches, self._position = batches, 1
        self._lock = threading.Lock()
        self._stopped = False

    def __iter__(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        while not self._stopped:
            with self._lock:
                batch = next(self._batches, None)
                if batch is None:
                    return
                position = self._position
                self._position += batch.num_rows
            yield position, batch

    def stop(self) -> None:
        """Hand nothing out any more."""
        self._stopped = True


def _complete(columns: list[pa.Array], position: int, numbered: bool, constants: Sequence[pa.Scalar]) -> list[pa.Array]:
    """Put the number of each row before its columns where it is wanted, and the constants behind them."""
    rows = len(columns[0])
    numbers = [to_array(np.arange(position, position + rows))] if numbered else []
    return [*numbers, *columns, *(pa.repeat(constant, rows) for constant in constants)]


def _takes_binary(
    connection: Connection, table: sql.Composable, names: sql.Composable, kinds: Sequence[pa.DataType]
) -> bool:
    """Whether all columns of the table have the types that Arrow's have in binary form."""
    nothing = sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, table)
    found = connection.execute(nothing, prepare=False).description or ()
    return all(fits(kind, column.type_code) for kind, column in zip(kinds, found, strict=True))


def _send(
    connection: Connection, statement: sql.Composed, name: str, source: _Source,
    complete: Callable[[list[pa.Array], int], list[pa.Array]], form: _Form,
) -> int:  # fmt: skip
    try:
        with connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                copy.write(form.header)
                blocks = (form.encode(complete(plain_columns(batch, name), place)) for place, batch in source)
                with closing(_ahead(blocks)) as ahead:  # nothing reads on when this fails
                    for block in ahead:
                        copy.write(block)
                copy.write(form.trailer)
            return cursor.rowcount
    except BaseException:
        source.stop()
        raise


def _ahead(items: Iterator[memoryview]) -> Generator[memoryview]:
    """Make the next item while the server takes this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _find_nul(parts: TableParts) -> LoadError | None:
    first = 1
    for batch in read_batches(parts, 100_000):
        for field, column in zip(batch.schema, batch.columns, strict=True):
            kind = plain_type(field.type)
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                continue
            places = pc.indices_nonzero(pc.match_substring(column.cast(pa.string()), "\0"))
            if len(places):
                return LoadError(
                    "a text holds a NUL, which PostgreSQL cannot store",
                    where=f"table {parts.name}, column {field.name}, row {first + places[0].as_py()}",
                    got=repr(column[places[0].as_py()].as_py())[:100],
                    hint="take it out with a step, or write to Parquet or SQLite",
                )
        first += batch.num_rows
    return None
