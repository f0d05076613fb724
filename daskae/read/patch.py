"""Corrected records in place of those that a source holds.

A correction is the whole text of one record and its place: the byte offset of the record in a plain CSV file, its row
in the segment elsewhere. A batch with corrections is the batch that the mended source would have given: same row
numbers, same order, cells and raw text of the corrected records. What is still wrong with them shows as before. Byte
offsets stay those of the source as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from daskae.batch import Batch, RawRows, RowNumbers
from daskae.durable import replacing
from daskae.errors import ExchangeError
from daskae.hashing import digest_texts
from daskae.partition import Segment
from daskae.read.csv import parse_records
from daskae.read.dialect import Dialect
from daskae.read.record_text import are_records
from daskae.read.typed_row import cast_values, changed_values

ColumnsOf = Callable[[Segment], Sequence[str]]


@dataclass(frozen=True)
class Patch:
    """The corrections of one segment, by rising position."""

    positions: NDArray[np.int64]
    texts: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Identity of positions and texts."""
        return digest_texts(*(f"{p}:{text}" for p, text in zip(self.positions.tolist(), self.texts, strict=True)))


def is_by_offset(segment: Segment, dialect: Dialect) -> bool:
    """Whether the bytes that are parsed are those of the file, so that a record has a byte offset."""
    return segment.kind == "csv" and not segment.compression and not dialect.is_wide


def load_patch(path: str, digest: str) -> Patch:
    """Read the corrections of a segment.

    Raises
    ------
    ExchangeError
        If they are not what they were when the run was planned.
    """
    try:
        table = pq.read_table(path)
        patch = Patch(table["position"].to_numpy(), tuple(table["text"].to_pylist()))
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise ExchangeError("corrections of an input are damaged or gone", path, str(error)[:200]) from error
    if patch.digest != digest:
        raise ExchangeError("corrections of an input are not those that were planned", path, patch.digest, digest)
    return patch


def save_patch(patch: Patch, path: Path) -> None:
    """Write corrections for :func:`load_patch`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"position": patch.positions, "text": pa.array(patch.texts, pa.large_string())})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def patched(
    batches: Iterator[Batch], segments: Sequence[Segment], dialect: Dialect, columns: ColumnsOf
) -> Iterator[Batch]:
    """Put the corrections of segments into the batches that are read from them."""
    patches = {i: load_patch(s.corrections, s.corrections_digest) for i, s in enumerate(segments) if s.corrections}
    done = dict.fromkeys(patches, 0)
    for batch in batches:
        rows, texts = _found(batch, segments, dialect, patches, done)
        if not len(rows):
            yield batch
            continue
        segment = segments[batch.spans[0].segment]
        if segment.kind == "csv":
            yield _csv_patched(batch, rows, texts, segment.columns, columns(segment), dialect)
        else:
            yield _typed_patched(batch, rows, texts)


def _found(
    batch: Batch, segments: Sequence[Segment], dialect: Dialect, patches: dict[int, Patch], done: dict[int, int]
) -> tuple[RowNumbers, list[str]]:
    """Find the rows of a batch that are corrected, rising, and their corrections."""
    rows: list[RowNumbers] = []
    texts: list[str] = []
    first = 0
    for span in batch.spans:
        patch = patches.get(span.segment)
        if patch is not None and span.rows:
            by_offset = is_by_offset(segments[span.segment], dialect)
            places = _offsets(batch, first, span.rows, patch) if by_offset else np.arange(span.rows)
            here, which = _matches(places, patch.positions - (0 if by_offset else done[span.segment]))
            done[span.segment] += span.rows
            rows.append(here + first)
            texts += [patch.texts[i] for i in which.tolist()]
        first += span.rows
    found = np.concatenate(rows) if rows else np.empty(0, np.int64)
    if segments[batch.spans[0].segment].kind != "csv":
        return found, texts
    # Under another dialect than that of the run it was made for, a text may be something else than one record.
    good = are_records(texts, dialect)
    return found[good], [text for text, use in zip(texts, good, strict=True) if use]


def _offsets(batch: Batch, first: int, count: int, patch: Patch) -> NDArray[np.int64]:
    """Return the byte offsets of some rows of a batch; none of them if no correction lies between their ends."""
    _, ends = batch.raw(np.array([first, first + count - 1]))
    low, high = np.searchsorted(patch.positions, ends.to_numpy() + np.array([0, 1]))
    if low == high:
        return np.empty(0, np.int64)
    _, offsets = batch.raw(np.arange(first, first + count))
    return offsets.to_numpy()


def _matches(places: NDArray[np.int64], positions: NDArray[np.int64]) -> tuple[RowNumbers, NDArray[np.int64]]:
    """Return the rows at the positions, and the indices of the positions that are places of rows."""
    if not len(places):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    row = np.searchsorted(places, positions).clip(max=len(places) - 1)
    which = np.flatnonzero(places[row] == positions)
    return row[which].astype(np.int64), which


def _csv_patched(
    batch: Batch, rows: RowNumbers, texts: list[str], names: Sequence[str], columns: Sequence[str], dialect: Dialect
) -> Batch:
    """Parse the corrections as records of their own, and put them where they belong."""
    new = parse_records(texts, names, dialect, columns)
    kept = ~np.isin(batch.row_numbers(), rows)
    numbers = np.concatenate([batch.row_numbers()[kept], rows[new.row_numbers()]])
    order = np.argsort(numbers, kind="stable")
    cells = pl.concat([batch.cells.filter(pl.Series(kept)), new.cells])[order]
    corrected = set(rows.tolist())
    broken = [item for item in batch.broken if item.row not in corrected]
    broken += [replace(item, row=int(rows[item.row])) for item in new.broken]
    is_header = None
    if batch.is_header is not None or new.is_header is not None:
        is_header = pl.Series(np.concatenate([_flags(batch)[kept], _flags(new)])[order])
    return replace(
        batch, cells=cells, broken=sorted(broken, key=lambda item: item.row), is_header=is_header,
        raw=_PatchedRaw(batch.raw, rows, texts), starts=_unknown, corrected=len(rows),
    )  # fmt: skip


def _flags(batch: Batch) -> NDArray[np.bool_]:
    if batch.is_header is None:
        return np.zeros(batch.cells.height, bool)
    return batch.is_header.to_numpy().astype(bool)


def _unknown() -> None:
    """The raw text of a corrected row is not at its place in the source."""


class _PatchedRaw:
    """Raw text and places of rows, with the text of corrected rows."""

    def __init__(self, raw: RawRows, rows: RowNumbers, texts: list[str]) -> None:
        self._raw, self._texts = raw, dict(zip(rows.tolist(), texts, strict=True))

    def __call__(self, rows: RowNumbers) -> tuple[pl.Series, pl.Series]:
        """Return (texts, byte offsets) of the rows with these indices."""
        texts, offsets = self._raw(rows)
        hits = [(i, self._texts[row]) for i, row in enumerate(rows.tolist()) if row in self._texts]
        if hits:
            texts = texts.scatter([i for i, _ in hits], [text for _, text in hits])
        return texts, offsets


def _typed_patched(batch: Batch, rows: RowNumbers, texts: list[str]) -> Batch:
    """Change the cells that differ from the source's, each to a value of its column's type."""
    before, _ = batch.raw(rows)
    changes: dict[str, list[tuple[int, str | None]]] = {}
    for row, old, new in zip(rows.tolist(), before, texts, strict=True):
        for name, value in changed_values(old, new).items():
            changes.setdefault(name, []).append((row, value))
    cells = batch.cells
    for name in set(changes) & set(cells.columns):
        column = cells[name]
        target = column.head(0).to_arrow(compat_level=pl.CompatLevel.oldest()).type
        values = pl.Series(pl.from_arrow(cast_values([value for _, value in changes[name]], target, name)))
        order = np.arange(column.len())
        order[[row for row, _ in changes[name]]] = column.len() + np.arange(len(values))
        cells = cells.with_columns(pl.concat([column.rechunk(), values.cast(column.dtype)])[order].alias(name))
    return replace(
        batch, cells=cells, raw=_PatchedRaw(batch.raw, rows, texts), starts=_unknown, corrected=len(rows)
    )  # fmt: skip
