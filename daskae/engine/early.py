"""Workers made ready while the driver still looks at the input, on a guess of what a run will need.

The guess is from the sizes of local inputs, and from whether there was a run before, whose results may serve again: if
it is wrong, the run is a little slower or a process was started in vain.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from glob import glob
from types import TracebackType
from typing import Self

from daskae.config import Settings
from daskae.engine.base import AUTO, LOCAL, PROCESSES, choose_engine, cores
from daskae.engine.forks import prepare_workers
from daskae.engine.pool import WorkerPool, fork_pool


class EarlyWorkers:
    """Holds a pool until an engine takes it, or ends it."""

    def __init__(self, pool: WorkerPool | None = None) -> None:
        self._pool = pool

    def take(self) -> WorkerPool | None:
        """Return the pool, once; whoever takes it ends it."""
        pool, self._pool = self._pool, None
        return pool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (pool := self.take()) is not None:
            pool.close(at_once=True)


NO_WORKERS = EarlyWorkers()


def expect_workers(settings: Settings) -> str:
    """Prepare for workers before anything large is imported.

    Those of a local cluster import what they need while the driver does. Those that will be forks take over how many
    threads Polars has: one, for each computes on one core.

    Returns
    -------
    str
        The engine that the run is expected to choose; empty if it may find everything done.
    """
    expected = _expected(settings)
    if expected == LOCAL:
        prepare_workers()
    elif expected == PROCESSES:
        os.environ.setdefault("POLARS_MAX_THREADS", "1")
    return expected


def fork_workers(expected: str, workers: int | None) -> EarlyWorkers:
    """Fork worker processes if such are expected; to be called when all is imported and nothing is computed."""
    return EarlyWorkers(fork_pool(workers or cores()) if expected == PROCESSES else None)


def _expected(settings: Settings) -> str:
    """Look at the settings and the sizes of local inputs."""
    if settings.work_dir.exists() and not settings.fresh:
        return ""
    asked = settings.cluster_name
    if asked != AUTO:
        return asked
    return choose_engine(AUTO, _local_bytes(settings.inputs, settings.cluster.processes_below), settings.cluster)[0]


def _local_bytes(inputs: Sequence[str], enough: int) -> int:
    """Count the bytes of local inputs, up to ``enough``; what cannot be looked at has none, discovery will say why."""
    found = 0
    with suppress(OSError, ValueError):
        for path in _local_files(inputs):
            found += os.path.getsize(path)
            if found >= enough:
                break
    return found


def _local_files(inputs: Sequence[str]) -> Iterator[str]:
    for text in inputs:
        for path in [text] if os.path.exists(text) else glob(text, recursive=True):
            if os.path.isfile(path):
                yield path
            for folder, _, names in os.walk(path):
                yield from (os.path.join(folder, name) for name in names)
