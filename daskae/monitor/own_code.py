"""Memory of people's own code: a block or a function, sampled while it runs.

::

    with memory_monitor(limit="2GB") as memory:
        frame = load_everything()
    print(memory.peak, memory.average)

    @memory_monitor()
    def train(frame): ...

    train(frame)
    print(train.memory.peak)

Not covered: child processes, and who of several threads took the memory.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from daskae.monitor.memory import PeakMeter, current_rss
from daskae.units import format_bytes, parse_bytes

LOGGER = logging.getLogger("daskae")
_MOST_SAMPLES = 10_000


class MemoryMonitor:
    """Context manager and decorator; see :func:`memory_monitor`.

    Attributes
    ----------
    samples : list of (float, int)
        Seconds since the block began, and resident bytes of the process; the first at once, the last at the end.
    exceeded : bool
        Whether a sample was above the limit.
    """

    def __init__(self, limit: int | None, interval: float, on_limit: Callable[[int], None] | None) -> None:
        self._limit, self._interval, self._on_limit = limit, interval, on_limit
        self.samples: list[tuple[float, int]] = []
        self.exceeded = False
        self._meter = PeakMeter()
        self._stop = threading.Event()

    @property
    def peak(self) -> int:
        """Highest resident bytes, exact where the kernel counts them."""
        return max([self._meter.peak, *(rss for _, rss in self.samples)])

    @property
    def average(self) -> float:
        """Mean resident bytes of the samples."""
        return sum(rss for _, rss in self.samples) / max(1, len(self.samples))

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self._meter.__enter__()
        self._look()
        self._thread = threading.Thread(target=self._run, name="daskae-memory-monitor", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self._meter.__exit__(kind, error, trace)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function: every call is a block of its own, the last one's is ``function.memory``."""

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with MemoryMonitor(self._limit, self._interval, self._on_limit) as memory:
                watched.memory = memory  # type: ignore[attr-defined]
                return function(*args, **kwargs)

        return watched

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._look()

    def _look(self) -> None:
        rss = current_rss()
        if len(self.samples) >= _MOST_SAMPLES:  # every other one is enough, and half as many from now on
            self.samples, self._interval = self.samples[::2], self._interval * 2
        self.samples.append((time.perf_counter() - self._began, rss))
        if self._limit is not None and rss > self._limit and not self.exceeded:
            self.exceeded = True
            LOGGER.warning("memory is %s, above the limit of %s", format_bytes(rss), format_bytes(self._limit))
            if self._on_limit is not None:
                self._on_limit(rss)


def memory_monitor(
    limit: int | str | None = None, interval: float = 0.1, on_limit: Callable[[int], None] | None = None
) -> MemoryMonitor:
    """Watch the memory of a block or of a function.

    Parameters
    ----------
    limit : int or str, optional
        Bytes, or a text such as ``"2GB"``; above it a warning is logged, once.
    interval : float
        Seconds between samples.
    on_limit : callable, optional
        Called with the resident bytes when the limit is passed, once; by the thread that samples.

    Returns
    -------
    MemoryMonitor
        With ``peak``, ``average``, ``samples`` and ``exceeded``.
    """
    return MemoryMonitor(None if limit is None else parse_bytes(limit), interval, on_limit)
