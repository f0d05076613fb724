"""What an engine is: something that runs one function over many items and hands back outcomes as they come."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from daskae.allocators import release_memory
from daskae.budget import guarded
from daskae.config import ClusterSettings
from daskae.engine.deadline import Deadline
from daskae.errors import DaskaeError, EngineError, MemoryLimitError
from daskae.events import Event
from daskae.masking import mask_secrets
from daskae.monitor.cgroup import cpu_limit
from daskae.monitor.memory import PeakMeter, available_memory, current_rss
from daskae.units import format_bytes

AUTO, INLINE, PROCESSES, LOCAL = "auto", "inline", "processes", "local"
SLURM, KUBERNETES = "slurm", "kubernetes"
Emit = Callable[[Event], None]
_TIDY = 0.6
"""Share of its limit above which a process gives back what a task has freed; Dask pauses a worker at 0.8."""
_TIDY_SECONDS = 0.5


def look_at_nothing(_: Any) -> None:
    """Find everything in order."""


JOB_SHARE = 0.9
"""Share of the memory of a Slurm job or a pod that its workers may use: their nannies need some too, and the system
ends all of it without a word when it is over."""
TASK_SHARE = 0.9
"""Share of a Dask worker's limit at which its task stops by itself; at 0.95 the nanny would stop the worker."""


@dataclass(frozen=True)
class Needs:
    """What a run asks of every worker before its first task."""

    projected_bytes: int = 0
    """Memory that one task is expected to need at most."""
    work_dir: Path | None = None
    """Folder that driver and workers share."""
    look: Callable[[Any], None] = look_at_nothing
    """Called on every worker with ``inputs``; raises a DaskaeError where one cannot be read."""
    inputs: Any = None


@dataclass(frozen=True)
class Outcome:
    """What one task returned, and what it cost."""

    index: int
    value: Any
    peak_bytes: int
    """Highest resident memory of the process while the task ran."""
    seconds: float
    error: EngineError | None = None
    """Why there is no value: the task ran out of memory, or the processes that ran it died."""


@dataclass(frozen=True)
class Show:
    """A dashboard that can tell of the run."""

    post: Callable[[dict[str, Any]], None]
    """Takes a snapshot of the run."""
    note: str
    """Where to look at it, or why that is not possible."""


class Engine(Protocol):
    """Runs tasks. Entered before use, left after it; nothing of it survives leaving."""

    name: str
    deadline: Deadline | None
    """When no more tasks may begin: those that have begun come to their end, then a TimeLimitError is raised."""

    @property
    def slots(self) -> int:
        """Tasks that run at the same time."""

    @property
    def shares_memory(self) -> bool:
        """Whether several of them share a process."""

    def show(self) -> "Show | None":
        """Return how to show the run on a dashboard, None where there is none."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, function: Callable[..., Any], items: Sequence[Any], *shared: Any) -> Iterator[Outcome]:
        """Call ``function(item, *shared)`` for every item; yield outcomes in order of completion.

        Raises
        ------
        DaskaeError
            What the function raised, or an EngineError that names the item whose task could not be run.
        """

    def attempt(
        self, function: Callable[..., Any], items: Sequence[Any], *shared: Any, alone: bool = False
    ) -> Iterator[Outcome]:
        """Do as :meth:`run`, but yield an outcome with an ``error`` for a task that ran out of memory or died.

        With ``alone`` one task runs at a time, so that whatever happens is its own doing.

        Raises
        ------
        DaskaeError
        """


def has_time(deadline: Deadline | None) -> bool:
    """Whether more tasks may begin."""
    return deadline is None or not deadline.has_come()


def in_time(waiting: Iterator[Any], deadline: Deadline | None) -> Any:
    """Return the next item, None when there is none or the time is over."""
    return next(waiting, None) if has_time(deadline) else None


def require_done(waiting: Iterator[Any], deadline: Deadline | None) -> None:
    """Check that nothing is left when all tasks that had begun are done.

    Raises
    ------
    TimeLimitError
    """
    if deadline is not None and next(waiting, None) is not None:
        raise deadline.over()


def succeeding(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Pass outcomes on, and raise the first error among them."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
        yield outcome


@dataclass
class MemoryGuard:
    """What a checkpoint does in a task: look whether the process holds more than it may."""

    limit: int
    """Bytes."""
    task: str
    _tidied: float = 0.0

    def __call__(self) -> None:
        """Give back what is free when the limit comes near.

        Raises
        ------
        MemoryLimitError
            If the process is above it and that does not help.
        """
        rss, now = current_rss(), time.monotonic()
        if rss > self.limit or (rss > _TIDY * self.limit and now - self._tidied > _TIDY_SECONDS):
            self._tidied = now
            if (rss := self.held()) > self.limit:
                raise over_limit(self.task, rss, self.limit)

    def held(self) -> int:
        """Give back what is free, and return what the process holds then."""
        release_memory()
        return current_rss()


def over_limit(task: str, peak: int, limit: int) -> MemoryLimitError:
    """Return the error of a task that needs too much; 0 stands for a figure that is not known."""
    return MemoryLimitError(
        "a task needs more memory than its process may have", task[:300],
        f"a peak of {format_bytes(peak)}" if peak else "out of memory", format_bytes(limit) if limit else "",
        "raise --memory-limit, use fewer --workers, or lower --block-size",
    )  # fmt: skip


def measured(
    index: int, function: Callable[..., Any], item: Any, shared: tuple[Any, ...], limit: int | None = None
) -> Outcome:
    """Run one task and measure it; where it runs out of memory, the outcome holds the error.

    Parameters
    ----------
    index, function, item, shared
        The task.
    limit : int, optional
        Bytes the process may hold; the task looks at that between batches.
    """
    started = time.perf_counter()
    value, failure = None, None
    task = f"{function.__name__} {item}"
    with PeakMeter() as meter:
        try:
            with guarded(MemoryGuard(limit, task)) if limit else contextlib.nullcontext():
                value = function(item, *shared)
        except MemoryLimitError as error:
            # Made anew: what was raised holds on to the task's frames, and they to its memory.
            failure = type(error)(*error.args)
        except Exception as error:
            # Arrow's error of memory is one of its own kind too, and so may have been taken for a damaged file.
            if not isinstance(error, MemoryError) and not isinstance(error.__cause__, MemoryError):
                raise
            failure = over_limit(task, meter.peak, limit or 0)
    if limit and (failure is not None or current_rss() > _TIDY * limit):
        release_memory()
    return Outcome(index, value, meter.peak, time.perf_counter() - started, failure)


def task_failure(function: Callable[..., Any], item: Any, error: Exception) -> DaskaeError:
    """Return what to raise for an error inside a task: ours as it is, any other with the task's name."""
    if isinstance(error, DaskaeError):
        return error
    # Masked before it is cut: of a password that is cut nobody could tell that it is one.
    where, got = mask_secrets(f"{function.__name__} {item}"), mask_secrets(f"{type(error).__name__}: {error}")
    return EngineError("a task failed", where[:300], got[:300])


def cores() -> int:
    """Return the processors this process may use: those there are, its affinity, and what a cgroup grants of them."""
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = cpu_limit()
    return present if granted is None else max(1, min(present, int(granted)))


def local_workers(asked: int | None, projected_bytes: int) -> int:
    """Return the worker processes for this machine: as asked, else one a core, as far as there is memory for them."""
    if asked is not None:
        return asked
    fitting = shared_memory() // projected_bytes if projected_bytes else cores()
    return max(1, min(cores(), fitting))


def shared_memory() -> int:
    """Return the bytes that all tasks of this machine together may use."""
    return int(available_memory() * 0.9)


def task_memory(name: str, settings: ClusterSettings, workers: int, limit: int | None) -> int | None:
    """Return the bytes at which a task stops by itself, None where only the workers know."""
    allowed = allowed_memory(name, settings, workers, limit)
    return allowed if allowed is None or name in (INLINE, PROCESSES) else int(allowed * TASK_SHARE)


def allowed_memory(name: str, settings: ClusterSettings, workers: int, limit: int | None) -> int | None:
    """Return the bytes a worker may use, None where only the workers know."""
    if limit is not None:
        return limit
    if name == INLINE:
        return shared_memory()
    if name in (PROCESSES, LOCAL):
        return shared_memory() // workers
    if name == SLURM:
        return int(settings.slurm.memory * JOB_SHARE) // settings.slurm.processes
    if name == KUBERNETES and settings.kubernetes.create:
        return int(settings.kubernetes.memory * JOB_SHARE)
    return None


def choose_engine(asked: str, input_bytes: int, settings: ClusterSettings) -> tuple[str, str]:
    """Decide where to run.

    Returns
    -------
    name, reason : str
        ``inline``, ``processes``, ``local`` or an address; and why, for the log.
    """
    if asked != AUTO:
        return asked, "asked for"
    size = f"{input_bytes:,} bytes of input"
    if input_bytes < settings.inline_below:
        return INLINE, f"{size} are below cluster.inline_below = {settings.inline_below:,}"
    if settings.dashboard or settings.adaptive is not None:
        return LOCAL, "a dashboard and adaptive scaling need a Dask cluster"
    if input_bytes < settings.processes_below:
        return PROCESSES, f"{size} are below cluster.processes_below = {settings.processes_below:,}"
    return LOCAL, f"{size} are not below cluster.processes_below = {settings.processes_below:,}"
