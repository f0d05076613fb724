"""Read the parts of a table back from the work directory, in order and in pieces of the size a sink wants.

Parts are memory-mapped: rows that are not yet asked for cost no memory, and an uncompressed part is not copied.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from daskae.errors import ExchangeError
from daskae.load.base import TableParts


def read_batches(parts: TableParts, max_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table as record batches of at most ``max_rows``; none is empty.

    Raises
    ------
    ExchangeError
        When a part is missing, damaged or has other columns than the table.
    """
    for path in parts.files:
        with _reading(path), pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            _check_columns(reader.schema, parts, path)
            for index in range(reader.num_record_batches):
                batch = pa.RecordBatch.from_arrays(reader.get_batch(index).columns, schema=parts.schema)
                for start in range(0, batch.num_rows, max_rows):
                    yield batch.slice(start, max_rows)


def read_tables(parts: TableParts, rows: int) -> Iterator[pa.Table]:
    """Yield a table as pieces of exactly ``rows`` rows, the last one shorter; one empty piece if there are no rows."""
    pending: list[pa.RecordBatch] = []
    held, yielded = 0, False
    for batch in read_batches(parts, rows):
        room = rows - held
        pending.append(batch.slice(0, room))
        held += batch.num_rows
        if held >= rows:
            yield pa.Table.from_batches(pending, parts.schema)
            rest = batch.slice(room)
            pending, held, yielded = ([rest] if rest.num_rows else []), rest.num_rows, True
    if pending or not yielded:
        yield pa.Table.from_batches(pending, parts.schema)


def _check_columns(schema: pa.Schema, parts: TableParts, path: Path) -> None:
    if schema.names != parts.schema.names or schema.types != parts.schema.types:
        raise ExchangeError(
            f"a part of table {parts.name} has other columns than the table",
            where=str(path),
            got=_columns(schema),
            allowed=_columns(parts.schema),
            hint="run again with --fresh",
        )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the part when Arrow cannot read it. What the caller does with the rows is not caught here."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise ExchangeError(
            "a part in the work directory cannot be read",
            where=str(path),
            got=str(error),
            hint="run the same command again; a missing part is made anew, --fresh makes all anew",
        ) from error
