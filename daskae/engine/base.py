"""What an engine is: something that runs one function over many items and hands back outcomes as they come."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from daskae.config import ClusterSettings
from daskae.errors import DaskaeError, EngineError
from daskae.masking import mask_secrets
from daskae.monitor.cgroup import cpu_limit
from daskae.monitor.memory import PeakMeter, available_memory

AUTO, INLINE, LOCAL, SLURM, KUBERNETES = "auto", "inline", "local", "slurm", "kubernetes"


def look_at_nothing(_: Any) -> None:
    """Find everything in order."""


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


class Engine(Protocol):
    """Runs tasks. Entered before use, left after it; nothing of it survives leaving."""

    name: str
    slots: int
    """Tasks that run at the same time."""

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


def measured(index: int, function: Callable[..., Any], item: Any, shared: tuple[Any, ...]) -> Outcome:
    """Run one task and measure it."""
    started = time.perf_counter()
    with PeakMeter() as meter:
        value = function(item, *shared)
    return Outcome(index, value, meter.peak, time.perf_counter() - started)


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


def allowed_memory(name: str, settings: ClusterSettings, workers: int, limit: int | None) -> int | None:
    """Return the bytes a task may use, None where only the workers know."""
    if limit is not None:
        return limit
    if name == INLINE:
        return shared_memory()
    if name == LOCAL:
        return shared_memory() // workers
    if name == SLURM:
        return settings.slurm.memory // settings.slurm.processes
    return settings.kubernetes.memory if name == KUBERNETES and settings.kubernetes.create else None


def choose_engine(asked: str, input_bytes: int, inline_below: int) -> tuple[str, str]:
    """Decide where to run.

    Returns
    -------
    name, reason : str
        ``inline``, ``local`` or an address; and why, for the log.
    """
    if asked != AUTO:
        return asked, "asked for"
    if input_bytes < inline_below:
        return INLINE, f"{input_bytes:,} bytes of input are below cluster.inline_below = {inline_below:,}"
    return LOCAL, f"{input_bytes:,} bytes of input are not below cluster.inline_below = {inline_below:,}"
