"""Keep the work directory within its bounds: what no run has used for long goes first."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from daskae.engine.job_keys import sweep_keys
from daskae.errors import TargetBusyError, WorkDirError
from daskae.exchange import MANIFEST
from daskae.faults import crash_point
from daskae.run.context import RunContext
from daskae.run.presence import present
from daskae.stages.layout import Layout

_HOUR = 3600.0
_DAY = 86_400.0


@dataclass(frozen=True)
class _Entry:
    path: Path
    used: float
    nbytes: int


def sweep(context: RunContext) -> None:
    """Remove outputs of partitions and steps that are too old, then the least used until the rest is small enough.

    Nothing is removed while another run is in the work directory: it does :func:`mark_used` at its end only. This run
    must have left it. What was used within the last hour is left for who still reads accepted rows of a run. Keys of
    jobs whose driver was killed go in any case. Failures are of no consequence: the next run tries again.
    """
    with suppress(TargetBusyError, WorkDirError), present(context.work, 0.0, alone=True):
        for folder in context.work.glob("runs/*/fresh"):  # of fresh runs that were killed
            shutil.rmtree(folder, ignore_errors=True)
        sweep_keys(context.settings.cluster.slurm.shared_directory or context.work / "slurm")
        if not context.settings.fresh:
            _remove_unused(context)


def mark_used(context: RunContext) -> None:
    """Mark what this run used as used now, before it leaves the work directory."""
    if context.settings.fresh:
        return
    parts = Layout.load(context.accepted.layout_path).parts if context.accepted is not None else ()
    for part in parts:
        with suppress(OSError):
            os.utime(Path(part.folder) / MANIFEST)
    for table in context.tables:
        for path in table.files:
            with suppress(OSError):
                os.utime(path.parent / MANIFEST)


def _remove_unused(context: RunContext) -> None:
    now = time.time()
    entries = sorted(_entries(context.work), key=lambda entry: entry.used)
    total = sum(entry.nbytes for entry in entries)
    for entry in entries:
        crash_point("sweep.entry")
        too_old = now - entry.used > context.settings.work.keep_days * _DAY
        if not too_old and total <= context.settings.work.keep:
            break
        if now - entry.used > _HOUR:
            shutil.rmtree(entry.path, ignore_errors=True)
            total -= entry.nbytes


def _entries(work: Path) -> Iterator[_Entry]:
    folders = [*work.glob("maps/*/*"), *work.glob("steps/*"), *work.glob("patches/*"), *work.glob("references/*")]
    for folder in folders:
        files = [item for item in folder.iterdir() if item.is_file()] if folder.is_dir() else []
        manifest = folder / MANIFEST
        with suppress(OSError):
            used = (manifest if manifest.exists() else folder).stat().st_mtime
            yield _Entry(folder, used, sum(item.stat().st_size for item in files))
