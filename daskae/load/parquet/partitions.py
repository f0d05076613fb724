"""Folders named after values: ``cohort_month=2011-12-01``, as Hive, Spark, DuckDB and Polars read them.

The columns stay in the files too, so a reader that knows nothing of such folders misses nothing, and one that guesses
a type from a name can be told not to. A name is one path component whatever the value: all that is not a letter, a
digit or one of ``_-.+,@`` is written as ``%2F``. A null and an empty text share the folder that other tools use for
both; the column in the file tells them apart.
"""

from collections.abc import Sequence
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from daskae.errors import LoadError
from daskae.load.base import TableParts
from daskae.load.parquet.batch import Places
from daskae.load.parts import PartRows

_NOTHING = "__HIVE_DEFAULT_PARTITION__"
_KEPT = frozenset("_-.+,@")
_MOST_FOLDERS = 10_000
_MOST_BYTES = 255  # of one name, on common file systems
_BATCH_ROWS = 100_000
_KINDS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_date,
          pa.types.is_timestamp, pa.types.is_decimal)  # fmt: skip


def check_partitions(parts: TableParts) -> None:
    """Refuse columns that cannot make folders.

    Raises
    ------
    LoadError
        For a column that is not there, is named twice, or is of a kind whose values have more than one text.
    """
    where = f"[load] partition_by, table {parts.name}"
    if len(set(parts.partition_by)) != len(parts.partition_by):
        raise LoadError("a column is named twice", where, ", ".join(parts.partition_by))
    for name in parts.partition_by:
        if name not in parts.schema.names:
            raise LoadError("the table has no such column", where, name, ", ".join(parts.schema.names))
        kind = parts.schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(fits(kind) for fits in _KINDS):
            allowed = "string, integer, bool, date, timestamp, decimal"
            raise LoadError("a column of this type makes no folders", f"{where}, column {name}", str(kind), allowed)


def split(parts: TableParts, rows: PartRows, places: Places, columns: Sequence[str]) -> dict[str, Places]:
    """Sort places by the folder of their row.

    Raises
    ------
    LoadError
        When a name is too long for a file system, or there are too many folders.
    """
    if not columns:
        return {"": places} if len(places) else {}
    folders: dict[str, int] = {}
    chosen = []
    for start in range(0, len(places), _BATCH_ROWS):
        batch = rows.take(places[start : start + _BATCH_ROWS]).select(list(columns))
        chosen.append(_folders_of(batch, parts, folders))
    if not chosen:
        return {}
    numbers = np.concatenate(chosen)
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(len(folders) + 1))
    return {name: places[order[bounds[number] : bounds[number + 1]]] for name, number in folders.items()}


def folder_columns(name: str) -> tuple[str, ...]:
    """Return the columns in the folders of a file's name."""
    return tuple(unquote(part.partition("=")[0]) for part in name.split("/")[:-1])


def folder_name(column: str, value: str | None) -> str:
    """Write one column and the text of its value as the name of a folder."""
    text = _NOTHING if not value else _escape(value)
    if value == _NOTHING:
        text = f"%5F{_NOTHING[1:]}"
    return f"{_escape(column)}={text}"


def _escape(text: str) -> str:
    # Letters of all scripts stay: Spark takes %C3%BC for two letters.
    return "".join(c if c.isalnum() or c in _KEPT else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)


def _folders_of(batch: pa.Table, parts: TableParts, folders: dict[str, int]) -> Places:
    """Return the number of each row's folder, adding new ones to ``folders``."""
    mixed = np.zeros(batch.num_rows, np.int64)
    texts: list[list[str | None]] = []
    for column in batch.columns:
        coded = _text(column).combine_chunks().dictionary_encode(null_encoding="encode")
        texts.append(coded.dictionary.to_pylist())
        mixed = mixed * len(coded.dictionary) + coded.indices.to_numpy(zero_copy_only=False)
    found, inverse = np.unique(mixed, return_inverse=True)
    numbers = np.empty(len(found), np.int64)
    for at, combined in enumerate(found.tolist()):
        values: list[str | None] = []
        for dictionary in reversed(texts):
            combined, code = divmod(combined, len(dictionary))
            values.insert(0, dictionary[code])
        name = "/".join(map(folder_name, batch.column_names, values))
        numbers[at] = folders.setdefault(name, len(folders))
        _check_folder(name, parts, len(folders))
    return numbers[inverse]


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    column = column.cast(kind)
    text = column.cast(pa.string())
    return pc.replace_substring_regex(text, r"\.0+$", "") if pa.types.is_timestamp(kind) else text


def _check_folder(name: str, parts: TableParts, folders: int) -> None:
    where = f"[load] partition_by, table {parts.name}"
    if any(len(part.encode()) > _MOST_BYTES for part in name.split("/")):
        raise LoadError("a value is too long to name a folder", where, name[:100], f"{_MOST_BYTES} bytes")
    if folders > _MOST_FOLDERS:
        raise LoadError(
            "the values make too many folders", where, f"more than {_MOST_FOLDERS}", f"{_MOST_FOLDERS}",
            "name a column with fewer values",
        )  # fmt: skip
