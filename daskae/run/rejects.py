"""The quarantine of earlier runs: which runs have rejected rows, and the rows with the places they came from."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from daskae.errors import InputError, SettingsError
from daskae.run.record import RECORD
from daskae.stages.quarantine import PIECES

LATEST = "latest"
_FOLDER = "quarantine"
_UNFINISHED = "unfinished"
_BATCH_ROWS = 16_384


def share(path: Path, target: Path) -> None:
    """Give a quarantine file a second name in the folder of a run, or copy it where the file system has no links.

    Runs over the same input share the file, so the run's id is not in it but in the name of its folder,
    ``run_id=...``, which readers of Parquet folders take for a column.
    """
    temporary = target.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(target)
    # Nothing was renamed if the name belonged to this very file already.
    temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class RejectingRun:
    """One run that rejected rows."""

    run_id: str
    started: str
    status: str
    rejected: int
    by_reason: dict[str, int]
    folder: Path

    @property
    def files(self) -> list[Path]:
        """Its quarantine, in input order."""
        return _files(self.folder)


@dataclass(frozen=True)
class Piece:
    """The part of a source that a rejected row was read from."""

    label: str
    kind: str
    start: int
    end: int
    digest: str
    columns: tuple[str, ...]
    rows_before: int


@dataclass(frozen=True)
class Reject:
    """One rejected row."""

    file: str
    row_number: int
    byte_offset: int | None
    reason: str
    reasons: tuple[str, ...]
    severity: str
    column: str | None
    value: str | None
    raw: str
    run_id: str
    piece: Piece


def list_runs(work: Path) -> list[RejectingRun]:
    """List the runs of a work directory that have rejected rows, oldest first."""
    runs = [_run(folder) for folder in sorted((work / "runs").glob("*")) if (folder / _FOLDER).is_dir()]
    return sorted(runs, key=lambda run: (run.started, run.run_id))


def _run(folder: Path) -> RejectingRun:
    manifest, record = _json(folder / "manifest.json"), _json(folder / RECORD)
    rows = manifest.get("rows", {})
    by_reason = {name: count for name, count in rows.get("rejected_by_rule", {}).items() if count}
    started = record.get("started") or f"{datetime.fromtimestamp(folder.stat().st_mtime, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    rejected = rows.get("rejected") or sum(map(_count_rows, _files(folder)))
    return RejectingRun(folder.name, started, manifest.get("status", _UNFINISHED), rejected, by_reason, folder)


def _files(folder: Path) -> list[Path]:
    return sorted((folder / _FOLDER).glob("run_id=*/rejected-*.parquet"))


def _count_rows(path: Path) -> int:
    """Return the rows of a file, none where a power cut has torn it."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 0


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def pick_run(work: Path, name: str = LATEST) -> RejectingRun:
    """Return one run by its id, by the beginning of its id, or the latest.

    Raises
    ------
    SettingsError
        If there is none, or more than one begins so.
    """
    runs = list_runs(work)
    if not runs:
        raise SettingsError("no run here has rejected rows", str(work), hint="set --work-dir to that of the job")
    if name == LATEST:
        # What a killed run left of its quarantine may not be all of it.
        return next((run for run in reversed(runs) if run.status != _UNFINISHED), runs[-1])
    found = [run for run in runs if run.run_id == name] or [run for run in runs if name and run.run_id.startswith(name)]
    if len(found) != 1:
        what = "no run of this id has rejected rows" if not found else "more than one run begins with this id"
        shown = ", ".join(run.run_id for run in (found or runs)[-5:])
        raise SettingsError(what, str(work / "runs"), repr(name), shown, "see python -m jobs.quarantine list")
    return found[0]


def read_rejects(run: RejectingRun, *, reason: str | None = None, file: str | None = None) -> Iterator[Reject]:
    """Yield the rejected rows of a run in input order, a few thousand of them in memory at a time.

    Parameters
    ----------
    run : RejectingRun
    reason : str, optional
        Only rows that have this among their reasons.
    file : str, optional
        Only rows of this file.

    Raises
    ------
    InputError
        If the quarantine cannot be read.
    """
    for path in run.files:
        try:
            with pq.ParquetFile(path) as source:
                pieces = _pieces(source.metadata.metadata)
                for batch in source.iter_batches(_BATCH_ROWS):
                    for row in _selected(pa.Table.from_batches([batch]), reason, file).to_pylist():
                        place = {"piece": _piece_of(row, pieces), "run_id": run.run_id}
                        yield Reject(**{**row, "reasons": tuple(row["reasons"]), **place})
        except (OSError, pa.ArrowException, ValueError, TypeError) as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError("a quarantine file cannot be read", str(path), str(error)[:200], hint="run the job once more")


def _selected(table: pa.Table, reason: str | None, file: str | None) -> pa.Table:
    if file is not None:
        table = table.filter(pc.equal(table["file"], file))
    if reason is not None:
        keep = [reason in reasons for reasons in table["reasons"].to_pylist()]
        table = table.filter(pa.array(keep, pa.bool_()))
    return table


def _pieces(metadata: dict[bytes, bytes] | None) -> dict[str, list[Piece]]:
    """Return the pieces that a quarantine file names, by file, the last first."""
    pieces: dict[str, list[Piece]] = {}
    for item in json.loads((metadata or {}).get(PIECES, b"[]")):
        pieces.setdefault(item["label"], []).append(Piece(**{**item, "columns": tuple(item["columns"])}))
    return {label: sorted(found, key=lambda piece: -piece.rows_before) for label, found in pieces.items()}


def _piece_of(row: dict[str, Any], pieces: dict[str, list[Piece]]) -> Piece:
    """Return the last piece of the row's file that begins before it."""
    found = next((piece for piece in pieces.get(row["file"], []) if piece.rows_before < row["row_number"]), None)
    if found is None:
        raise ValueError("it does not say where its rows are from")
    return found


def source_columns(run: RejectingRun) -> list[str]:
    """Return the columns of all sources that a run rejected rows of, each once.

    Raises
    ------
    InputError
        If the quarantine cannot be read.
    """
    names: dict[str, None] = {}
    for path in run.files:
        try:
            found = _pieces(pq.read_metadata(path).metadata)
        except (OSError, pa.ArrowException, ValueError, TypeError) as error:
            raise _unreadable(path, error) from error
        for pieces in found.values():
            names.update(dict.fromkeys(name for piece in pieces for name in piece.columns))
    return list(names)
