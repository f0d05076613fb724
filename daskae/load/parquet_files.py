"""Write tables as Parquet files whose bytes depend on the rows and their order alone.

A file holds 262,144 rows, the last one of a table fewer, in row groups of 131,072, however the parts were cut. Each row
group is made contiguous before it is encoded, so page ends do not follow the parts either. Types are normalised, schema
metadata is dropped, and the writer's settings are fixed. Versions of pyarrow may differ in what they write.

Settings were measured with a million rows of 20 columns: zstd at level 1 takes the time of snappy and a sixth less
room; dictionaries for texts alone take half the time of dictionaries for everything and less room too, because a
dictionary of amounts outgrows its page and the work is thrown away.
"""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daskae.errors import LoadError
from daskae.load.base import METADATA_COLUMNS, Load, TableParts
from daskae.load.ledger import naive_utc
from daskae.load.parts import read_tables

FILE_ROWS = 262_144
_GROUP_ROWS = 131_072
_MOST_WORKERS = 4  # each holds the rows of a file: more would cost memory on a machine that has many cores
_METADATA_TYPES = (pa.string(), pa.timestamp("us"), pa.int64())

_KINDS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_date,
    pa.types.is_decimal128,
)

Put = Callable[[str, int, pa.Table], None]
"""Takes the table's name, the number of the file and its rows; encodes and stores them."""


def write_files(load: Load, put: Put) -> None:
    """Cut every table of a load into files and hand each to ``put``, in threads.

    No more rows are in memory than those of one file for each thread and one more.

    Raises
    ------
    LoadError
        When a table has other rows than announced.
    """
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    running: deque[Future[None]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for parts in load.tables:
                rows, schema = 0, file_schema(parts)
                for number, table in enumerate(read_tables(parts, FILE_ROWS)):
                    rows += table.num_rows
                    running.append(pool.submit(_finish, put, parts.name, number, table, schema, load))
                    if len(running) > workers:
                        running.popleft().result()
                _check_rows(parts, rows)
            while running:
                running.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def encode(table: pa.Table, sink: Any) -> None:
    """Write one file to a path or an Arrow output stream."""
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(
        sink,
        table.schema,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=1,
        use_dictionary=texts or False,
        write_statistics=True,
        coerce_timestamps="us",
        store_schema=False,
    ) as writer:
        for start in range(0, table.num_rows, _GROUP_ROWS):
            writer.write_table(table.slice(start, _GROUP_ROWS).combine_chunks(), row_group_size=_GROUP_ROWS)


def file_schema(parts: TableParts) -> pa.Schema:
    """Return the schema of the files of a table: plain types, no metadata, the metadata columns last.

    Raises
    ------
    LoadError
        When a column has a type that common readers of Parquet do not share.
    """
    plain = [pa.field(field.name, _plain(field, parts.name), field.nullable) for field in parts.schema]
    return pa.schema([*plain, *map(pa.field, METADATA_COLUMNS, _METADATA_TYPES)])


def check_older_file(older: Any, schema: pa.Schema, parts: TableParts) -> None:
    """Refuse to put files beside an older one that has other columns: readers take the columns of any one of them.

    Parameters
    ----------
    older : Path or file object
        A file of the same table by another load.

    Raises
    ------
    LoadError
        When the columns differ, or the older file is damaged.
    """
    try:
        found = pq.read_schema(older)
    except pa.ArrowInvalid as error:
        raise LoadError(
            "a file in the target is damaged", where=str(older), got=str(error), hint="use the strategy replace"
        ) from error
    if (found.names, found.types) != (schema.names, schema.types):
        raise LoadError(
            "the table has other columns than the result",
            where=f"table {parts.name}",
            got=", ".join(f"{field.name} {field.type}" for field in found),
            allowed=", ".join(f"{field.name} {field.type}" for field in schema),
            hint="use the strategy replace, or another target",
        )


def _plain(field: pa.Field, table: str) -> pa.DataType:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if any(fits(kind) for fits in _KINDS):
        return kind
    raise LoadError(
        "a column of this type is not written to Parquet",
        where=f"table {table}, column {field.name}",
        got=str(field.type),
        allowed="string, integer, float, bool, date, timestamp, decimal128",
    )


def _finish(put: Put, name: str, number: int, table: pa.Table, schema: pa.Schema, load: Load) -> None:
    """Add the metadata columns, bring all columns to the schema of the files, and put the file."""
    values = (load.load_id, naive_utc(load.loaded_at), load.source_rows)
    for column, kind, value in zip(METADATA_COLUMNS, _METADATA_TYPES, values, strict=True):
        table = table.append_column(pa.field(column, kind), pa.repeat(pa.scalar(value, kind), table.num_rows))
    put(name, number, table.cast(schema))


def _check_rows(parts: TableParts, rows: int) -> None:
    if rows != parts.rows:
        raise LoadError(
            "the rows of a table do not add up",
            where=f"table {parts.name}",
            got=f"{rows} rows in its parts",
            allowed=f"{parts.rows} rows announced",
            hint="the target is unchanged; run again with --fresh",
        )
