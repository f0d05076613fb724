"""Tasks on a Dask cluster; :mod:`daskae.engine.clusters` has the kinds there are.

Only a few tasks a worker are handed to the scheduler at once, so its memory does not grow with their number. Tasks get
records and file names and return records, so a lost worker loses only what it was running.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import dask

from daskae.config import ClusterSettings
from daskae.engine.base import LOCAL, Emit, Needs, Outcome, Show, cores, succeeding
from daskae.engine.clusters import connect
from daskae.engine.deadline import Deadline
from daskae.engine.forks import METHOD, WORKER_ENVIRONMENT, main_left_out
from daskae.engine.handing import Handout
from daskae.engine.newcomers import watch_newcomers
from daskae.engine.page import TOPIC, add_page, describe_way
from daskae.engine.plugins import ClusterWatch, TaskWatch
from daskae.engine.probe import probe_workers
from daskae.events import Warned
from daskae.units import parse_seconds

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
        # Which task is to blame for a death, and how often it may be tried, is known better by the driver.
        "distributed.scheduler.allowed-failures": 0,
        "distributed.nanny.pre-spawn-environ": {
            **dask.config.get("distributed.nanny.pre-spawn-environ", {}),
            **WORKER_ENVIRONMENT,
        },
        "distributed.worker.multiprocessing-method": METHOD,
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
    emit : callable
        Told of lost workers and of memory that gets short.
    """

    def __init__(
        self,
        target: str,
        settings: ClusterSettings,
        workers: int | None = None,
        memory_limit: int | None = None,
        needs: Needs = _NEEDS_NOTHING,
        emit: Emit = lambda event: None,
    ) -> None:
        self.name = LOCAL if target == LOCAL else "dask"
        self._target, self._settings, self._needs = target, settings, needs
        self._workers, self._memory_limit = workers, memory_limit
        self.slots = workers or cores()
        self.deadline: Deadline | None = None
        self.shares_memory = False
        self._emit = emit
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(dask.config.set(dask_settings(self._settings)))
            if self._target == LOCAL:
                stack.enter_context(main_left_out())
            connected = connect(
                self._target, self._settings, self._workers, self._memory_limit, self._needs, stack, self._emit
            )
            self._client, self.slots = connected.client, connected.slots
            self.shares_memory = max(self._client.nthreads().values(), default=1) > 1
            probe_workers(self._client, self._needs)
            if self._target != LOCAL:
                stack.enter_context(watch_newcomers(self._client, self._needs, self._emit))
            retries, by_value = self._settings.retries, self._target != LOCAL
            patience = parse_seconds(self._settings.start_timeout)
            self._handout = Handout(self._client, self.slots, retries, self._emit, self._watch(), by_value, patience)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def show(self) -> Show | None:
        """Add our page to the scheduler's dashboard, if that was asked for."""
        if not self._settings.dashboard:
            return None
        try:
            self._client.run_on_scheduler(add_page)
        except (ImportError, AttributeError) as error:
            note = f"no dashboard: {error}; where the scheduler runs, pip install 'daskae[dashboard]'"
            return Show(lambda snapshot: None, note)
        note = describe_way(self._client.dashboard_link, self._client.scheduler.address)
        return Show(lambda snapshot: self._client.log_event(TOPIC, snapshot), note)

    def _watch(self) -> bool:
        """Install our plugins; False where the scheduler cannot load them."""
        try:
            self._client.register_plugin(ClusterWatch())
            self._client.register_plugin(TaskWatch())
        except Exception as error:
            text = f"{type(error).__name__}: {error}"[:200]
            self._emit(Warned(f"the scheduler cannot watch memory, is daskae installed where it runs? {text}"))
            return False
        return True

    def run(self, function: Callable[..., Any], items: Sequence[Any], *shared: Any) -> Iterator[Outcome]:
        """Run tasks, a few for each slot at a time."""
        return succeeding(self.attempt(function, items, *shared))

    def attempt(
        self, function: Callable[..., Any], items: Sequence[Any], *shared: Any, alone: bool = False
    ) -> Iterator[Outcome]:
        """Run tasks; one that runs out of memory or kills its workers has an outcome with an error."""
        return self._handout.attempt(function, items, shared, alone, self.deadline)
