"""Hand tasks to a Dask scheduler a few at a time, and find out what became of each.

The driver alone decides what is done again: it knows, from :mod:`daskae.engine.plugins`, which task was running where
when a worker died, and so whom to suspect. Tasks that only waited there are handed out again as if nothing had been.
"""

import math
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import distributed
from distributed.comm import CommClosedError

from daskae.engine.base import TASK_SHARE, Emit, Outcome, has_time, measured, over_limit, require_done, task_failure
from daskae.engine.deadline import Deadline
from daskae.engine.parcel import pack, unpack
from daskae.engine.plugins import LEFT, QUESTION
from daskae.engine.throttle import Throttle
from daskae.errors import DaskaeError, TaskKilledError, WorkersUnavailableError
from daskae.events import Warned, WorkerLost
from daskae.units import format_bytes

_IN_FLIGHT = 3
"""Tasks handed out for each slot: one running, the next ones there when it ends."""
_LOOK_SECONDS = 1.0
_ANSWER_SECONDS = 30.0
"""How long a scheduler may be silent."""
_FETCH_SECONDS = 10.0
"""How long to wait for a result before looking whether its worker is still there."""
_POST_MORTEM_SECONDS = 2.0
"""How long to wait for the reason of a worker's death."""
_MOST_DEPARTURES = 10
"""How often a worker may be asked to go in the middle of a task before that counts against the task."""
_UNKNOWN = {"number": -1, "tasks": [], "reason": "died", "rss": 0, "limit": 0}
"""What is said of a death that nobody has seen."""


def measured_on_worker(index: int, function: Callable[..., Any], item: Any, parcel: bytes) -> Outcome:
    """Run one task within the limit of the worker it runs on."""
    limit = distributed.get_worker().memory_manager.memory_limit
    return measured(index, function, item, unpack(parcel), int(limit * TASK_SHARE) if limit else None)


class Handout:
    """Runs tasks on a cluster.

    Parameters
    ----------
    client : distributed.Client
    slots : int
        Tasks that run at once.
    retries : int
        Deaths of workers that a task survives; the last two happen alone.
    emit : callable
        Told of lost workers and of pressure.
    watched : bool
        Whether the scheduler runs our plugin.
    by_value : bool
        Whether workers may lack the module that a person's own functions are from.
    patience : float
        Seconds without any worker after which the run ends.
    """

    def __init__(
        self, client: Any, slots: int, retries: int, emit: Emit, watched: bool = True, by_value: bool = False,
        patience: float = math.inf,
    ) -> None:  # fmt: skip
        self._client, self._emit, self._watched, self._by_value = client, emit, watched, by_value
        self._slots = slots
        self._tries = max(1, retries - 1)
        self._patience = patience
        self._alone_since: float | None = None
        self._throttle = Throttle(slots, emit)
        self._losses: dict[str, dict[str, Any]] = {}
        """The last loss of each address; another worker may have come to it."""
        self._looked = 0.0
        self._known = -1
        self._calls = 0
        self._look(0)

    def attempt(
        self,
        function: Callable[..., Any],
        items: Sequence[Any],
        shared: tuple[Any, ...],
        alone: bool,
        deadline: Deadline | None = None,
    ) -> Iterator[Outcome]:
        """Yield the outcome of every item; see :meth:`daskae.engine.base.Engine.attempt`."""
        self._calls += 1
        self._alone_since = None
        self._departures: Counter[int] = Counter()
        name = f"{function.__name__}-{self._calls}"
        parcel = pack(shared, by_value=self._by_value)
        waiting = deque(enumerate(items))
        pending: dict[Any, tuple[int, int]] = {}
        deaths: Counter[int] = Counter()
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        handed = 0
        try:
            while pending or (waiting and has_time(deadline)):
                while waiting and has_time(deadline) and len(pending) < (1 if alone else self._room()):
                    index, item = waiting.popleft()
                    key, handed = f"{name}-{index}-{handed}", handed + 1
                    future = self._client.submit(measured_on_worker, index, function, item, parcel, key=key, pure=False)
                    pending[future] = index, self._known
                    future.add_done_callback(done.put)
                self._look(_LOOK_SECONDS)
                try:
                    future = done.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                index, known = pending.pop(future)
                outcome = self._outcome(future, index, known, function, items[index], deaths, alone)
                if outcome is None:
                    waiting.appendleft((index, items[index]))
                else:
                    yield outcome
            require_done(iter(waiting), deadline)
        finally:
            if self._client.status == "running":
                self._client.cancel(list(pending))

    def _room(self) -> int:
        return _IN_FLIGHT * self._throttle.most if self._throttle.is_open else self._throttle.width

    def _outcome(
        self, future: Any, index: int, known: int, function: Callable[..., Any], item: Any, deaths: Counter[int],
        alone: bool,
    ) -> Outcome | None:  # fmt: skip
        """Return a finished future's outcome, None to hand it out once more, or raise its error in our form."""
        task = f"{function.__name__} {item}"
        try:
            return self._fetch(future)
        except DaskaeError:
            raise
        except distributed.scheduler.NoWorkerError as error:
            raise WorkersUnavailableError(
                "all workers are gone", task[:300], hint="run the same command again; finished parts are kept"
            ) from error
        except distributed.KilledWorker as error:
            return self._post_mortem(error, future.key, index, known, task, deaths, 1 if alone else self._tries)
        except (distributed.CancelledError, CommClosedError) as error:
            # A client that has lost its scheduler cancels what it waits for; so does a restart of the cluster.
            raise self._scheduler_gone(error) from error
        except Exception as error:
            raise task_failure(function, item, error) from error

    def _fetch(self, future: Any) -> Outcome | None:
        """Return what a task that has ended returned; None where that was lost with its worker."""
        while True:
            try:
                outcome: Outcome = future.result(timeout=_FETCH_SECONDS)
                return outcome
            except TimeoutError:
                if future.status == "error":
                    raise future.exception() from None
                if future.status != "finished":
                    # The scheduler would run it again by itself, while nobody looks whether there are workers.
                    return None
                self._look(_LOOK_SECONDS)

    def _post_mortem(
        self, error: Any, key: str, index: int, known: int, task: str, deaths: Counter[int], tries: int
    ) -> Outcome | None:
        """Say what a task has to do with the death of the worker it was given to."""
        loss = self._find_loss(error.last_worker.address, known)
        if loss["tasks"] and key not in loss["tasks"]:
            return None
        if loss["reason"] == LEFT:
            self._departures[index] += 1
            if self._departures[index] < _MOST_DEPARTURES:
                return None
        deaths[index] += 1 + error.allowed_failures
        if loss["reason"] == "memory":
            return Outcome(index, None, loss["rss"], 0.0, over_limit(task, loss["rss"], loss["limit"]))
        if deaths[index] < tries:
            return None
        killed = TaskKilledError(
            "the processes that ran a task died", task[:300],
            f"{deaths[index]} deaths, {format_bytes(loss['rss'])} of memory when last seen", "",
            "look for what the system says of them (dmesg, sacct, kubectl describe); if it was memory: "
            "raise --memory-limit or lower --block-size",
        )  # fmt: skip
        return Outcome(index, None, loss["rss"], 0.0, killed)

    def _find_loss(self, address: str, known: int) -> dict[str, Any]:
        """Return why a worker went, waiting for the word of it; an address may have lost another one before."""
        end = time.monotonic() + _POST_MORTEM_SECONDS
        while True:
            loss = self._losses.get(address, _UNKNOWN)
            if loss["number"] > known or not self._watched or time.monotonic() > end:
                return loss if loss["number"] > known else _UNKNOWN
            time.sleep(_POST_MORTEM_SECONDS / 20)
            self._look(0)

    def _look(self, seconds: float) -> None:
        """Ask the scheduler for news, unless that was done within the last seconds."""
        if time.monotonic() - self._looked < seconds:
            return
        self._looked = time.monotonic()
        if self._client.status != "running":
            raise self._scheduler_gone("the connection to it is lost")
        try:
            if not self._watched:
                self._require_workers(sum(self._client.nthreads().values()))
                return
            report = self._client.sync(
                getattr(self._client.scheduler, QUESTION), since=self._known, callback_timeout=_ANSWER_SECONDS
            )
        except (OSError, TimeoutError) as error:
            raise self._scheduler_gone(error) from error
        for loss in report["losses"]:
            self._losses[loss["worker"]] = loss
            if loss["reason"] != LEFT:
                self._emit(WorkerLost(loss["worker"], loss["reason"], tuple(loss["tasks"]), loss["rss"], loss["limit"]))
        self._known = report["number"]
        self._require_workers(report["threads"])
        # Workers that are still to come are counted too, or a cluster that grows by demand would see too little of it.
        self._throttle.resize(max(self._slots, report["threads"]))
        self._throttle.look(report["short"])

    def _require_workers(self, threads: int) -> None:
        """Wait some time for workers where there are none: a remote scheduler would wait without end."""
        now = time.monotonic()
        if threads:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
            self._emit(Warned(f"no worker is left; waiting {self._patience:g} s for others to come"))
        elif now - self._alone_since > self._patience:
            raise WorkersUnavailableError(
                "all workers are gone", str(self._client.scheduler.address), "0 workers",
                f"one within cluster.start_timeout = {self._patience:g} s",
                "look why they ended, start others, then run the same command again; finished parts are kept",
            )  # fmt: skip

    def _scheduler_gone(self, reason: object) -> WorkersUnavailableError:
        return WorkersUnavailableError(
            "the scheduler is gone, or somebody has restarted its cluster", str(self._client.scheduler.address),
            str(reason)[:200], hint="run the same command again; finished parts are kept",
        )  # fmt: skip
