"""The files of a table that are in the target already: their columns, their rows, and how many came with a load."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daskae.errors import LoadError
from daskae.load.base import FLAG_COLUMNS, Load, TableParts
from daskae.load.checks import wants_flags
from daskae.load.parquet.writing import FLAG_DEFAULTS, file_schema


class Older:
    """The files of one table.

    Parameters
    ----------
    names : sequence of str
        Their names below the folder of the table.
    open_file : callable
        Opens one of them: gives a path, or a file to read from.
    """

    def __init__(self, names: Sequence[str], open_file: Callable[[str], AbstractContextManager[Any]]) -> None:
        self.names = names
        self.open_file = open_file
        self._footers: dict[str, pq.FileMetaData] = {}

    def is_damaged(self, name: str) -> bool:
        """Tell whether a file cannot even be opened."""
        try:
            self._footer(name)
        except LoadError:
            return True
        return False

    def schema(self, name: str) -> pa.Schema:
        """Return the columns of a file."""
        return self._footer(name).schema.to_arrow_schema()

    def rows(self, name: str) -> int:
        """Count the rows of a file."""
        return int(self._footer(name).num_rows)

    def rows_of(self, name: str, load: Load) -> int:
        """Count the rows of a file that came with a load: all of them where its settings want no column that tells."""
        mark, load_id = load.metadata.load_id, load.load_id
        if mark is None:
            return self.rows(name)
        footer = self._footer(name)
        column = self.schema(name).get_field_index(mark)
        if column < 0:
            return 0  # written under other settings
        bounds = [footer.row_group(number).column(column).statistics for number in range(footer.num_row_groups)]
        if not any(found.min <= load_id <= found.max for found in bounds):
            return 0
        if all(found.min == found.max for found in bounds):
            return sum(footer.row_group(i).num_rows for i, found in enumerate(bounds) if found.min == load_id)
        return int(pc.sum(pc.equal(self.read(name, [mark])[mark], load_id)).as_py() or 0)

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a file, or some columns of it."""
        names = self.schema(name).names if columns is None else list(columns)
        with self._opened(name) as file:
            return file.read(columns=names).select(names)  # a name with a point in it brings its prefix along

    def _footer(self, name: str) -> pq.FileMetaData:
        if name not in self._footers:
            with self._opened(name) as file:
                self._footers[name] = file.metadata
        return self._footers[name]

    @contextmanager
    def _opened(self, name: str) -> Iterator[pq.ParquetFile]:
        try:
            with self.open_file(name) as source, pq.ParquetFile(source) as file:
                yield file
        except (pa.ArrowInvalid, FileNotFoundError) as error:
            raise LoadError(
                "a file in the target is damaged",
                where=name,
                got=str(error),
                hint="use the strategy replace, without checks that would read it",
            ) from error


def target_schema(load: Load, parts: TableParts, older: Older, stem: str) -> pa.Schema:
    """Return the schema of the files of a table as it is with this load.

    Raises
    ------
    LoadError
        When there are files with other columns: readers take the columns of any one of them.
    """
    flags = wants_flags(load)
    for name in older.names:
        if may_be_lost(load, name, stem) and older.is_damaged(name):
            continue
        found = older.schema(name)
        flags = flags or set(FLAG_COLUMNS) <= set(found.names)
        if load.strategy != "replace":
            _check_columns(found, parts, load)
        break
    return file_schema(parts, load.metadata, flags)


def widen(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Add the flags to rows of a time before they were wanted."""
    for name in schema.names:
        if name not in table.schema.names:
            table = table.append_column(name, pa.repeat(FLAG_DEFAULTS[name], table.num_rows))
    return table.cast(schema)


def may_be_lost(load: Load, name: str, stem: str) -> bool:
    """Tell whether a load brings all rows of a file again."""
    return load.strategy == "replace" or (load.strategy == "append" and is_of(name, stem))


def is_of(name: str, stem: str) -> bool:
    """Tell whether a file was written by the load with this stem."""
    return name.rpartition("/")[2].startswith(f"{stem}-")


def _check_columns(found: pa.Schema, parts: TableParts, load: Load) -> None:
    wanted = file_schema(parts, load.metadata)
    known = pa.schema([field for field in found if field.name not in FLAG_COLUMNS])
    if (known.names, known.types) != (wanted.names, wanted.types):
        raise LoadError(
            "the table has other columns than the result",
            where=f"table {parts.name}",
            got=", ".join(f"{field.name} {field.type}" for field in found),
            allowed=", ".join(f"{field.name} {field.type}" for field in wanted),
            hint="use the strategy replace, or another target",
        )
