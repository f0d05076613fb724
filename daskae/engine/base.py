"""What an engine is: something that runs one function over many items and hands back outcomes as they come."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from daskae.errors import DaskaeError, EngineError
from daskae.monitor.memory import PeakMeter

AUTO, INLINE, LOCAL = "auto", "inline", "local"


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
    return EngineError("a task failed", f"{function.__name__} {item}"[:300], f"{type(error).__name__}: {error}"[:300])


def cores() -> int:
    """Return the processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
