"""Write tables as Parquet files whose bytes depend on the rows and their order alone.

A file holds 262,144 rows, the last one of a table fewer, in row groups of 16,384, however the parts were cut. Each row
group is made contiguous before it is encoded, so page ends do not follow the parts either. Types are normalised, schema
metadata is dropped, and the writer's settings are fixed. Versions of pyarrow may differ in what they write.

Rows are read when their row group is written, and let go then, two files at once: a load of 400,000 rows of 20 columns
takes 76 MB. One file at a time would take 48 MB and up to twice as long, row groups of 131,072 rows of whole files 209
MiB and as long (measured by ``python -m benchmarks.loaders.peak``).

Settings were measured with a million rows of 20 columns: zstd at level 1 takes the time of snappy and a sixth less
room; dictionaries for texts alone take half the time of dictionaries for everything and less room too, because a
dictionary of amounts outgrows its page and the work is thrown away.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from daskae.arrow import to_scalar
from daskae.errors import LoadError
from daskae.load.base import FLAG_COLUMNS, Load, TableParts
from daskae.load.ledger import naive_utc
from daskae.load.parquet.batch import Places
from daskae.load.parquet.partitions import split
from daskae.load.parts import PartRows
from daskae.load.shape import Metadata

FILE_ROWS = 262_144
_GROUP_ROWS = 16_384
_THREADS = min(2, os.cpu_count() or 1)
_METADATA_TYPES = (pa.string(), pa.timestamp("us"), pa.int64())
_NO_PLACES = np.empty(0, np.int64)

FLAG_DEFAULTS: dict[str, pa.Scalar] = dict(
    zip(FLAG_COLUMNS, (to_scalar(True, pa.bool_()), to_scalar(None, pa.timestamp("us"))), strict=True)
)
"""What the columns of :data:`FLAG_COLUMNS` hold in rows that are in the source."""

_KINDS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_date,
    pa.types.is_decimal128,
)

Put = Callable[[str, pa.Schema, Iterable[pa.Table]], None]
"""Takes the name of a file, below the folder of its table, its columns and its row groups; encodes and stores them."""


@dataclass(frozen=True)
class Content:
    """Rows on their way into files."""

    parts: TableParts
    rows: PartRows
    places: Places
    """Places of the rows that are written, in order."""
    marks: Load | None
    """The load whose metadata columns they get; None when they have some already."""


def write_files(contents: Sequence[Content], schema: pa.Schema, first: str, put: Put) -> dict[str, int]:
    """Cut rows into folders and files and hand each file to ``put``, in threads; return the rows of each by name.

    No more rows are in memory than those of one row group for each thread.

    Parameters
    ----------
    contents : sequence of Content
        The rows of one table, in order.
    schema : pyarrow.Schema
        Schema of the files.
    first : str
        Name of the first file, ``0f3a99c1-00000``; further ones count on.
    put : callable
        Where the files go.
    """
    stem, _, digits = first.rpartition("-")
    written: dict[str, int] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        running: list[Future[None]] = []
        for number, (folder, pieces) in enumerate(_files(contents), int(digits)):
            name = f"{folder}/" if folder else ""
            name += f"{stem}-{number:05d}.parquet"
            running.append(pool.submit(put, name, schema, _groups(pieces, schema)))
            written[name] = sum(len(places) for _, places in pieces)
        try:
            for one in running:
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return written


_Piece = tuple[Content, Places]
"""Rows of one file that stand together in what is written."""


def _files(contents: Sequence[Content]) -> Iterator[tuple[str, list[_Piece]]]:
    """Say of each file in which folder it is and which rows it has."""
    folders = [split(one.parts, one.rows, one.places, one.parts.partition_by) for one in contents]
    for folder in sorted({name for found in folders for name in found}):
        pieces = [(content, found.get(folder, _NO_PLACES)) for content, found in zip(contents, folders, strict=True)]
        for file in _cut(pieces, FILE_ROWS):
            yield folder, file


def _groups(pieces: Sequence[_Piece], schema: pa.Schema) -> Iterator[pa.Table]:
    """Read the row groups of a file, one after another."""
    for group in _cut(pieces, _GROUP_ROWS):
        yield pa.concat_tables([_finished(content, places, schema) for content, places in group])


def _cut(pieces: Sequence[_Piece], rows: int) -> Iterator[list[_Piece]]:
    """Cut rows into runs of so many, the last one shorter."""
    pending: list[_Piece] = []
    held = 0
    for content, places in pieces:
        start = 0
        while start < len(places):
            pending.append((content, places[start : start + rows - held]))
            start, held = start + len(pending[-1][1]), held + len(pending[-1][1])
            if held == rows:
                yield pending
                pending, held = [], 0
    if pending:
        yield pending


def _finished(content: Content, places: Places, schema: pa.Schema) -> pa.Table:
    """Take rows and bring them to the schema of the files, with the metadata columns."""
    table = content.rows.take(places)
    if content.marks is not None:
        for name, value in mark_values(content.marks).items():
            table = table.append_column(name, pa.repeat(value, table.num_rows))
    if missing := [name for name in FLAG_COLUMNS if name in schema.names and name not in table.schema.names]:
        for name in missing:
            table = table.append_column(name, pa.repeat(FLAG_DEFAULTS[name], table.num_rows))
    return table.select(schema.names).cast(schema)


def mark_values(load: Load) -> dict[str, pa.Scalar]:
    """Return what the metadata columns hold in rows that a load writes."""
    values = (load.load_id, naive_utc(load.loaded_at), load.source_rows)
    marks = load.metadata
    columns = zip((marks.load_id, marks.loaded_at, marks.source_rows), values, _METADATA_TYPES, strict=True)
    return {name: to_scalar(value, kind) for name, value, kind in columns if name is not None}


def row_groups(table: pa.Table) -> Iterator[pa.Table]:
    """Cut a table that is there whole."""
    for start in range(0, table.num_rows, _GROUP_ROWS):
        yield table.slice(start, _GROUP_ROWS)


def encode(schema: pa.Schema, groups: Iterable[pa.Table], sink: Any) -> None:
    """Write one file to a path or an Arrow output stream."""
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    with pq.ParquetWriter(
        sink,
        schema,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=1,
        use_dictionary=texts or False,
        write_statistics=True,
        coerce_timestamps="us",
        store_schema=False,
    ) as writer:
        for group in groups:
            writer.write_table(group.combine_chunks(), row_group_size=_GROUP_ROWS)


def file_schema(parts: TableParts, metadata: Metadata, flags: bool = False) -> pa.Schema:
    """Return the schema of the files of a table: plain types, no metadata, the metadata columns last.

    With ``flags`` there are two more for rows that left the source.

    Raises
    ------
    LoadError
        When a column has a type that common readers of Parquet do not share.
    """
    plain = [pa.field(field.name, _plain(field, parts.name), field.nullable) for field in parts.schema]
    names = (metadata.load_id, metadata.loaded_at, metadata.source_rows)
    marks = [(name, kind) for name, kind in zip(names, _METADATA_TYPES, strict=True) if name is not None]
    marks += [(name, value.type) for name, value in FLAG_DEFAULTS.items()] if flags else []
    return pa.schema([*plain, *(pa.field(name, kind) for name, kind in marks)])


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
