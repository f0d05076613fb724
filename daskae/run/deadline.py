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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from daskae.config import ClusterSettings
from daskae.engine.deadline import Deadline
from daskae.units import format_seconds


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


class _TimeIsOver(BaseException):
    """Passes through a rule or a step of a person's own that catches every Exception."""


@contextmanager
def left_by(deadline: Deadline | None) -> Iterator[None]:
    """Leave the block with a TimeLimitError when its last moment has come, whatever it is waiting for.

    Works in the main thread of systems with interval timers; elsewhere the block waits for its tasks.
    """
    if deadline is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def leave(*_: Any) -> None:
        raise _TimeIsOver

    before = signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, max(0.001, deadline.leave - time.monotonic()))
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeIsOver:
        raise deadline.over() from None
    finally:
        signal.signal(signal.SIGALRM, before)


def describe_deadline(deadline: Deadline) -> str:
    """Say when work stops, for the log."""
    left = max(0.0, deadline.stop - time.monotonic())
    return f"{deadline.reason}: no more work is begun in {format_seconds(left)}"
