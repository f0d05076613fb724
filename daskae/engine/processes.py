"""Tasks in worker processes of this machine, without a scheduler; a cluster takes over when one of them dies.

A local Dask cluster takes about a second to start, feed and end, and its scheduler needs a share of the cores that
the workers compute on: for a job of ten seconds that is a tenth of the time (measured). What is lost without a
scheduler is who was doing what when a process died, and starting another in its place. So at the first death all that
is not done goes to a Dask cluster, which has both.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from daskae.engine.base import (
    PROCESSES,
    Emit,
    Engine,
    Outcome,
    Show,
    has_time,
    measured,
    require_done,
    succeeding,
    task_failure,
)
from daskae.engine.deadline import Deadline
from daskae.engine.parcel import pack, unpack
from daskae.engine.pool import WorkerPool, start_pool
from daskae.engine.throttle import Throttle, shortage
from daskae.events import Warned

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0
"""How long nothing may end before processes that were stopped are taken for lost."""


class ProcessEngine:
    """Engine of worker processes; see :class:`daskae.engine.base.Engine`.

    Parameters
    ----------
    workers : int
    limit : int, optional
        Bytes each may hold.
    in_trouble : callable
        Makes the engine that goes on when a worker has died.
    emit : callable
    pool : WorkerPool, optional
        Workers that are there already; they end with the engine.
    patience : float
        Seconds in which nothing ends until processes that were stopped are taken for lost.
    """

    name = PROCESSES
    shares_memory = False

    def __init__(
        self,
        workers: int,
        limit: int | None,
        in_trouble: Callable[[], Engine],
        emit: Emit = lambda event: None,
        pool: WorkerPool | None = None,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self.slots = workers if pool is None else min(workers, pool.count)
        self.deadline: Deadline | None = None
        self._limit, self._in_trouble, self._emit, self._pool = limit, in_trouble, emit, pool
        self._throttle = Throttle(self.slots, emit)
        self._patience = patience
        self._successor: Engine | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._pool is None:
            self._pool = start_pool(self.slots)
        self._stack.enter_context(self._pool)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def show(self) -> Show | None:
        """There is no dashboard without a cluster."""
        return None

    def run(self, function: Callable[..., Any], items: Sequence[Any], *shared: Any) -> Iterator[Outcome]:
        """Run tasks; a few more than there are processes are handed out at once."""
        return succeeding(self.attempt(function, items, *shared))

    def attempt(
        self, function: Callable[..., Any], items: Sequence[Any], *shared: Any, alone: bool = False
    ) -> Iterator[Outcome]:
        """Run tasks; one that runs out of memory or kills its workers has an outcome with an error."""
        left = dict(enumerate(items))
        if self._successor is None:
            try:
                yield from self._attempt(function, left, shared, alone)
                return
            except BrokenExecutor:
                self._hand_over(len(left))
        assert self._successor is not None
        indexes = list(left)
        for outcome in self._successor.attempt(function, list(left.values()), *shared, alone=alone):
            yield replace(outcome, index=indexes[outcome.index])

    def _attempt(
        self, function: Callable[..., Any], left: dict[int, Any], shared: tuple[Any, ...], alone: bool
    ) -> Iterator[Outcome]:
        """Run tasks in the pool and take those that are done out of what is ``left``."""
        assert self._pool is not None, "the engine has not been entered"
        parcel = pack(shared, by_value=False)
        waiting, running = iter(list(left.items())), dict[Future[Outcome], int]()
        moved = time.monotonic()
        try:
            while True:
                while len(running) < (1 if alone else self._room()) and has_time(self.deadline):
                    if (entry := next(waiting, None)) is None:
                        break
                    index, item = entry
                    future = self._pool.submit(_measured, index, function, item, parcel, self._limit)
                    running[future] = index
                if not running:
                    require_done(waiting, self.deadline)
                    return
                done, _ = wait(running, _LOOK_SECONDS, return_when=FIRST_COMPLETED)
                self._throttle.look(shortage(None))
                if done:
                    moved = time.monotonic()
                elif time.monotonic() - moved > self._patience:
                    self._pool.kill_stopped()
                for future in done:
                    index = running.pop(future)
                    outcome = _outcome(future, function, left[index])
                    del left[index]
                    yield outcome
        finally:
            for future in running:
                future.cancel()

    def _room(self) -> int:
        if not self._throttle.is_open:
            return self._throttle.width
        # Where there are more processes than may run, what waits in the pool would run too.
        assert self._pool is not None
        return 2 * self.slots if self.slots == self._pool.count else self.slots

    def _hand_over(self, tasks: int) -> None:
        """Go on with the other engine, for good."""
        self._emit(Warned(f"a worker process has died; a Dask cluster of this machine goes on with {tasks} tasks"))
        assert self._pool is not None
        self._pool.close(at_once=True)  # one that is stopped would hold its memory
        self._successor = self._stack.enter_context(self._in_trouble())
        self._successor.deadline = self.deadline


def _measured(index: int, function: Callable[..., Any], item: Any, parcel: bytes, limit: int | None) -> Outcome:
    return measured(index, function, item, unpack(parcel), limit)


def _outcome(future: "Future[Outcome]", function: Callable[..., Any], item: Any) -> Outcome:
    """Return a finished future's outcome, or raise its error in our form."""
    try:
        return future.result()
    except BrokenExecutor:
        raise
    except Exception as error:
        failure = task_failure(function, item, error)
        if failure is error:
            raise
        raise failure from error
