"""The work directory: who may look into it, whether there is room, and words for when there is none."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daskae.errors import InputError, LoadError, PlanError, WorkDirError
from daskae.partition import Segment
from daskae.run.context import RunContext
from daskae.run.plan import Plan
from daskae.units import format_bytes

FOLDERS = ("corrections", "maps", "patches", "references", "runs", "scans", "steps", "turns")
LEAST_SHARE = 0.25
"""Bytes in the work directory behind a byte of text, at least: half of what generated orders take (measured)."""
_CAUSES = {
    errno.ENOSPC: ("the disk of the work directory is full", "free some space or set --work-dir, then run the same "
                   "command again: finished parts are kept"),
    errno.EDQUOT: ("the disk quota of the work directory is used up", "free some space or set --work-dir, then run "
                   "the same command again: finished parts are kept"),
    errno.EROFS: ("the work directory is on a read-only disk", "set --work-dir, or mount the disk for writing"),
    errno.EACCES: ("the work directory refuses access", "give access, or set --work-dir"),
    errno.EPERM: ("the work directory refuses access", "give access, or set --work-dir"),
    errno.EIO: ("the disk of the work directory has failed", "look at the disk, then run the same command again"),
}  # fmt: skip
_NUMBER = re.compile(r"os error (\d+)|errno (\d+)", re.IGNORECASE)


def make_private(work: Path) -> None:
    """Make the folders that hold data, for their owner alone; what is there already stays as it is."""
    for name in FOLDERS:
        (work / name).mkdir(parents=True, exist_ok=True, mode=0o700)


def needed_bytes(plan: Plan) -> int:
    """Return the least that the rest of the run will write into the work directory."""
    reused = {segment.content_id for ref in plan.refs if ref.content_id in plan.reused for segment in ref.segments}
    rest = [segment for segment in plan.source.segments if segment.content_id not in reused]
    return int(LEAST_SHARE * sum(map(_text_bytes, rest)))


def _text_bytes(segment: Segment) -> int:
    return segment.nbytes * (3 if segment.compression or segment.kind == "parquet" else 1)


def require_room(plan: Plan, context: RunContext) -> None:
    """Refuse a run for which the disk is certainly too small, before it begins.

    Raises
    ------
    PlanError
    """
    needed, free = needed_bytes(plan), _free_bytes(context.work)
    if free is not None and needed > free:
        raise PlanError(
            "the disk of the work directory is too small", str(context.work), f"{format_bytes(free)} free",
            f"{format_bytes(needed)} at least", "free some space, or set --work-dir to another disk",
        )  # fmt: skip


@contextmanager
def explained(context: RunContext, plans: list[Plan]) -> Iterator[None]:
    """Turn an error of the disk below the work directory into one of ours, in tasks and in the driver.

    Raises
    ------
    WorkDirError
    """
    try:
        yield
    except (InputError, LoadError):
        raise  # of another place, whose disk may be as bad; an error of writing to an open file does not name it
    except Exception as error:
        cause = next((e for e in (error, error.__cause__) if isinstance(e, OSError)), None)
        number = None if cause is None else cause.errno or _number_in(str(cause))
        if cause is None or number not in _CAUSES or not _is_below(cause.filename, context.work):
            raise
        what, hint = _CAUSES[number]
        if context.is_loaded:
            hint = f"the load is in the target, what is missing is its report: {hint}"
        free = _free_bytes(context.work)
        got = f"{os.strerror(number)}; " + ("" if free is None else f"{format_bytes(free)} free")
        needed = f"{format_bytes(needed_bytes(plans[-1]))} at least" if plans and number == errno.ENOSPC else ""
        raise WorkDirError(what, str(cause.filename or context.work), got, needed, hint) from error


def _number_in(text: str) -> int | None:
    found = _NUMBER.search(text)
    return None if found is None else int(found[1] or found[2])


def _is_below(path: object, work: Path) -> bool:
    """Whether a path is in the work directory; an error that names none comes from writing to an open file there."""
    return path is None or Path(os.path.abspath(os.fsdecode(path))).is_relative_to(work)  # type: ignore[arg-type]


def _free_bytes(path: Path) -> int | None:
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None
