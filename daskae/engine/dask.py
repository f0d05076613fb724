"""Tasks on a Dask cluster; :mod:`daskae.engine.clusters` has the kinds there are.

Only a few tasks a worker are handed to the scheduler at once, so its memory does not grow with their number. Tasks get
records and file names and return records, so a lost worker loses only what it was running; Dask retries that.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import dask
import distributed

from daskae.allocators import ALLOCATOR_ENVIRONMENT
from daskae.config import ClusterSettings
from daskae.engine.base import LOCAL, Needs, Outcome, cores, measured, task_failure
from daskae.engine.clusters import connect
from daskae.engine.parcel import pack, unpack
from daskae.engine.probe import probe_workers
from daskae.engine.started import THREAD_VARIABLES
from daskae.errors import DaskaeError, EngineError, WorkersUnavailableError

_IN_FLIGHT = 3
"""Tasks handed out for each slot: one running, the next ones there when it ends."""
_NEEDS_NOTHING = Needs()


def dask_settings(settings: ClusterSettings) -> dict[str, Any]:
    """Return Dask's settings against lost workers and silent waits.

    By default a worker that needs more than 15 s to restart is given up, and a client without workers waits without
    end.
    """
    return {
        "distributed.deploy.lost-worker-timeout": f"{settings.replace_after}s",
        "distributed.scheduler.no-workers-timeout": settings.start_timeout,
        "distributed.scheduler.worker-ttl": settings.worker_ttl,
        "distributed.scheduler.allowed-failures": settings.retries,
        "distributed.nanny.pre-spawn-environ": {
            **dask.config.get("distributed.nanny.pre-spawn-environ", {}),
            **dict.fromkeys(THREAD_VARIABLES, "1"),
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
        ``local``, ``slurm``, ``kubernetes``, a scheduler address (``tcp://…``, ``tls://…``) or a scheduler file.
    settings : ClusterSettings
    workers : int, optional
        Worker processes of a cluster that is started; by default what its settings say, or one a core.
    memory_limit : int, optional
        Bytes a local worker may use; by default an equal share of what is free.
    needs : Needs
        What is checked on every worker before the first task.
    """

    def __init__(
        self,
        target: str,
        settings: ClusterSettings,
        workers: int | None = None,
        memory_limit: int | None = None,
        needs: Needs = _NEEDS_NOTHING,
    ) -> None:
        self.name = LOCAL if target == LOCAL else "dask"
        self._target, self._settings, self._needs = target, settings, needs
        self._workers, self._memory_limit = workers, memory_limit
        self.slots = workers or cores()
        self._stack = contextlib.ExitStack()
        self._calls = itertools.count()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(dask.config.set(dask_settings(self._settings)))
            connected = connect(self._target, self._settings, self._workers, self._memory_limit, self._needs, stack)
            self._client, self.slots = connected.client, connected.slots
            probe_workers(self._client, self._needs)
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

    def run(self, function: Callable[..., Any], items: Sequence[Any], *shared: Any) -> Iterator[Outcome]:
        """Run tasks, a few for each slot at a time."""
        call, name = next(self._calls), function.__name__
        parcel = pack(shared, by_value=self._target != LOCAL)
        waiting = iter(enumerate(items))
        pending: dict[Any, Any] = {}
        completed = distributed.as_completed(raise_errors=False)

        def hand_out() -> None:
            entry = next(waiting, None)
            if entry is not None:
                future = self._client.submit(
                    _run_packed, entry[0], function, entry[1], parcel, key=f"{name}-{call}-{entry[0]}", pure=False
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


def _run_packed(index: int, function: Callable[..., Any], item: Any, parcel: bytes) -> Outcome:
    return measured(index, function, item, unpack(parcel))


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
