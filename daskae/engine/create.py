"""From a name to an engine, importing Dask only where it is used."""

from functools import partial

from daskae.config import ClusterSettings
from daskae.engine.base import (
    INLINE,
    KUBERNETES,
    LOCAL,
    PROCESSES,
    SLURM,
    Emit,
    Engine,
    Needs,
    allowed_memory,
    local_workers,
)
from daskae.engine.deferred import DeferredEngine
from daskae.engine.early import NO_WORKERS, EarlyWorkers
from daskae.errors import SettingsError

_ADDRESSES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")
_NEEDS_NOTHING = Needs()


def create_engine(
    name: str,
    settings: ClusterSettings,
    workers: int | None = None,
    memory_limit: int | None = None,
    needs: Needs = _NEEDS_NOTHING,
    emit: Emit = lambda event: None,
    early: EarlyWorkers = NO_WORKERS,
) -> Engine:
    """Make the engine of a name: ``inline``, ``processes``, ``local``, ``slurm``, ``kubernetes``, an address or a
    scheduler file.

    Parameters
    ----------
    name : str
    settings : ClusterSettings
    workers : int, optional
        Threads or worker processes; by default one a core of this machine, or what the cluster's settings say.
    memory_limit : int, optional
        Bytes a worker of this machine may use.
    needs : Needs
        What is checked on every worker before the first task.
    emit : callable
        Told of lost workers and of memory that gets short.
    early : EarlyWorkers
        Processes that may be there already, for ``processes``.

    Raises
    ------
    SettingsError
        If the name stands for none.
    """
    if name == INLINE:
        from daskae.engine.inline import InlineEngine

        return InlineEngine(workers, memory_limit, emit)
    if name == PROCESSES:

        def start_processes() -> Engine:
            from daskae.engine.processes import ProcessEngine

            count = local_workers(workers, needs.projected_bytes)
            limit = allowed_memory(PROCESSES, settings, count, memory_limit)
            cluster = partial(create_engine, LOCAL, settings, workers, memory_limit, needs, emit)
            return ProcessEngine(count, limit, cluster, emit, early.take())

        return DeferredEngine(PROCESSES, start_processes, workers)
    if name in (LOCAL, SLURM, KUBERNETES) or name.startswith(_ADDRESSES) or name.endswith(".json"):

        def start() -> Engine:
            from daskae.engine.dask import DaskEngine

            return DaskEngine(name, settings, workers, memory_limit, needs, emit)

        return DeferredEngine(LOCAL if name == LOCAL else "dask", start, workers, settings.dashboard)
    raise SettingsError(
        "unknown cluster", "--cluster", name,
        "auto, inline, processes, local, slurm, kubernetes, tcp://…, tls://…, a scheduler FILE.json",
    )  # fmt: skip
