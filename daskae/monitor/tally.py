"""How far a run is, counted from its events; shared by the live bar, the plain lines and the log file."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from daskae.events import Event, RunStarted, Stage, StageDone, StageStarted, TaskDone

Clock = Callable[[], float]


@dataclass
class StageTally:
    """One stage: what it has to do and what it has done."""

    stage: Stage
    tasks: int
    """Tasks to run now; parts that are reused come on top."""
    reused: int
    total_bytes: int
    started: float
    done: int = 0
    rows: int = 0
    input_bytes: int = 0
    last_done: float = 0.0
    """When the last task ended, by the clock of the tally."""

    @property
    def fraction(self) -> float:
        """Share of the work that is done, by bytes where the stage reads input, else by tasks."""
        if self.total_bytes > 0:
            return min(1.0, self.input_bytes / self.total_bytes)
        return min(1.0, self.done / self.tasks) if self.tasks else 0.0

    def rows_per_second(self, now: float) -> float | None:
        """Return the mean rate since the stage began, or None while there is nothing to divide."""
        elapsed = now - self.started
        return self.rows / elapsed if self.rows and elapsed > 0 else None

    def eta(self, now: float) -> float | None:
        """Return the seconds still to go, or None when that cannot be told.

        The length of the stage is estimated when a task ends and counted down in between. A stage that has outlived its
        estimate has none until the next task ends.
        """
        if not 0 < self.fraction < 1:
            return None
        remaining = (self.last_done - self.started) / self.fraction - (now - self.started)
        return remaining if remaining >= 0 else None


class Tally:
    """Listener that keeps the running stage and the highest memory seen.

    Parameters
    ----------
    clock : callable
        Seconds that only go up; tests pass their own.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.started = clock()
        self.current: StageTally | None = None
        self.peak_bytes = 0

    def __call__(self, event: Event) -> None:
        """Take one event."""
        now = self.clock()
        match event:
            case RunStarted():
                self.started = now
            case StageStarted():
                self.current = StageTally(event.stage, event.tasks, event.reused, event.total_bytes, now)
            case TaskDone():
                self.peak_bytes = max(self.peak_bytes, event.peak_bytes)
                self._count(event, now)
            case StageDone() if self.current is not None and self.current.stage == event.stage:
                self.current = None
            case _:
                pass

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.started

    def _count(self, event: TaskDone, now: float) -> None:
        stage = self.current
        if stage is None or stage.stage != event.stage:
            return
        stage.done += 1
        stage.rows += event.rows
        stage.input_bytes += event.input_bytes
        stage.last_done = now
