"""Brings a cluster back to its full size after workers were lost.

Dask's clusters give a worker up that does not come back in time, and never start another one in its place.
"""

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from distributed.core import Status

PERIOD_SECONDS = 2.0


class Watchdog:
    """Context manager that looks at a cluster every now and then and scales it again where workers are missing.

    Parameters
    ----------
    cluster : SpecCluster
    scale : callable
        Brings the cluster to so many workers.
    wanted : int
        Workers that there are to be.
    """

    def __init__(self, cluster: Any, scale: Callable[[int], None], wanted: int) -> None:
        self._cluster, self._scale, self._wanted = cluster, scale, wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cluster-watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(PERIOD_SECONDS):
            # The cluster's own records are changed in its event loop only.
            with contextlib.suppress(RuntimeError):  # the loop ends with the cluster
                self._cluster.loop.add_callback(self._look)

    def _look(self) -> None:
        cluster = self._cluster
        if self._stop.is_set() or cluster.status != Status.running:
            return
        for name, worker in list(cluster.workers.items()):
            if worker.status in (Status.closed, Status.failed):
                del cluster.workers[name]
        if set(cluster.worker_spec) - set(cluster.workers):
            self._scale(self._wanted)
