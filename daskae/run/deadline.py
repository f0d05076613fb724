"""The end of this process's time, set by a batch system or by ``[cluster] time_limit``, and how work stops before it.

Some time before the end no more tasks are handed out; those that run may finish. What is still running when a quarter
of that time is left is given up. The run ends with exit code 75, and the next submission goes on where it was.

Not covered: publishing, which is one transaction and begins only after all tasks.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from daskae.config import ClusterSettings
from daskae.engine.base import Engine, Outcome
from daskae.errors import TimeLimitError
from daskae.units import format_seconds


@dataclass(frozen=True)
class Deadline:
    """Two moments of the monotonic clock."""

    stop: float
    """No task is begun after it."""
    leave: float
    """No task is waited for after it."""
    reason: str

    def has_come(self) -> bool:
        """Whether no more tasks may begin."""
        return time.monotonic() >= self.stop


def find_deadline(
    settings: ClusterSettings, elapsed: float, environment: Mapping[str, str] = os.environ
) -> Deadline | None:
    """Return when work must stop, None where nothing limits the time.

    Parameters
    ----------
    settings : ClusterSettings
    elapsed : float
        Seconds that this run has lasted already.
    environment : mapping
        Where Slurm says which job this is.
    """
    now = time.monotonic()
    ends = []
    if settings.time_limit is not None:
        ends.append((settings.time_limit - elapsed, "cluster.time_limit"))
    job = environment.get("SLURM_JOB_ID")
    if job and (end := _end_of_job(job, environment)) is not None:
        ends.append((end - time.time(), f"the time limit of Slurm job {job}"))
    if not ends:
        return None
    left, reason = min(ends)
    # However short the time, half of it is for work: a run that never begins is submitted again for ever.
    margin = min(settings.stop_before_end, max(0.0, left) / 2)
    return Deadline(now + left - margin, now + left - margin / 4, reason)


def _end_of_job(job: str, environment: Mapping[str, str]) -> float | None:
    """Return the end of a Slurm job in seconds since the epoch."""
    text = environment.get("SLURM_JOB_END_TIME", "")
    if text.isdigit():
        return float(text)
    try:
        done = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = dict(word.partition("=")[::2] for word in done.stdout.split())
    try:
        return datetime.fromisoformat(words.get("EndTime", "")).timestamp()
    except ValueError:  # "Unknown" for a job without a limit
        return None


class TimeLimited:
    """An engine that begins no task after a deadline; see :class:`daskae.engine.base.Engine`."""

    def __init__(self, engine: Engine, deadline: Deadline) -> None:
        self._engine, self._deadline = engine, deadline
        self.name = engine.name

    @property
    def slots(self) -> int:
        """Tasks that run at the same time."""
        return self._engine.slots

    def __enter__(self) -> Self:
        self._engine.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.__exit__(kind, error, trace)

    def run(self, function: Callable[..., Any], items: Sequence[Any], *shared: Any) -> Iterator[Outcome]:
        """Run tasks as long as there is time.

        Raises
        ------
        TimeLimitError
            When the time is over and tasks are left; those that had begun are done.
        """
        given = _UntilDeadline(items, self._deadline)
        yield from self._engine.run(function, given, *shared)
        if given.cut:
            raise time_is_over(self._deadline)


class _UntilDeadline(Sequence[Any]):
    """Items that come to an end at a deadline."""

    def __init__(self, items: Sequence[Any], deadline: Deadline) -> None:
        self._items, self._deadline, self.cut = items, deadline, False

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            if self._deadline.has_come():
                self.cut = True
                return
            yield item


def time_is_over(deadline: Deadline) -> TimeLimitError:
    """Return the error that says so."""
    return TimeLimitError(
        "the time is over before the work", deadline.reason, hint="run the same command again to go on; finished "
        "parts are kept",
    )  # fmt: skip


@contextmanager
def left_by(deadline: Deadline | None) -> Iterator[None]:
    """Leave the block with a TimeLimitError when its last moment has come, whatever it is waiting for.

    Works in the main thread of systems with interval timers; elsewhere the block waits for its tasks.
    """
    if deadline is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def leave(*_: Any) -> None:
        raise time_is_over(deadline)

    before = signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, deadline.leave - time.monotonic()))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe_deadline(deadline: Deadline) -> str:
    """Say when work stops, for the log."""
    left = max(0.0, deadline.stop - time.monotonic())
    return f"{deadline.reason}: no more work is begun in {format_seconds(left)}"
