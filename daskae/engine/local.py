"""Worker processes of this machine, as many as cores, memory and cgroups allow, on the loopback address."""

import logging
import signal
from multiprocessing import resource_tracker

import distributed

from daskae.config import ClusterSettings
from daskae.engine.base import Needs, allowed_memory, local_workers
from daskae.engine.started import Started


def start_local(settings: ClusterSettings, workers: int | None, memory_limit: int | None, needs: Needs) -> Started:
    """Start a scheduler in this process; workers, in processes of their own, come when it is scaled."""
    count = local_workers(workers, needs.projected_bytes)
    if settings.adaptive is not None:
        count = settings.adaptive.maximum
    cluster = distributed.LocalCluster(
        n_workers=0,
        threads_per_worker=1,
        processes=True,
        memory_limit=allowed_memory("local", settings, count, memory_limit),
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )
    resource_tracker.ensure_running()  # whoever starts it unblocks the signal
    cluster.loop.add_callback(_keep_interrupts_from_children)
    return Started(cluster, count, cluster.scale)


def _keep_interrupts_from_children() -> None:
    """Block Ctrl-C in this thread, from which workers are started and inherit that.

    A terminal sends it to all processes at once; the driver alone decides, and ends the workers.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
