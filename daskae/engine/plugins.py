"""Eyes inside a Dask cluster: every task's true peak memory, who is near a limit, and why a worker died.

:class:`TaskWatch` sits in each worker: it says when a task begins, and when it ends how much memory it took.
:class:`ClusterWatch` sits in the scheduler: it keeps what the workers say, bounded, and answers one question of the
driver. Both are found by their module's name where they run, so nothing of them depends on the driver's process; what
they hold is theirs to lose.

Not covered: with several threads a worker a peak is that of the process, whoever caused it.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import distributed
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from daskae.engine.throttle import NEAR, ROOM
from daskae.monitor.memory import PeakMeter, available_memory, process_limit
from daskae.units import format_bytes

LEFT = "left"
"""Reason of a worker that was asked to go, and said so."""
NEWCOMERS = "daskae-newcomers"
"""Beginning of the name of the plugin with which a client looks at workers that come; its id follows."""
TASK, QUESTION = "daskae_task", "daskae_watch"
"""Names of the message that workers send, and of the question that the driver asks."""
_HISTORY, _LOSSES = 1000, 200
_FREE = "daskae_free"
_POST_MORTEM_SECONDS = 0.3
"""How long a nanny may take to say that it was she who stopped a worker."""
_DYING = ("handle-worker-cleanup", "check-worker-ttl")
"""How Dask names the removal of a worker that did not say goodbye: the connection broke, or it was silent too long."""


class TaskWatch(WorkerPlugin):  # type: ignore[misc]
    """Worker half."""

    name = "daskae-tasks"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Begin to watch."""
        self._worker = worker
        self._running: dict[Any, tuple[PeakMeter, float]] = {}
        worker.metrics[_FREE] = lambda _: [available_memory(), process_limit()]

    def teardown(self, worker: Any) -> None:
        """End the meters of tasks that are still running."""
        for key in list(self._running):
            self._end(key)

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Measure from when a task begins to execute until it does so no more."""
        if finish == "executing":
            meter = PeakMeter()
            meter.__enter__()
            self._running[key] = (meter, time.perf_counter())
            self._worker.batched_send({"op": TASK, "key": key})
        elif start in ("executing", "long-running") and finish != "long-running":
            self._end(key)

    def _end(self, key: Any) -> None:
        if (entry := self._running.pop(key, None)) is not None:
            meter, began = entry
            meter.__exit__(None, None, None)
            self._worker.batched_send(
                {"op": TASK, "key": key, "peak": meter.peak, "seconds": time.perf_counter() - began}
            )


class ClusterWatch(SchedulerPlugin):  # type: ignore[misc]
    """Scheduler half."""

    name = "daskae-watch"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Begin to watch."""
        self._scheduler = scheduler
        self.history: deque[tuple[str, str, int, float]] = deque(maxlen=_HISTORY)
        self._losses: deque[dict[str, Any]] = deque(maxlen=_LOSSES)
        self._count = 0
        self._running: dict[str, set[str]] = {}
        self._states = dict(scheduler.workers)
        scheduler.stream_handlers[TASK] = self.take
        scheduler.handlers[QUESTION] = self.report

    def take(self, key: Any, worker: str, peak: int | None = None, seconds: float = 0.0) -> None:
        """Take a worker's message: a task begins, or it ended with a peak."""
        running = self._running.setdefault(worker, set())
        if peak is None:
            running.add(str(key))
        else:
            running.discard(str(key))
            self.history.append((str(key), worker, peak, seconds))

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Keep what is known of a worker beyond its end."""
        self._states[worker] = scheduler.workers[worker]

    def remove_worker(self, scheduler: Any, worker: str, *, stimulus_id: str = "", **kwargs: Any) -> None:
        """Take note of a worker that went, and whether it said so."""
        state, running = self._states.pop(worker, None), self._running.pop(worker, set())
        since, died = _came(scheduler, worker), stimulus_id.startswith(_DYING)
        self._count += 1
        loss = {
            "number": self._count, "worker": worker, "tasks": sorted(running), "since": since,
            "reason": "silent" if stimulus_id.startswith(_DYING[1]) or _was_silent(scheduler, worker, since)
            else LEFT if not died or _said_goodbye(scheduler, worker, since) else "died",
            "rss": int(state.metrics.get("memory", 0)) if state else 0,
            "limit": int(state.memory_limit or 0) if state else 0, "at": time.monotonic(),
        }  # fmt: skip
        self._losses.append(loss)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Forget what a driver wanted of workers to come: it may have been killed."""
        scheduler.worker_plugins.pop(f"{NEWCOMERS}-{client}", None)

    async def report(self, since: int) -> dict[str, Any]:
        """Answer the driver.

        Parameters
        ----------
        since : int
            Number of the last loss that it knows of; -1 to learn where to begin.

        Returns
        -------
        dict
            ``losses`` after the one asked for that are old enough to be judged, ``number`` of the last of them,
            ``short`` (texts that say where memory is short), ``threads`` there are, ``peak`` (highest of the history).
        """
        stopped = [(stamp, event) for stamp, event in self._scheduler.get_events("worker-restart-memory")]
        for loss in self._losses:
            for stamp, event in stopped:
                # The same address may have had another worker before.
                if event["worker"] == loss["worker"] and stamp >= loss["since"]:
                    loss.update(reason="memory", rss=event["rss"])
        ripe = time.monotonic() - _POST_MORTEM_SECONDS
        losses = [loss for loss in self._losses if loss["number"] > since >= 0 and loss["at"] <= ripe]
        return {
            "number": self._count if since < 0 else max([since, *(loss["number"] for loss in losses)]),
            "losses": losses,
            "short": list(self._shortages()),
            "threads": sum(state.nthreads for state in self._scheduler.workers.values()),
            "peak": max((peak for _, _, peak, _ in self.history), default=0),
        }

    def _shortages(self) -> Iterator[str]:
        full = set()
        for state in self._scheduler.workers.values():
            rss, limit = int(state.metrics.get("memory", 0)), int(state.memory_limit or 0)
            if state.status == distributed.Status.paused or (limit and rss > NEAR * limit):
                yield f"worker {state.address} holds {format_bytes(rss)} of {format_bytes(limit)}"
            free, total = state.metrics.get(_FREE) or (1, 1)
            if free < ROOM * total and state.host not in full:
                full.add(state.host)
                yield f"{format_bytes(free)} of {format_bytes(total)} are free on {state.host}"


def _came(scheduler: Any, worker: str) -> float:
    """When the worker that is or was last at an address came, by the scheduler's own stamps."""
    events = ((stamp, event) for stamp, event in scheduler.get_events(worker) if isinstance(event, dict))
    return max((stamp for stamp, event in events if event.get("action") == "add-worker"), default=0.0)


def _was_silent(scheduler: Any, worker: str, since: float) -> bool:
    """Whether the scheduler has missed a worker since it came, and so asked its nanny to end it."""
    return any(
        stamp >= since and event.get("action") == "worker-ttl-timed-out" and worker in event["workers"]
        for stamp, event in scheduler.get_events("scheduler")
        if isinstance(event, dict)
    )


def _said_goodbye(scheduler: Any, worker: str, since: float) -> bool:
    """Whether a worker was asked to go, and said so since it came."""
    events = (event for stamp, event in scheduler.get_events(worker) if stamp >= since)
    states = {event.get("status") for event in events if isinstance(event, dict)}
    return bool(states & {"closing", "closing_gracefully"})
