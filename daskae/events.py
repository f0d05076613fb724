"""What happens in a run, as small frozen records.

The driver emits them in order; a *listener* is any callable that takes one. Progress on the terminal, the log file and
``events.jsonl`` are listeners; none of them knows Dask, and a run works the same without any.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Stage = Literal[
    "discover", "plan", "map", "unique", "reduce", "finalize", "quarantine", "gate", "publish", "report", "profile"
]  # fmt: skip
LossReason = Literal["memory", "died", "silent"]
"""``memory``: stopped above its limit; ``died``: killed or crashed; ``silent``: not heard of for too long."""
Status = Literal["running", "done", "done_with_rejects", "refused", "failed", "interrupted"]


@dataclass(frozen=True)
class Event:
    """Base of all events."""

    at: float = field(default_factory=time.time, kw_only=True)
    """Wall clock, seconds since the epoch; for people only, nothing is ordered by it."""

    def to_json(self) -> dict[str, Any]:
        """Return the event as plain data with its kind."""
        return {"event": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class RunStarted(Event):
    """A run has its folder and begins."""

    run_id: str
    inputs: tuple[str, ...]
    target: str
    """Never holds a password."""
    run_dir: str


@dataclass(frozen=True)
class PlanReady(Event):
    """Inputs are known and cut into partitions."""

    files: int
    input_bytes: int
    partitions: int
    reused: int
    """Partitions whose map output is already there."""
    buckets: int
    projected_bytes: int
    """Largest memory that one task is expected to need."""
    engine: str


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage begins; ``tasks`` is 0 for stages of the driver alone."""

    stage: Stage
    tasks: int = 0
    reused: int = 0
    total_bytes: int = 0
    """Input bytes of the tasks to run, where the stage reads input."""


@dataclass(frozen=True)
class TaskDone(Event):
    """One task of a stage ended well."""

    stage: Stage
    task: str
    rows: int
    input_bytes: int
    peak_bytes: int
    """Measured peak memory of the process that ran it."""
    seconds: float
    rejected: int = 0
    """Rows rejected by it."""


@dataclass(frozen=True)
class StageDone(Event):
    """A stage ended well."""

    stage: Stage
    seconds: float


@dataclass(frozen=True)
class StepApplied(Event):
    """A transformation has seen all its rows."""

    step: str
    rows_in: int
    rows_out: int
    failed: int
    """Rows left as they are because it failed on them."""
    partitions: int
    skipped: int
    """Partitions for which its condition was not true."""
    seconds: float
    """Added up over tasks."""


@dataclass(frozen=True)
class StillRunning(Event):
    """Nothing has ended for a while; sent from a thread of its own."""

    stage: Stage | Literal[""]
    """Empty between stages."""
    seconds: float
    """Since something ended last."""
    tasks: tuple[str, ...]
    """Those that have been running longest; empty for stages of the driver alone."""
    others: int = 0
    """Further tasks that have not ended, most of them not begun."""


@dataclass(frozen=True)
class WorkerLost(Event):
    """A worker process is gone that was not asked to go."""

    worker: str
    reason: LossReason
    tasks: tuple[str, ...]
    """What it was running."""
    rss_bytes: int
    """Its resident memory as last seen."""
    limit_bytes: int
    """The most it may have; 0 for no limit."""


@dataclass(frozen=True)
class MemoryPressure(Event):
    """Memory got short, or is enough again: fewer, or more, tasks run at once from now on."""

    at_once: int
    of: int
    """How many run at once when there is enough."""
    cause: str
    """Empty when it is over."""


@dataclass(frozen=True)
class TaskRepeated(Event):
    """A task ran out of memory or died with its process; it is run again, alone."""

    stage: Stage
    task: str
    pieces: int
    """Smaller tasks it is cut into; 1 for the same once more."""
    cause: str


@dataclass(frozen=True)
class Warned(Event):
    """Something a person should know; the run goes on."""

    message: str


@dataclass(frozen=True)
class Noted(Event):
    """Something a person may want to know; nothing is wrong."""

    message: str


@dataclass(frozen=True)
class RunFinished(Event):
    """The run ended, well or not."""

    status: Status
    seconds: float
    error: str = ""


Listener = Callable[[Event], None]
