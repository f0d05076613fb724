"""Corrections of rejected rows, kept in the work directory: input, not cache.

One file with a checksum holds them all; it is replaced whole, so a reader finds the old or the new one. A correction
belongs to a piece of a source, known by its place and the hash of its bytes: while the piece is the same, every run
over the file takes the corrected record in place of the source's.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from daskae.durable import replacing, sync_names
from daskae.errors import InputError
from daskae.faults import crash_point
from daskae.sealed import seal, unseal

_FOLDER = "corrections"
_FILE = "corrections.json"
_KEY = ("label", "position", "by_row", "piece_start", "piece_end", "piece_digest")


@dataclass(frozen=True)
class Correction:
    """The text that stands in for one record of a source."""

    label: str
    position: int
    """Byte offset of the record, or its row in the file from 0."""
    by_row: bool
    """Whether the position is a row."""
    text: str
    piece_start: int
    piece_end: int
    piece_digest: str
    row_number: int
    run_id: str
    """Run that rejected the row."""


_TYPES: dict[Any, pl.DataType] = {int: pl.Int64(), str: pl.String(), bool: pl.Boolean()}
_SCHEMA = pl.Schema({field.name: _TYPES[field.type] for field in fields(Correction)})


def corrections_path(work: Path) -> Path:
    """Return where a work directory keeps its corrections."""
    return work / _FOLDER / _FILE


def load_corrections(work: Path) -> pl.DataFrame:
    """Read all corrections, in the order they came; an empty frame where there are none.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = corrections_path(work)
    if not path.exists():
        return pl.DataFrame(schema=_SCHEMA)
    try:
        return pl.DataFrame(unseal(path.read_text()), schema=_SCHEMA)
    except (OSError, ValueError) as error:
        raise InputError(
            "the corrections of rejected rows cannot be read", str(path), str(error)[:200],
            hint="remove the file to go on without them",
        ) from error  # fmt: skip


def count_corrections(work: Path) -> dict[str, int]:
    """Return how many corrections each file has."""
    labels = load_corrections(work)["label"]
    return dict(labels.value_counts(sort=False).sort("label").iter_rows())


def store_corrections(work: Path, found: Sequence[Correction]) -> int:
    """Add corrections, durably and all or none; of two for one record the later one counts.

    Returns
    -------
    int
        How many say something new.

    Raises
    ------
    InputError
        If they cannot be written.
    """
    added = pl.DataFrame({name: [getattr(item, name) for item in found] for name in _SCHEMA}, schema=_SCHEMA)
    with _locked(work):
        known = load_corrections(work)
        new = added.join(known, on=[*_KEY, "text"], how="anti").height
        if new:
            _replace(work, pl.concat([known, added]).unique(list(_KEY), keep="last", maintain_order=True))
    return new


def forget_corrections(work: Path, labels: Sequence[str] | None) -> int:
    """Remove the corrections of some files, or of all; returns how many there were.

    Raises
    ------
    InputError
        If they cannot be written.
    """
    if not corrections_path(work).exists():
        return 0
    with _locked(work):
        known = load_corrections(work)
        kept = known.clear() if labels is None else known.filter(~pl.col("label").is_in(list(labels)))
        if kept.height < known.height:
            _replace(work, kept)
        return known.height - kept.height


def forget_customers(work: Path, pattern: str, *, dry_run: bool = False) -> int:
    """Remove the corrections whose text names a customer, by a pattern of Polars; returns how many there were.

    Raises
    ------
    InputError
        If they cannot be read or written.
    """
    if not corrections_path(work).parent.is_dir():
        return 0
    with _locked(work):
        for left in () if dry_run else (work / _FOLDER).glob("*.tmp"):
            left.unlink()
        known = load_corrections(work)
        kept = known.filter(~pl.any_horizontal(pl.col("label", "text").str.contains(pattern)))
        if kept.height < known.height and not dry_run:
            _replace(work, kept)
        return known.height - kept.height


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Change the file one after the other; the kernel frees the lock of a process that dies."""
    folder = work / _FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(work: Path, table: pl.DataFrame) -> None:
    path = corrections_path(work)
    try:
        with replacing(path, synced=True) as temporary:
            temporary.write_text(seal(table.to_dicts()))
            crash_point("corrections.before_rename")
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_names(path.parent)  # the run that made the work directory did not wait for that
    crash_point("corrections.stored")


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        "corrections cannot be written", str(path), error.strerror or str(error), hint="free some space, or give access"
    )
