"""dask-jobqueue's jobs and cluster, made to bear what a busy Slurm does, and to leave no keys behind."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dask_jobqueue.slurm import SLURMCluster, SLURMJob
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from daskae.engine.job_keys import KeyFolder

_CERTIFICATES = ("_job_ca_file", "_job_cert", "_job_key")
"""Where a JobQueueCluster keeps the open files of its temporary certificates."""


class PatientJob(SLURMJob):  # type: ignore[misc]
    """A job that may not come about: where sbatch fails, it is given up after a while, and another takes its place.

    Dask would count it among its workers for ever.

    Parameters
    ----------
    refused : callable
        Told why.
    patience : float
        Seconds until it is given up.
    """

    def __init__(self, *args: Any, refused: Callable[[str], None], patience: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._refused, self._patience = refused, patience

    async def start(self) -> None:
        """Submit the job."""
        try:
            await super().start()
        except (RuntimeError, ValueError, OSError) as error:
            self._refused(" ".join(str(error).rpartition("stderr:")[2].split())[-300:])
            await ProcessInterface.start(self)
            self._give_up_later()

    def _give_up_later(self) -> None:
        asyncio.get_running_loop().call_later(self._patience, self._give_up)

    def _give_up(self) -> None:
        if not hasattr(self, "_cluster"):  # others are still being submitted, and all are taken up together
            self._give_up_later()
        elif (cluster := self._cluster()) is not None and cluster.workers.get(self.name) is self:
            self.status = Status.failed
            del cluster.workers[self.name]

    async def close(self) -> None:
        """Cancel the job; unless it is known as closed, closing the cluster fails."""
        await super().close()
        await ProcessInterface.close(self)


class JobCluster(SLURMCluster):  # type: ignore[misc]
    """A scheduler in this process, and jobs; its certificates are gone when it is closed.

    Parameters
    ----------
    keys : KeyFolder, optional
        Where the certificates are, to be closed with the cluster.
    """

    job_cls = PatientJob

    def __init__(self, *args: Any, keys: KeyFolder | None = None, **options: Any) -> None:
        self._keys = keys
        super().__init__(*args, **options)

    async def _close(self) -> None:
        try:
            await super()._close()
        finally:
            for name in _CERTIFICATES:
                if (file := getattr(self, name, None)) is not None:
                    with suppress(OSError):  # somebody was faster
                        file.close()
            if self._keys is not None:
                self._keys.close()
                self._keys = None
