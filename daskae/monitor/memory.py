"""Memory of this process, measured: now, at its highest, at its highest within a block, and how much there may be.

On Linux the kernel keeps the highest resident size (``VmHWM``) and lets a process start it anew, so the peak of a block
is exact. Elsewhere, or where ``/proc/self/clear_refs`` cannot be written, a thread samples every 20 ms.

Not covered: child processes, and memory that was swapped out. Newer Linux kernels count resident pages for each
processor apart, so a figure may lag by some dozens of pages. Threads share a process, and so a peak.
"""

import sys
import threading
from types import TracebackType
from typing import Self

import psutil

from daskae.monitor.cgroup import memory_limits

SAMPLE_SECONDS = 0.02


def read_process() -> tuple[int, int]:
    """Return resident bytes now and the highest since the last reset; the only place that asks the operating system."""
    try:
        with open("/proc/self/status", "rb") as status:
            kilobytes = dict(line.split()[:2] for line in status if line.startswith((b"VmRSS:", b"VmHWM:")))
        return int(kilobytes[b"VmRSS:"]) * 1024, int(kilobytes[b"VmHWM:"]) * 1024
    except (OSError, KeyError):
        return psutil.Process().memory_info().rss, _lifetime_peak()


def current_rss() -> int:
    """Return the resident bytes of this process."""
    return read_process()[0]


def peak_rss() -> int:
    """Return the highest resident bytes of this process since it began, or since a :func:`reset_peak` that worked."""
    return read_process()[1]


def reset_peak() -> bool:
    """Start the peak anew from what is resident now; False where the system does not allow it.

    Meters that are running keep what they have seen.
    """
    with _lock:
        for meter in _running:
            meter.look()
        try:
            with open("/proc/self/clear_refs", "w") as refs:
                refs.write("5")
        except OSError:
            return False
        return True


class PeakMeter:
    """Context manager that measures the highest resident bytes of this process during its block.

    Meters may overlap, nested or in other threads: each reports the peak of the process within its own block.

    Attributes
    ----------
    exact : bool
        True when the kernel measured, False when a thread sampled and may have missed a short peak.
    """

    def __init__(self) -> None:
        self.exact = False
        self._seen = 0
        self._peak_before = 0
        self._stop = threading.Event()
        self._sampler: threading.Thread | None = None

    @property
    def peak(self) -> int:
        """Highest resident bytes so far; after the block, of the block."""
        with _lock:
            if self in _running:
                self.look()
            return self._seen

    def __enter__(self) -> Self:
        with _lock:
            self.exact = reset_peak()
            self._seen, self._peak_before = read_process()
            _running.append(self)
        if not self.exact:
            self._sampler = threading.Thread(target=self._sample, name="daskae-memory", daemon=True)
            self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._sampler is not None:
            self._sampler.join()
        with _lock:
            self.look()
            _running.remove(self)

    def look(self) -> None:
        """Take note of the process as it is now."""
        rss, peak = read_process()
        # A lifetime peak that has risen since the block began was reached within it, so it is the true one.
        trusted = self.exact or peak > self._peak_before
        self._seen = max(self._seen, peak if trusted else rss)

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            with _lock:
                self.look()


_lock = threading.RLock()
_running: list[PeakMeter] = []


def available_memory() -> int:
    """Return the bytes that may still be taken before the machine or a cgroup limit is reached; never below zero."""
    room = [limit.limit - limit.used for limit in memory_limits()]
    return max(0, min([psutil.virtual_memory().available, *room]))


def process_limit() -> int:
    """Return the most bytes this process can ever hold: the machine's memory, a cgroup limit or ``ulimit -v``."""
    limits = [psutil.virtual_memory().total, *(limit.limit for limit in memory_limits())]
    if sys.platform != "win32":
        import resource

        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        if address_space != resource.RLIM_INFINITY:
            limits.append(address_space)
    return min(limits)


def _lifetime_peak() -> int:
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
