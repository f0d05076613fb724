"""Rows of a batch that are left out at the load: counted, a few shown, and all kept in a Parquet file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daskae.errors import WorkDirError
from daskae.load.base import REJECT_COLUMNS, Load, Rejected, TableParts

_SAMPLES = 5


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tell a full disk below the work directory from one below the target.

    Raises
    ------
    WorkDirError
    """
    try:
        yield
    except OSError as error:
        raise WorkDirError(
            "rows that are left out cannot be kept", str(folder), error.strerror or str(error),
            hint="free some space or set --work-dir, then run the same command again; the target is unchanged",
        ) from error  # fmt: skip


class RejectFile:
    """The rows of one table that are left out for one reason; the file is made with the first of them."""

    def __init__(self, load: Load, parts: TableParts, reason: str) -> None:
        self.rows = 0
        self._load, self._parts, self._reason = load, parts, reason
        self._samples: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None
        reason_column, row_column = (pa.field(REJECT_COLUMNS[0], pa.string()), pa.field(REJECT_COLUMNS[1], pa.int64()))
        self._schema = pa.schema([reason_column, row_column, *parts.schema])

    def __enter__(self) -> "RejectFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None and self._load.rejects is not None:
            with writing(self._load.rejects):
                self._writer.close()

    def write(self, batch: pa.RecordBatch, mask: pa.BooleanArray, position: int) -> None:
        """Keep the masked rows of a batch whose first row has this place in the table, from 1."""
        rows = batch.filter(mask)
        places = pc.add(pc.indices_nonzero(mask).cast(pa.int64()), position)
        self.rows += rows.num_rows
        room = _SAMPLES - len(self._samples)
        self._samples += rows.slice(0, room).to_pylist()
        if self._load.rejects is not None:
            reasons = pa.repeat(self._reason, rows.num_rows)
            kept = pa.RecordBatch.from_arrays([reasons, places, *rows.columns], schema=self._schema)
            with writing(self._load.rejects):
                self._open(self._load.rejects).write_batch(kept)

    def result(self) -> Rejected | None:
        """Say what was left out; None when nothing was."""
        if not self.rows:
            return None
        path = self._path(self._load.rejects) if self._load.rejects is not None else None
        return Rejected(self._parts.name, self._reason, self.rows, tuple(self._samples), path)

    def _open(self, folder: Path) -> pq.ParquetWriter:
        if self._writer is None:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path(folder), self._schema, compression="zstd")
        return self._writer

    def _path(self, folder: Path) -> Path:
        # A table's name may be one that no file can have.
        number = next(i for i, parts in enumerate(self._load.tables) if parts is self._parts)
        name = self._parts.name if self._parts.name.isidentifier() else f"table-{number}"
        return folder / f"{name}-{self._reason}.parquet"


def write_rejects(
    load: Load,
    parts: TableParts,
    reason: str,
    places: Iterator[pa.Array],
    batches: Iterator[tuple[pa.RecordBatch, pa.Array]],
) -> Rejected | None:
    """Keep the rows with these ascending places; every batch comes with the places of its rows."""
    chunk = next(places, None)
    if chunk is None:
        return None
    position = 1
    with RejectFile(load, parts, reason) as file:
        for batch, numbers in batches:
            last = pc.max(numbers).as_py()
            mask = pc.is_in(numbers, chunk) if chunk is not None else None
            while chunk is not None and last is not None and chunk[-1].as_py() <= last:
                chunk = next(places, None)
                if chunk is not None:
                    mask = pc.or_(mask, pc.is_in(numbers, chunk))
            if mask is not None and pc.any(mask).as_py():
                file.write(batch, mask, position)
            position += batch.num_rows
    return file.result()
