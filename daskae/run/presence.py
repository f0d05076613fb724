"""Who is in a work directory: any number of runs side by side, or one program that changes what they have left there.

It is an ``flock`` that runs share. The kernel frees it when its holder dies, however it dies.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daskae.errors import TargetBusyError, WorkDirError

_FOLDER = "turns"
_FILE = "presence"
_POLL_SECONDS = 0.05


@contextmanager
def present(work: Path, timeout: float, *, alone: bool = False) -> Iterator[None]:
    """Be in a work directory while the body runs.

    Parameters
    ----------
    work : Path
        It is made if it is not there.
    timeout : float
        Seconds to wait for others.
    alone : bool, default False
        Whether nobody else may be there.

    Raises
    ------
    TargetBusyError
        If others who exclude this one are still there after that time.
    WorkDirError
        If it cannot be written.
    """
    try:
        (work / _FOLDER).mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(work / _FOLDER / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise WorkDirError(
            "the work directory cannot be written", str(work), error.strerror or "", hint="set --work-dir"
        ) from error
    try:
        deadline = time.monotonic() + timeout
        while not _locked(descriptor, alone, work):
            if time.monotonic() >= deadline:
                raise TargetBusyError(
                    f"the work directory is in use; waited {timeout:g} s", str(work),
                    "runs of the job" if alone else "a purge, or the end of another run",
                    hint="run the same command again when they have ended",
                )  # fmt: skip
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, alone: bool, work: Path) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise WorkDirError(
            "the work directory is on a file system without locks", str(work), error.strerror or "",
            hint="set --work-dir to one that has flock, or mount it with them",
        ) from error  # fmt: skip
    return True
