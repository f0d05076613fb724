"""Worker processes without a scheduler: the standard library's pool, forked early where that is possible.

A process that has imported everything and computed nothing yet forks in some milliseconds; a Dask cluster takes the
better part of a second to be there. Later, when there are threads that a fork would lack, workers come from the fork
server (:mod:`daskae.engine.forks`), or as new interpreters where there is none.
"""

import contextlib
import ctypes
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from glob import glob
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from daskae.engine.forks import METHOD, MODULES, WORKER_ENVIRONMENT, main_left_out, prepare_workers
from daskae.monitor.processes import is_stopped

_IDLE_THREADS = frozenset({"jemalloc_bg_thd", "polars-ooc-clea"})
"""What the libraries start when they are imported, and a fork can do without."""
_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 1.0
_END_SECONDS = 5.0
"""How long processes without a task may take to end."""


class WorkerPool:
    """Processes that take tasks; made by :func:`fork_pool` and :func:`start_pool`.

    Parameters
    ----------
    count : int
    method : str
        How they start: with ``fork`` at once and as they are here, else one by one as tasks come.
    """

    def __init__(self, count: int, method: str) -> None:
        self.count = count
        self._forked = method == "fork"
        self._mine: set[BaseProcess] = set()
        self._executor = ProcessPoolExecutor(
            count,
            multiprocessing.get_context(method),
            initializer=_begin,
            initargs=(os.getpid(), self._forked),
        )
        if self._forked:
            self.submit(_nothing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(at_once=kind is not None)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Hand out a task.

        Raises
        ------
        concurrent.futures.BrokenExecutor
            If one of the processes has died; the others are gone too then.
        """
        before = set(multiprocessing.active_children())
        try:
            with contextlib.nullcontext() if self._forked else main_left_out():
                return self._executor.submit(function, *arguments)
        finally:
            self._mine |= set(multiprocessing.active_children()) - before

    def kill_stopped(self) -> None:
        """Kill processes that somebody has stopped and not let go on; the pool is broken then."""
        for child in self._children():
            if is_stopped(child.pid):
                child.kill()

    def close(self, at_once: bool = False) -> None:
        """End the processes, ``at_once`` those too that are in the middle of a task; none outlives this."""
        children = self._children()
        for child in children:
            if at_once or is_stopped(child.pid):
                child.kill()
        self._executor.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + _END_SECONDS
        for child in children:
            child.join(max(0.0, end - time.monotonic()))
            child.kill()  # one that was stopped meanwhile would never end
            child.join(_END_SECONDS)

    def _children(self) -> set[BaseProcess]:
        return set(multiprocessing.active_children()) & self._mine


def fork_pool(count: int) -> WorkerPool | None:
    """Fork workers from this process; None where it has threads that a fork would lack."""
    if not may_fork():
        return None
    with warnings.catch_warnings():
        # Python sees that there are threads, but not that they are idle ones.
        warnings.simplefilter("ignore", DeprecationWarning)
        return WorkerPool(count, "fork")


def start_pool(count: int) -> WorkerPool:
    """Start workers that share nothing with this process."""
    prepare_workers(MODULES)
    return WorkerPool(count, METHOD)


def may_fork() -> bool:
    """Tell whether a fork of this process could do everything that it can."""
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return False
    if threading.active_count() > 1:
        return False
    ours = str(threading.get_native_id())
    names = {path: Path(path, "comm").read_text().strip() for path in glob("/proc/self/task/*")}
    return all(name in _IDLE_THREADS for path, name in names.items() if not path.endswith(f"/{ours}"))


def _begin(driver: int, forked: bool) -> None:
    """Prepare a worker: it computes on one core, leaves interrupts to the driver, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update({name: value for name, value in WORKER_ENVIRONMENT.items() if name not in os.environ})
    import pyarrow as pa

    pa.set_cpu_count(1)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if forked and os.getppid() != driver:
            os._exit(1)  # it was gone before that
    if not forked:  # the parent is the fork server, which lives as long as its forks
        threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


def _end_with(driver: int) -> None:
    """Wait for the end of another process, then end this one."""
    try:
        end = select.poll()
        end.register(os.pidfd_open(driver), select.POLLIN)
        end.poll()
    except (OSError, AttributeError):  # it is gone, or the system has no such thing
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(driver, 0)
                time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _nothing() -> None:
    """Be a task that does nothing."""
