"""The kinds of clusters, each with how it is started and how large it is to be."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import distributed

from daskae.config import ClusterSettings
from daskae.engine.base import KUBERNETES, LOCAL, SLURM, Emit, Needs
from daskae.engine.started import Started
from daskae.engine.watchdog import Watchdog
from daskae.errors import WorkersUnavailableError
from daskae.units import parse_seconds


@dataclass(frozen=True)
class Connected:
    """A cluster ready for work."""

    client: Any
    slots: int
    """Tasks that run at the same time once all workers are there."""


def connect(
    target: str,
    settings: ClusterSettings,
    workers: int | None,
    memory_limit: int | None,
    needs: Needs,
    stack: ExitStack,
    emit: Emit,
) -> Connected:
    """Start or reach a cluster; what was started ends with the stack.

    Raises
    ------
    SettingsError
        If the settings cannot work.
    WorkersUnavailableError
        If no scheduler answers or no worker comes in time.
    """
    stack.enter_context(_dask_is_silent())
    if target not in (LOCAL, SLURM, KUBERNETES):
        from daskae.engine.remote import open_client

        client = stack.enter_context(open_client(target, settings))
        wait_for_worker(client, target, settings)
        return Connected(client, max(1, sum(client.nthreads().values())))
    started = _start(target, settings, workers, memory_limit, needs, emit)
    stack.callback(started.cluster.close)
    started.look_often()
    client = stack.enter_context(distributed.Client(started.cluster, timeout=settings.start_timeout))
    slots = started.workers
    if settings.adaptive is not None:
        slots = settings.adaptive.maximum
        started.adapt(settings.adaptive.minimum, slots)
    elif started.scale is not None:
        started.scale(started.workers)
        stack.enter_context(Watchdog(started.cluster, started.scale, started.workers))
    wait_for_worker(client, target, settings)
    return Connected(client, slots)


@contextmanager
def _dask_is_silent() -> Iterator[None]:
    """Keep Dask's tracebacks off the terminal: what goes wrong is said in our form."""
    levels = {handler: handler.level for handler in logging.getLogger("distributed").handlers}
    for handler in levels:
        handler.setLevel(logging.CRITICAL)
    interrupted = False
    try:
        yield
    except KeyboardInterrupt:
        interrupted = True  # in the middle of closing: its threads may have something to say until this process ends
        raise
    finally:
        for handler, level in () if interrupted else levels.items():
            handler.setLevel(level)


def _start(
    target: str, settings: ClusterSettings, workers: int | None, memory_limit: int | None, needs: Needs, emit: Emit
) -> Started:
    if target == SLURM:
        from daskae.engine.slurm import start_slurm

        return start_slurm(settings, workers, needs, emit)
    if target == KUBERNETES:
        from daskae.engine.kubernetes import start_kubernetes

        return start_kubernetes(settings, workers)
    from daskae.engine.local import start_local

    return start_local(settings, workers, memory_limit, needs)


def wait_for_worker(client: Any, target: str, settings: ClusterSettings) -> None:
    """Wait for the first worker.

    Raises
    ------
    WorkersUnavailableError
    """
    try:
        client.wait_for_workers(1, timeout=parse_seconds(settings.start_timeout))
    except TimeoutError as error:
        raise WorkersUnavailableError(
            "no worker came", target, "0 workers", f"one within cluster.start_timeout = {settings.start_timeout}",
            _HINTS.get(target, "start workers for this scheduler, then run the same command again"),
        ) from error  # fmt: skip


_HINTS = {
    SLURM: "squeue and the jobs' output in cluster.slurm.log_directory say why; a longer start_timeout waits longer",
    KUBERNETES: "kubectl describe pods says why; a longer start_timeout waits longer",
    LOCAL: "look at free memory, or use --cluster inline",
}
