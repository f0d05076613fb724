"""Snapshots of a run for somebody who watches from elsewhere, a few numbers at a time."""

import time
from collections.abc import Callable
from typing import Any

from daskae.events import Event, RunFinished, StageDone, StageStarted, TaskDone
from daskae.monitor.tally import Clock, Tally

PERIOD_SECONDS = 1.0
Send = Callable[[dict[str, Any]], None]


class Board:
    """Listener that hands on a snapshot when something has happened, at most one a second and at each stage's end.

    Parameters
    ----------
    send : callable
        Takes a snapshot; what it raises of connections that are gone is ignored, as a run needs no spectators.
    run_id : str
    projected_bytes : int
        Memory that a task is expected to need at most.
    clock : callable
        Seconds that only go up.
    """

    def __init__(self, send: Send, run_id: str, projected_bytes: int, clock: Clock = time.monotonic) -> None:
        self._send, self._run_id, self._projected = send, run_id, projected_bytes
        self._tally = Tally(clock)
        self._rejected = 0
        self._sent = float("-inf")

    def __call__(self, event: Event) -> None:
        """Count one event, and send what is known if it is time."""
        snapshot = self._snapshot() if isinstance(event, StageDone) else None
        self._tally(event)
        if isinstance(event, TaskDone):
            self._rejected += event.rejected
        now = self._tally.clock()
        due = isinstance(event, StageStarted | StageDone | RunFinished) or now - self._sent >= PERIOD_SECONDS
        if due and (snapshot := snapshot or self._snapshot()) is not None:
            self._sent = now
            try:
                self._send(snapshot)
            except (OSError, RuntimeError, TimeoutError):
                return

    def _snapshot(self) -> dict[str, Any] | None:
        stage, now = self._tally.current, self._tally.clock()
        if stage is None:
            return None
        return {
            "run_id": self._run_id,
            "stage": stage.stage,
            "done": stage.done,
            "tasks": stage.tasks,
            "reused": stage.reused,
            "rows": stage.rows,
            "rate": stage.rows_per_second(now) or 0.0,
            "rejected": self._rejected,
            "peak_bytes": self._tally.peak_bytes,
            "projected_bytes": self._projected,
            "elapsed": self._tally.elapsed,
        }
