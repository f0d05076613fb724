"""Worker processes of this machine, as many as cores, memory and cgroups allow, on the loopback address."""

import logging

import distributed

from daskae.config import ClusterSettings
from daskae.engine.base import Needs, allowed_memory, local_workers
from daskae.engine.forks import block_interrupts, prepare_workers
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
        # Any free port: without an address Dask takes its own, which another run of this machine may have. To serve
        # the dashboard there it imports Bokeh, half a second here and in every worker.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": settings.dashboard},
        worker_dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )
    prepare_workers()
    # Dask would import pandas here to name it to the fork server, which runs already and has its own modules.
    distributed.utils._forkserver_preload_set = True
    cluster.loop.add_callback(block_interrupts)
    return Started(cluster, count, cluster.scale)
