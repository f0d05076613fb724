"""One publisher at a time for one target, also across processes.

The lock is an ``flock`` on a small file beside the target. The kernel frees it when its holder dies, however it dies,
so whoever holds it knows that nobody else is publishing and that all unfinished work found there belongs to dead
runs. Programs that only read the target never meet it.
"""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from daskae.errors import TargetBusyError

_POLL_SECONDS = 0.05


@contextmanager
def publisher_lock(path: Path, timeout: float, target: str) -> Iterator[None]:
    """Hold the lock file while the body runs; the file is gone afterwards.

    Parameters
    ----------
    path : Path
        The lock file. Its folder must exist.
    timeout : float
        Seconds to wait for another holder.
    target : str
        The target in words, for the error.

    Raises
    ------
    TargetBusyError
        When somebody else still holds it after ``timeout`` seconds.
    """
    descriptor = _acquire(path, time.monotonic() + timeout, timeout, target)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        # Removed while still held: whoever waits for this very file sees that it is no longer the one at the path.
        with suppress(OSError):  # of a disk that has become read-only; what is written there has its own error
            path.unlink(missing_ok=True)
        os.close(descriptor)


def wait_for_turn(take: Callable[[], bool], timeout: float, target: str) -> None:
    """Try to take a server's lock until it is had.

    Raises
    ------
    TargetBusyError
        When somebody else still holds it after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not take():
        if time.monotonic() >= deadline:
            raise _busy(timeout, target)
        time.sleep(_POLL_SECONDS)


def _busy(timeout: float, target: str, got: str = "") -> TargetBusyError:
    hint = "run the same command again when it has finished"
    return TargetBusyError(f"another run is publishing into the target; waited {timeout:g} s", target, got, hint=hint)


def _acquire(path: Path, deadline: float, timeout: float, target: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace")
            os.close(descriptor)
        else:
            if _still_at(path, descriptor):
                return descriptor
            os.close(descriptor)
            continue
        if time.monotonic() >= deadline:
            raise _busy(timeout, target, holder and f"held by {holder}")
        time.sleep(_POLL_SECONDS)


def _still_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
