"""Keys of a batch: those that are null or repeated, and the errors that name them, the same for every target."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from daskae.errors import LoadError
from daskae.load.base import LoadOptions, TableParts

NULL_KEY = "null_key"
DUPLICATE_KEY = "duplicate_key"
SHOWN_KEYS = 5
_PLACES = ("first", "last")


def orders_duplicates(options: LoadOptions, columns: Sequence[str]) -> bool:
    """Tell whether the options say which row of a repeated key stays; else it is an error."""
    return options.duplicates in _PLACES or (options.duplicates != "error" and options.duplicates in columns)


def changing_columns(columns: Sequence[str], keys: Sequence[str], options: LoadOptions) -> tuple[str, ...]:
    """Name the columns that an upsert or a merge may change in existing rows."""
    free = tuple(name for name in columns if name not in keys)
    named = tuple(name for name in free if name in options.update_columns)
    return named or free


def several_rows_error(parts: TableParts, strategy: str, found: Sequence[Sequence[Any]]) -> LoadError:
    """Name keys that the target holds more than once."""
    return LoadError(
        f"the table holds several rows of a key, so there is no one row to {strategy}",
        f"table {parts.name}, key ({', '.join(parts.keys)})",
        _shown(parts, found),
        "one row for each key",
        "loads that were appended share keys; replace the table first, or append again",
    )


def without_null_keys(batch: pa.RecordBatch, keys: Sequence[str]) -> tuple[pa.RecordBatch, pa.BooleanArray | None]:
    """Split rows with a null in their key off; the mask of those rows is None when there are none."""
    nulls = [batch.column(key).is_null() for key in keys if batch.column(key).null_count]
    if not nulls:
        return batch, None
    mask = nulls[0]
    for more in nulls[1:]:
        mask = pc.or_(mask, more)
    return batch.filter(pc.invert(mask)), mask


def null_error(parts: TableParts, batch: pa.RecordBatch, nulls: pa.BooleanArray) -> LoadError:
    """Name keys of the batch that are null in part."""
    rows = batch.filter(nulls).select(list(parts.keys)).slice(0, SHOWN_KEYS).to_pylist()
    hint = 'mend the input, or set null_keys in [load] to "reject" or "match"; the target is unchanged'
    return _key_error("a key is null in the result", parts, [tuple(row.values()) for row in rows], hint)


def repeated_error(parts: TableParts, keys: Sequence[Sequence[Any]]) -> LoadError:
    """Name keys that the batch holds more than once."""
    hint = 'mend the input, or set duplicates in [load] to "first", "last" or a column; the target is unchanged'
    return _key_error("a key appears more than once in the result", parts, keys, hint)


def row_error(parts: TableParts, got: str, allowed: str) -> LoadError:
    """Say that rows are not where they should be."""
    hint = "the target is unchanged; run again with --fresh"
    return LoadError("the rows of a table do not add up", f"table {parts.name}", got, allowed, hint)


def _key_error(what: str, parts: TableParts, keys: Sequence[Sequence[Any]], hint: str) -> LoadError:
    return LoadError(
        what,
        where=f"table {parts.name}, key ({', '.join(parts.keys)})",
        got=_shown(parts, keys),
        allowed="one row for each key",
        hint=hint,
    )


def _shown(parts: TableParts, keys: Sequence[Sequence[Any]]) -> str:
    more = " ..." if len(keys) == SHOWN_KEYS else ""
    if parts.personal:
        return f"{len(keys)}{' or more' if more else ''}, which are hidden by privacy.mask"
    shown = ("(" + ", ".join("null" if value is None else str(value) for value in key) + ")" for key in keys)
    return ", ".join(shown) + more
