"""Which workers leave a cluster that follows its work: those that have nothing to do, and only whole jobs."""

from collections.abc import Iterator
from typing import Any

from distributed.deploy.adaptive import Adaptive


class IdleOnly(Adaptive):  # type: ignore[misc]
    """Dask's adaptive scaling, but no task is run again because its worker was sent away.

    Dask counts idle processes, but closes others too where it counts by job, cancels a job of several processes for one
    of them, and takes no notice of work that came after its choice. Scheduler and event loop are this process's own.
    """

    async def workers_to_close(self, target: int) -> list[str]:
        """Name workers that can be done without, so many that at least ``target`` stay."""
        spare = len(self.observed) - target
        found: list[str] = []
        for members in self._idle_jobs():
            if len(found) + len(members) <= spare:
                found += members
        return found

    async def scale_down(self, workers: list[str]) -> None:
        """Close those of the chosen workers that still have nothing to do."""
        chosen = set(workers)
        leaving = [name for members in self._idle_jobs() if chosen.issuperset(members) for name in members]
        if leaving:
            # No comm and no wait lies between the look and this: from here on they get no tasks.
            await self.cluster.scheduler.retire_workers(names=leaving, close_workers=True)
            await self.cluster.scale_down(leaving)

    def _idle_jobs(self) -> Iterator[list[Any]]:
        """Yield the names of each job's workers, where none of them has a task; a worker without a job is its own."""
        busy = {state.name for state in self.cluster.scheduler.workers.values() if state.processing}
        for job, spec in self.cluster.worker_spec.items():
            members = [f"{job}{suffix}" for suffix in spec["group"]] if "group" in spec else [job]
            if busy.isdisjoint(members):
                yield members
