"""Tasks in this process, in as many threads as there are cores: no cluster to wait for, and easy to debug.

Parsing, casting, sorting and grouping happen in Arrow, NumPy and Polars, which release the interpreter lock.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self

from daskae.engine.base import INLINE, Outcome, Show, cores, in_time, measured, require_done, task_failure
from daskae.engine.deadline import Deadline

_SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter from one that is back from Arrow or Polars; Python's own 5 ms cost the map
stage a twentieth of its time (measured)."""


class InlineEngine:
    """Engine of this process; see :class:`daskae.engine.base.Engine`."""

    name = INLINE

    def __init__(self, workers: int | None = None) -> None:
        self.slots = workers or cores()
        self.deadline: Deadline | None = None

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self.slots, thread_name_prefix="daskae")
        self._switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        sys.setswitchinterval(self._switch_seconds)

    def show(self) -> Show | None:
        """There is no dashboard without a cluster."""
        return None

    def run(self, function: Callable[..., Any], items: Sequence[Any], *shared: Any) -> Iterator[Outcome]:
        """Run tasks; a few more than there are threads are handed out at once."""
        waiting = iter(enumerate(items))
        if self.slots == 1:
            while (entry := in_time(waiting, self.deadline)) is not None:
                yield _named(entry[0], function, entry[1], shared)
            require_done(waiting, self.deadline)
            return
        running: set[Future[Outcome]] = set()
        try:
            while True:
                while len(running) < 2 * self.slots and (entry := in_time(waiting, self.deadline)) is not None:
                    running.add(self._pool.submit(_named, entry[0], function, entry[1], shared))
                if not running:
                    require_done(waiting, self.deadline)
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


def _named(index: int, function: Callable[..., Any], item: Any, shared: tuple[Any, ...]) -> Outcome:
    """Run a task; an error that is not ours names the task, as on a cluster."""
    try:
        return measured(index, function, item, shared)
    except Exception as error:
        failure = task_failure(function, item, error)
        if failure is error:
            raise
        raise failure from error
