"""What the kinds of clusters that this process starts have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

THREAD_VARIABLES = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "ARROW_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Set to 1 for workers: a process runs one task on one core."""


_LOOKS = 10
"""How often a scheduler looks for silent workers in the time that a worker may be silent."""


def _begin_anew(looks: Any) -> None:
    looks.stop()
    looks.start()


@dataclass(frozen=True)
class Started:
    """A cluster that this process has started and will end."""

    cluster: Any
    workers: int
    """Worker processes it is to have."""
    scale: Callable[[int], None] | None = None
    """Bring the cluster to so many workers; None where something else sees to that."""

    def look_often(self) -> None:
        """Let a scheduler of this process look for silent workers often.

        It would look once in the time that a worker may be silent, so one could be missed for twice that.
        """
        scheduler = getattr(self.cluster, "scheduler", None)
        looks = getattr(scheduler, "periodic_callbacks", {}).get("worker-ttl")
        if looks is not None:
            looks.callback_time /= _LOOKS
            self.cluster.loop.add_callback(_begin_anew, looks)

    def adapt(self, minimum: int, maximum: int) -> None:
        """Let the cluster have as many workers as there is work for."""
        from distributed import SpecCluster

        if isinstance(self.cluster, SpecCluster):
            from daskae.engine.adaptive import IdleOnly

            # Dask wants a worker for each target_duration of expected work; few tasks are handed out at a time, so that
            # with its own 5 s it would see too little work to grow. Each task that waits is worth a worker here.
            self.cluster.adapt(IdleOnly, minimum=minimum, maximum=maximum, target_duration="100ms")
        else:  # an operator decides, by a rule of its own
            self.cluster.adapt(minimum=minimum, maximum=maximum)
