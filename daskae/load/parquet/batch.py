"""The batch of one table as its keys leave it: null and repeated keys taken out as the options say, or named.

Of every row a hash of its key is held, 8 bytes, and its place, 8 more; keys themselves are only read where two hashes
are equal. The hashes are never stored, so they may change with the library.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from daskae.arrow import to_array
from daskae.load.base import Load, Rejected, TableParts
from daskae.load.keys import (
    DUPLICATE_KEY,
    NULL_KEY,
    SHOWN_KEYS,
    null_error,
    orders_duplicates,
    repeated_error,
    row_error,
    without_null_keys,
)
from daskae.load.parts import PartRows, read_batches
from daskae.load.rejects import RejectFile, write_rejects

_BATCH_ROWS = 100_000
_PLACE, _ORDER = "place", "order"

Places = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Batch:
    """The rows of one table that are loaded, each key once."""

    parts: TableParts
    rows: PartRows
    places: Places
    """Places of the rows that are loaded, in order."""
    hashes: Hashes
    """Hashes of their keys; none for a table without keys."""
    rejected: tuple[Rejected, ...]

    def left_out(self, reason: str) -> int:
        """Count the rows that were left out for a reason."""
        return sum(found.rows for found in self.rejected if found.reason == reason)


def read_batch(load: Load, parts: TableParts) -> Batch:
    """Read the keys of a table and leave out what the options say.

    Raises
    ------
    LoadError
        When there are other rows than announced, or a key is null or repeated and the options call that an error.
    """
    batch = _without_null_keys(load, parts)
    if not parts.keys:
        return batch
    suspects = batch.places[repeated(batch.hashes)]
    if not len(suspects):
        return batch
    if not orders_duplicates(load.options, parts.schema.names):
        if keys := repeated_keys(key_frame(batch.rows.take(suspects), parts.keys)):
            raise repeated_error(parts, keys)
        return batch
    losers = _losers(batch, suspects, load.options.duplicates)
    numbered = _numbered(parts)
    rejected = write_rejects(load, parts, DUPLICATE_KEY, iter([pa.array(losers)] if len(losers) else []), numbered)
    kept = np.isin(batch.places, losers, invert=True, assume_unique=True)
    found = (*batch.rejected, rejected) if rejected else batch.rejected
    return replace(batch, places=batch.places[kept], hashes=batch.hashes[kept], rejected=found)


def hash_keys(rows: pa.Table, keys: Sequence[str]) -> Hashes:
    """Return a hash of the key of every row; nulls are equal to each other."""
    return key_frame(rows, keys).hash_rows().to_numpy()


def key_frame(rows: pa.Table, keys: Sequence[str]) -> pl.DataFrame:
    """Return the keys under the names that they have in this module, whatever the user calls them."""
    return pl.DataFrame({f"key{number}": _series(rows[key]) for number, key in enumerate(keys)})


def repeated(hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Mark the hashes that appear more than once."""
    ordered = np.sort(hashes)
    return np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]])


def repeated_keys(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    """List the first few keys that more than one row has."""
    keys = frame.columns
    counted = frame.group_by(keys).agg(pl.len().alias("rows")).filter(pl.col("rows") > 1)
    return counted.sort(keys).select(keys).head(SHOWN_KEYS).rows()


def _without_null_keys(load: Load, parts: TableParts) -> Batch:
    hashes, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    position = 0
    with RejectFile(load, parts, NULL_KEY) as nulls:
        for batch in read_batches(parts, _BATCH_ROWS):
            numbers = np.arange(position, position + batch.num_rows)
            good, mask = (batch, None) if load.options.null_keys == "match" else without_null_keys(batch, parts.keys)
            if mask is not None:
                if load.options.null_keys == "error":
                    raise null_error(parts, batch, mask)
                nulls.write(batch, mask, position + 1)
                numbers = numbers[~mask.to_numpy(zero_copy_only=False)]
            places.append(numbers)
            if parts.keys:
                hashes.append(hash_keys(pa.Table.from_batches([good]), parts.keys))
            position += batch.num_rows
    if position != parts.rows:
        raise row_error(parts, f"{position} rows in its parts", f"{parts.rows} rows announced")
    result = nulls.result()
    rejected = (result,) if result else ()
    return Batch(parts, PartRows(parts), np.concatenate(places), np.concatenate(hashes), rejected)


def _losers(batch: Batch, suspects: Places, rule: str) -> Places:
    """Find the places of the rows that lose against another row of their key."""
    rows = batch.rows.take(suspects)
    frame = key_frame(rows, batch.parts.keys)
    keys = frame.columns
    frame = frame.with_columns(pl.Series(_PLACE, suspects))
    if rule in ("first", "last"):
        frame = frame.sort(_PLACE, descending=rule == "last")
    else:
        frame = frame.with_columns(_series(rows[rule]).alias(_ORDER))
        frame = frame.sort(_ORDER, _PLACE, descending=True, nulls_last=True)
    losing = frame.filter(~pl.struct(keys).is_first_distinct())
    return np.sort(losing[_PLACE].to_numpy())


def _numbered(parts: TableParts) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
    position = 0
    for batch in read_batches(parts, _BATCH_ROWS):
        yield batch, to_array(np.arange(position, position + batch.num_rows))
        position += batch.num_rows


def _series(column: pa.ChunkedArray) -> pl.Series:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    series = pl.from_arrow(column.cast(kind))
    assert isinstance(series, pl.Series)
    return series
