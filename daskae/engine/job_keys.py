"""A folder for the keys that one run gives to its jobs, and an end to those of runs that were killed.

As long as a run lives it holds an ``flock`` in its folder. The kernel frees it, however the run ends; so a folder whose
lock is free has no owner. On a file system without locks nothing is swept.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_MAKING, _MADE, _LOCK = "making-", "keys-", "lock"


class KeyFolder:
    """A folder of one run, which only its user can read; folders of dead runs beside it are removed.

    Parameters
    ----------
    shared : Path
        Where it is made.
    """

    def __init__(self, shared: Path) -> None:
        sweep_keys(shared)
        # Nobody looks at it under its first name, so that nobody finds it before it is locked.
        making = Path(tempfile.mkdtemp(prefix=_MAKING, dir=shared))
        self._descriptor = os.open(making / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = making.rename(shared / making.name.replace(_MAKING, _MADE, 1))

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)


def sweep_keys(shared: Path) -> None:
    """Remove folders of runs that do not live any more.

    Parameters
    ----------
    shared : Path
        Where they were made; it need not be there.
    """
    for folder in shared.glob(f"{_MADE}*"):
        with suppress(OSError):  # somebody else was faster, or may do what we may not
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
