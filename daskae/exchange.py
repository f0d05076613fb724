"""Rows between map and reduce, as files; and how a task's output becomes durable.

A file holds rows sorted by *slot*, one of 256 equal ranges of a stable hash, as record batches of a few thousand rows;
each holds a run of slots and says where each begins. A reduce task reads only the batches of its slots. Buckets are
runs of slots, so their number can follow the size of the input while files of earlier runs stay useful. Batches are
read, not mapped into memory: a page fault maps up to two megabytes around what is touched, and hundreds of those made
the resident memory of a task grow with the number of files.

A task writes its files under names of its own attempt and then links a manifest to the final name. The link is the
commit: it fails if somebody was first, so of two attempts one wins, and a killed one leaves only files that no manifest
names.
"""

import io
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from daskae.errors import DaskaeError, ExchangeError
from daskae.faults import crash_point
from daskae.hashing import U64, bucket_of, file_checksum
from daskae.partition import ExchangeFile
from daskae.sealed import seal, unseal

SLOTS = 256
MANIFEST = "manifest.json"
_OFFSETS = "slot_offsets"
_GROUPS = b"slot_groups"
_GROUP_ROWS, _FEWEST_ROWS = 16_384, 1024
"""Rows of a record batch, roughly; no fewer than the latter where there are more buckets than such batches."""
_ATTEMPT = re.compile(r"-[0-9a-f]{16}(?=[-.])")
"""What an attempt has put into a file's name."""
_WRITE_BUFFER = 1 << 20
"""Bytes handed to the system at once: a file written in pieces of some kilobytes takes twice the time (measured)."""


def slots_of(hashes: U64) -> NDArray[np.uint16]:
    """Return the slot of each hash."""
    return bucket_of(hashes, SLOTS)


class ExchangeWriter:
    """Writes one exchange file; a context manager. Nothing is written until the first rows come.

    Parameters
    ----------
    folder : Path
    stem : str
        How the file's name begins.
    buckets : int
        Into how many parts the slots will be read, so that none reads more batches than its own.
    """

    def __init__(self, folder: Path, stem: str, buckets: int = 1) -> None:
        self._folder, self._buckets = folder, buckets
        self.name = f"{stem}-{secrets.token_hex(8)}.arrow"
        self._writer: Any = None
        self._sink: Any = None
        self._rows = 0

    def __enter__(self) -> "ExchangeWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        # A file that could not be written cannot be closed either, and what went wrong first is what counts.
        with suppress(OSError, pa.ArrowException) if any(exc) else nullcontext():
            writer.close()
            self._sink.close()

    def append(self, frame: pl.DataFrame, slots: NDArray[np.uint16]) -> None:
        """Sort rows by slot, keeping their order within one, and write them as a batch for each group of slots."""
        if not frame.height:
            return
        order = np.argsort(slots, kind="stable")
        batch = _to_batch(frame[order])
        starts = np.searchsorted(slots[order], np.arange(SLOTS + 1)).astype("<i8")
        groups = max(frame.height // _GROUP_ROWS, min(self._buckets, frame.height // _FEWEST_ROWS), 1)
        self._open(batch.schema, min(SLOTS, 1 << groups.bit_length() - 1))
        width = SLOTS // self._groups
        for first in range(0, SLOTS, width):
            here = starts.clip(starts[first], starts[first + width])
            self._write(batch.slice(here[0], here[-1] - here[0]), here - here[0])

    def append_unsorted(self, frame: pl.DataFrame) -> None:
        """Write rows that belong to no slot, as they are; they are read as slot 0."""
        batch = _to_batch(frame)
        self._open(batch.schema, 1)
        self._write(batch, np.array([0] + [frame.height] * SLOTS, "<i8"))

    def _open(self, schema: pa.Schema, groups: int) -> None:
        if self._writer is None:
            self._groups = groups
            self._file = _SummedFile(self._folder / self.name)
            self._sink = pa.BufferedOutputStream(pa.PythonFile(self._file, "w"), _WRITE_BUFFER)
            self._writer = pa.ipc.new_file(self._sink, schema.with_metadata({_GROUPS: str(groups).encode()}))

    def _write(self, batch: pa.RecordBatch, offsets: NDArray[np.int64]) -> None:
        self._writer.write_batch(batch, custom_metadata={_OFFSETS: offsets.tobytes()})
        self._rows += batch.num_rows
        crash_point("exchange.writing")

    def finish(self) -> ExchangeFile | None:
        """Close the file and describe it; None if nothing was written."""
        if self._writer is None:
            return None
        self.__exit__()
        return ExchangeFile(self.name, self._rows, self._file.size, str(self._file.sum.hexdigest()))


class _SummedFile(io.RawIOBase):
    """A file to write that sums up what it is given, so that it need not be read again."""

    def __init__(self, path: Path) -> None:
        self._inner = path.open("xb", buffering=0)
        self.size, self.sum = 0, xxhash.xxh3_128()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self.sum.update(view)
        self.size += len(view)
        while view:  # a write may take less than it is given
            view = view[self._inner.write(view) :]
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


def _to_batch(frame: pl.DataFrame) -> pa.RecordBatch:
    """Return at least one row as one batch."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks().to_batches()[0]


def read_slots(path: Path, first: int, last: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of slots ``[first, last)``, a table for each batch that has any.

    Raises
    ------
    ExchangeError
        If the file is missing or not readable.
    """
    try:
        with pa.OSFile(str(path)) as source:
            reader = pa.ipc.open_file(source)
            if columns is not None:
                fields = [reader.schema.get_field_index(name) for name in columns]
                reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
            groups = int(reader.schema.metadata[_GROUPS])
            for i in range(reader.num_record_batches):
                group, width = i % groups, SLOTS // groups
                if group * width >= last or (group + 1) * width <= first:
                    continue
                batch, metadata = reader.get_batch_with_custom_metadata(i)
                offsets = np.frombuffer(metadata[_OFFSETS.encode()], "<i8")
                start, stop = int(offsets[first]), int(offsets[last])
                if stop > start:
                    table = pa.Table.from_batches([batch.slice(start, stop - start)]).replace_schema_metadata()
                    yield table.select(list(columns)) if columns is not None else table
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise ExchangeError("an intermediate file is damaged or gone", str(path), str(error)[:200]) from error


def read_frame(
    paths: Sequence[Path], first: int = 0, last: int = SLOTS, columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """Read slots of several files into one frame; no file gives a frame without columns."""
    tables = [table for path in paths for table in read_slots(path, first, last, columns)]
    if not tables:
        return pl.DataFrame()
    return pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))


def commit(folder: Path, manifest: dict[str, Any], *, compare: bool = True) -> dict[str, Any]:
    """Make a task's output valid, or give back the output of the attempt that was first.

    The manifest is written whole and linked to its name. Nothing is synced, which would cost more than the task's other
    writes: what a power cut tears is told by the checksums, the manifest's own and those it holds, and made again.

    Raises
    ------
    DaskaeError
        If the attempt that was first has another result, and ``compare`` asks for the same.
    """
    temporary = folder / f"{MANIFEST}.{secrets.token_hex(8)}"
    temporary.write_text(seal(manifest))
    crash_point("exchange.before_commit")
    try:
        os.link(temporary, folder / MANIFEST)
    except FileExistsError:
        winner = load_manifest(folder)
        if winner is not None:
            if compare:
                _require_same(folder, manifest, winner)
            return winner
        os.replace(temporary, folder / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)
    crash_point("exchange.after_commit")
    return manifest


def _require_same(folder: Path, mine: dict[str, Any], winner: dict[str, Any]) -> None:
    """Refuse an attempt with other counts, or with other bytes in files of the same names and sizes.

    Sizes may differ: an attempt with less memory writes its rows in more pieces.
    """
    one, other = (json.loads(json.dumps(manifest)) for manifest in (mine, winner))
    differing = [name for name, value in one.items() if _is_count(value) and other.get(name) != value]
    files, sums = _files_of(one)
    other_files, other_sums = _files_of(other)
    if files == other_files:
        differing += [name for (name, _), *pair in zip(files, sums, other_sums, strict=True) if pair[0] != pair[1]]
    if differing:
        raise DaskaeError(
            "a task gave another result when it was run again", str(folder), f"another value of {differing[0]}",
            hint="a step, rule or metric of your own depends on chance, on the time, on the order of a set or on the"
            " machine: mend it and run with --fresh; validation.check_determinism = false goes on",
        )  # fmt: skip


def _is_count(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, list) and all(isinstance(item, int) for item in value))


def _files_of(manifest: dict[str, Any]) -> tuple[list[tuple[str, int]], list[str]]:
    """Return names, without what each attempt has put into them, with sizes; and checksums."""
    files = manifest.get("files", [])
    found = [ExchangeFile(**file) for file in (files.values() if isinstance(files, dict) else files)]
    return [(_ATTEMPT.sub("", file.name), file.nbytes) for file in found], [file.checksum for file in found]


def commit_files(
    folder: Path, manifest: dict[str, Any], names: Sequence[str | None], *, compare: bool = True
) -> dict[str, Any]:  # fmt: skip
    """Commit a manifest together with size and checksum of the files that belong to it."""
    sums = [(name, *file_checksum(folder / name)) for name in names if name is not None]
    files = [asdict(ExchangeFile(name, 0, size, checksum)) for name, size, checksum in sums]
    return commit(folder, {**manifest, "files": files}, compare=compare)


def load_manifest(folder: Path) -> dict[str, Any] | None:
    """Read a manifest; None where there is none or it is not whole."""
    try:
        manifest: dict[str, Any] = unseal((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return manifest


def files_are_whole(folder: Path, files: Sequence[ExchangeFile], *, thorough: bool) -> bool:
    """Check that the files a manifest names are there, by size, and if ``thorough`` by checksum."""
    for file in files:
        try:
            if (folder / file.name).stat().st_size != file.nbytes:
                return False
            if thorough and file_checksum(folder / file.name)[1] != file.checksum:
                return False
        except OSError:
            return False
    return True
