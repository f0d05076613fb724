"""Tasks on a Dask cluster: worker processes of this machine, or a scheduler somewhere else.

Only a few tasks a worker are handed to the scheduler at once, so its memory does not grow with their number. Tasks get
records and file names and return records, so a lost worker loses only what it was running; Dask retries that.
"""

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import dask
import distributed

from daskae.allocators import ALLOCATOR_ENVIRONMENT
from daskae.config import ClusterSettings
from daskae.engine.base import LOCAL, Outcome, cores, measured, task_failure
from daskae.errors import DaskaeError, EngineError, WorkersUnavailableError
from daskae.monitor.memory import available_memory

_IN_FLIGHT = 3
"""Tasks handed out for each slot: one running, the next ones there when it ends."""
_THREADS = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "ARROW_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def dask_settings(settings: ClusterSettings) -> dict[str, Any]:
    """Return Dask's settings against lost workers and silent waits.

    By default a worker that needs more than 15 s to restart is given up for ever, and a client without workers waits
    without end.
    """
    return {
        "distributed.deploy.lost-worker-timeout": "5 minutes",
        "distributed.scheduler.no-workers-timeout": settings.start_timeout,
        "distributed.scheduler.worker-ttl": settings.worker_ttl,
        "distributed.scheduler.allowed-failures": settings.retries,
        "distributed.nanny.pre-spawn-environ": {
            **dask.config.get("distributed.nanny.pre-spawn-environ", {}),
            **_THREADS,
            **ALLOCATOR_ENVIRONMENT,
        },
        "distributed.comm.timeouts.connect": "60s",
        # The sampling profiler stops every worker thread a hundred times a second.
        "distributed.worker.profile.enabled": False,
    }


class DaskEngine:
    """Engine of a Dask cluster; see :class:`daskae.engine.base.Engine`.

    Parameters
    ----------
    target : str
        ``local`` for worker processes here, a scheduler address (``tcp://…``, ``tls://…``) or a scheduler file.
    settings : ClusterSettings
    workers : int, optional
        Worker processes of a local cluster; by default one a core.
    memory_limit : int, optional
        Bytes a local worker may use; by default an equal share of what is free.
    """

    def __init__(
        self, target: str, settings: ClusterSettings, workers: int | None = None, memory_limit: int | None = None
    ) -> None:
        self.name = LOCAL if target == LOCAL else "dask"
        self._target, self._settings = target, settings
        self.slots = workers or cores()
        self._memory_limit = memory_limit
        self._stack = contextlib.ExitStack()
        self._calls = itertools.count()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(dask.config.set(dask_settings(self._settings)))
            if self._target == LOCAL:
                cluster = stack.enter_context(self._local_cluster())
                self._client = stack.enter_context(distributed.Client(cluster))
            else:
                self._client = stack.enter_context(self._remote_client())
            self._wait_for_workers()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def dashboard(self) -> str:
        """Address of the dashboard, empty when it is off."""
        return str(self._client.dashboard_link) if self._settings.dashboard else ""

    def _local_cluster(self) -> Any:
        limit = self._memory_limit or int(available_memory() * 0.9) // self.slots
        return distributed.LocalCluster(
            n_workers=self.slots,
            threads_per_worker=1,
            processes=True,
            memory_limit=limit,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )

    def _remote_client(self) -> Any:
        is_file = os.path.exists(self._target)
        options: dict[str, Any] = {"scheduler_file": self._target} if is_file else {"address": self._target}
        try:
            return distributed.Client(timeout=self._settings.start_timeout, **options)
        except (OSError, TimeoutError, TypeError, ValueError) as error:
            raise WorkersUnavailableError(
                "no scheduler answers", self._target, str(error)[:200], "a running Dask scheduler",
                "start it, or leave --cluster out to run on this machine",
            ) from error  # fmt: skip

    def _wait_for_workers(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=self._settings.start_timeout)
        except TimeoutError as error:
            raise WorkersUnavailableError(
                "no worker came", self._target, "0 workers", f"one within {self._settings.start_timeout}"
            ) from error
        if self._target != LOCAL:
            threads = sum(self._client.nthreads().values())
            self.slots = max(1, threads)

    def run(self, function: Callable[..., Any], items: Sequence[Any], *shared: Any) -> Iterator[Outcome]:
        """Run tasks, a few for each slot at a time."""
        call, name = next(self._calls), function.__name__
        waiting = iter(enumerate(items))
        pending: dict[Any, Any] = {}
        completed = distributed.as_completed(raise_errors=False)

        def hand_out() -> None:
            entry = next(waiting, None)
            if entry is not None:
                future = self._client.submit(
                    measured, entry[0], function, entry[1], shared, key=f"{name}-{call}-{entry[0]}", pure=False
                )
                pending[future] = entry[1]
                completed.add(future)

        for _ in range(_IN_FLIGHT * self.slots):
            hand_out()
        try:
            while pending:
                future = next(completed)
                item = pending.pop(future)
                outcome = _result(future, function, item)
                hand_out()
                yield outcome
        finally:
            self._client.cancel(list(pending))


def _result(future: Any, function: Callable[..., Any], item: Any) -> Outcome:
    """Return a finished future's outcome, or raise its error in our form."""
    name = function.__name__
    try:
        outcome: Outcome = future.result()
        return outcome
    except DaskaeError:
        raise
    except distributed.scheduler.NoWorkerError as error:
        raise WorkersUnavailableError(
            "all workers are gone", f"{name} {item}", hint="run the same command again; finished parts are kept"
        ) from error
    except distributed.KilledWorker as error:
        raise EngineError(
            "a task killed every worker that ran it", f"{name} {item}", f"{error.allowed_failures + 1} workers died",
            hint="look at memory: lower --block-size or raise --memory-limit",
        ) from error  # fmt: skip
    except Exception as error:
        raise task_failure(function, item, error) from error
