"""Upsert and merge into files: rows are compared file by file, and only files in which something changes are rewritten.

The rules are those of the databases (:mod:`daskae.load.sql.strategies`): keys of the batch are unique, equal rows stay
untouched with the marks of the load that brought them, and every count is exact. In memory are hashes of the keys of
the batch and of the target, the rows of one file, and a slice of them with what it is compared to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from daskae.arrow import to_array, to_scalar
from daskae.load.base import FLAG_COLUMNS, Changes, Load
from daskae.load.keys import changing_columns, several_rows_error
from daskae.load.ledger import naive_utc
from daskae.load.parquet.batch import Batch, Hashes, Places, hash_keys, key_frame, repeated, repeated_keys
from daskae.load.parquet.older import Older, widen
from daskae.load.parquet.writing import FLAG_DEFAULTS, mark_values

_ACTIVE, _SINCE = FLAG_COLUMNS
_SLICE_ROWS = 65_536  # compared at a time: old, new and changed rows are in memory together

Mask = npt.NDArray[np.bool_]


@dataclass
class Merge:
    """One batch on its way through the files of its table."""

    load: Load
    batch: Batch
    older: Older
    schema: pa.Schema
    """Schema of the files as they will be."""
    changes: Changes = field(default_factory=Changes)
    _hashes: list[Hashes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._order = np.argsort(self.batch.hashes, kind="stable")
        self._sorted = self.batch.hashes[self._order]
        self._met = np.zeros(len(self.batch.hashes), bool)
        self._keys = self.batch.parts.keys
        self._plain = pa.schema([self.schema.field(name) for name in self.batch.parts.schema.names])

    def pass_through(self, name: str) -> pa.Table | None:
        """Compare one file with the batch; return its rows as they will be, or None when they stay as they are."""
        keys = self.older.read(name, self._keys)
        hashes = hash_keys(keys, self._keys)
        self._hashes.append(hashes)
        if not len(self._candidates(hashes)[0]) and not self._missing_matters:
            return None
        table = widen(self.older.read(name), self.schema)
        bounds = range(0, table.num_rows, _SLICE_ROWS)
        compared = [self._compare(table.slice(i, _SLICE_ROWS), hashes[i : i + _SLICE_ROWS]) for i in bounds]
        changed = any(differs for differs, _ in compared)
        return pa.concat_tables([rows for _, rows in compared]) if changed else None

    @property
    def _missing_matters(self) -> bool:
        return self.load.strategy == "merge" and self.load.options.on_missing != "keep"

    def _compare(self, table: pa.Table, hashes: Hashes) -> tuple[bool, pa.Table]:
        """Compare rows of a file with the batch; return whether they change, and what they are then."""
        at, nth = self._candidates(hashes)
        new = self.batch.rows.take(self.batch.places[nth]).cast(self._plain)
        equal = self._equal_keys(table.take(to_array(at)), new)
        at, nth, new = at[equal], nth[equal], new.filter(to_array(equal))
        self._met[nth] = True
        changed, table = self._update(table, at, new)
        if self._missing_matters:
            present = np.zeros(table.num_rows, bool)
            present[at] = True
            gone, table = self._deal_with_missing(table, ~present)
            changed |= gone
        return changed, table

    def new_places(self) -> Places:
        """Return the places of the rows whose keys no file holds; call it after the last file.

        Raises
        ------
        LoadError
            When the target holds a key more than once.
        """
        self._check_target()
        places = self.batch.places[~self._met]
        counts = self.changes
        unchanged = len(self._met) - len(places) - counts.updated
        self.changes = replace(counts, inserted=len(places), unchanged=unchanged)
        return places

    def _candidates(self, hashes: Hashes) -> tuple[Places, Places]:
        """Pair rows of a file with rows of the batch that have the same hash, in the order of the batch."""
        left, right = (np.searchsorted(self._sorted, hashes, side=side) for side in ("left", "right"))
        counts = right - left
        at = np.repeat(np.arange(len(hashes)), counts)
        within = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
        nth = self._order[np.repeat(left, counts) + within]
        order = np.argsort(nth, kind="stable")
        return at[order], nth[order]

    def _equal_keys(self, old: pa.Table, new: pa.Table) -> Mask:
        left, right = key_frame(old, self._keys), key_frame(new, self._keys)
        equal = np.ones(left.height, bool)
        for name in left.columns:
            match = self.load.options.null_keys == "match"
            same = left[name].eq_missing(right[name]) if match else (left[name] == right[name]).fill_null(False)
            equal &= same.to_numpy()
        return equal

    def _update(self, table: pa.Table, at: Places, new: pa.Table) -> tuple[bool, pa.Table]:
        """Put new values into the rows at these places, where they differ and may change."""
        old = table.take(to_array(at))
        columns = changing_columns(new.schema.names, self._keys, self.load.options)
        flags = _ACTIVE in table.schema.names
        idle = _frame(old, [_ACTIVE])[_ACTIVE].ne_missing(True).to_numpy() if flags else np.zeros(len(at), bool)
        left, right = _frame(old, columns), _frame(new, columns)
        differs = idle.copy()
        for name in columns:
            differs |= left[name].ne_missing(right[name]).to_numpy()
        updated = differs & self._is_newer(old, new)
        written = updated | idle  # a row that is in the source again is active, newer or not
        self.changes = replace(self.changes, updated=self.changes.updated + int(written.sum()))
        if not written.any():
            return False, table
        values = new.filter(to_array(updated)).take(to_array(np.argsort(at[updated], kind="stable")))
        mask = _mask(table, at[updated])
        for name in columns:
            column = pc.replace_with_mask(table[name].combine_chunks(), mask, values[name].combine_chunks())
            table = _set(table, name, column)
        return True, self._mark(table, _mask(table, at[written]), FLAG_DEFAULTS if flags else {})

    def _is_newer(self, old: pa.Table, new: pa.Table) -> Mask:
        name = self.load.options.only_if_newer
        if name not in new.schema.names:
            return np.ones(old.num_rows, bool)
        left, right = _frame(old, [name])[name], _frame(new, [name])[name]
        newer = (right > left) | left.is_null()
        return (newer & right.is_not_null()).fill_null(False).to_numpy()

    def _deal_with_missing(self, table: pa.Table, missing: Mask) -> tuple[bool, pa.Table]:
        """Delete or flag rows whose keys the batch does not hold."""
        if self.load.options.on_missing == "delete":
            self.changes = replace(self.changes, deleted=self.changes.deleted + int(missing.sum()))
            return bool(missing.any()), table.filter(to_array(~missing))
        missing &= _frame(table, [_ACTIVE])[_ACTIVE].ne_missing(False).to_numpy()
        self.changes = replace(self.changes, flagged=self.changes.flagged + int(missing.sum()))
        flags = {
            _ACTIVE: to_scalar(False, pa.bool_()),
            _SINCE: to_scalar(naive_utc(self.load.loaded_at), pa.timestamp("us")),
        }
        return bool(missing.any()), self._mark(table, to_array(missing), flags)

    def _mark(self, table: pa.Table, mask: pa.Array, flags: dict[str, pa.Scalar]) -> pa.Table:
        for name, value in {**mark_values(self.load), **flags}.items():
            table = _set(table, name, pc.if_else(mask, value, table[name].combine_chunks()))
        return table

    def _check_target(self) -> None:
        suspects = repeated(np.concatenate(self._hashes)) if self._hashes else np.empty(0, bool)
        if not suspects.any():
            return
        frames, start = [], 0
        for name, hashes in zip(self.older.names, self._hashes, strict=True):
            mask = suspects[start : start + len(hashes)]
            start += len(hashes)
            if mask.any():
                keys = self.older.read(name, self._keys).filter(to_array(mask))
                frames.append(key_frame(keys, self._keys))
        if found := repeated_keys(pl.concat(frames)):
            raise several_rows_error(self.batch.parts, self.load.strategy, found)


def _mask(table: pa.Table, at: Places) -> pa.Array:
    mask = np.zeros(table.num_rows, bool)
    mask[at] = True
    return to_array(mask)


def _set(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    number = table.schema.get_field_index(name)
    return table.set_column(number, table.schema.field(number), column)


def _frame(table: pa.Table, columns: Sequence[str]) -> pl.DataFrame:
    frame = pl.from_arrow(table.select(list(columns)))
    assert isinstance(frame, pl.DataFrame)
    return frame
