"""Breaks a silence: says what is being waited for when nothing has ended for a while."""

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Literal, Self

from daskae.events import Event, Stage, StageDone, StageStarted, StillRunning
from daskae.monitor.progress import Timer
from daskae.monitor.tally import Clock

_NAMED = 3
"""Tasks that are named; those that were handed out first have been running longest."""


class Heartbeat:
    """Listener and context manager that sends :class:`~daskae.events.StillRunning` to all listeners.

    Parameters
    ----------
    emit : callable
        Tells all listeners.
    pending : callable
        Gives the tasks that have not ended, in the order in which they are handed out.
    silence : float
        Seconds without an event, after which one is sent; and again each time they have passed.
    clock : callable
        Seconds that only go up.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        pending: Callable[[], Collection[str]],
        silence: float,
        clock: Clock = time.monotonic,
    ) -> None:
        self._emit, self._pending, self._silence, self._clock = emit, pending, silence, clock
        self._stage: Stage | Literal[""] = ""
        self._ended = self._told = clock()

    def __call__(self, event: Event) -> None:
        """Take one event; each breaks the silence."""
        self._told = self._clock()
        if isinstance(event, StillRunning):
            return
        self._ended = self._told
        if isinstance(event, StageStarted):
            self._stage = event.stage
        elif isinstance(event, StageDone):
            self._stage = ""

    def tick(self) -> None:
        """Send an event if one is due."""
        now = self._clock()
        if now - self._told < self._silence:
            return
        pending = self._pending()
        first = tuple(islice(pending, _NAMED))
        with suppress(OSError):  # a full disk is told by the run itself
            self._emit(StillRunning(self._stage, now - self._ended, first, len(pending) - len(first)))

    def __enter__(self) -> Self:
        self._timer = Timer(self._silence / 5, self.tick)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.stop()
