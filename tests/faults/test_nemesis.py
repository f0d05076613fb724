"""Workers, nannies, the scheduler and the driver are killed and paused; no row is lost or doubled."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.engine.clusters import Cluster
from tests.fault_log import strike
from tests.support import descendants, until

from .jobs import KILLED, PATIENCE, Calm, Job, is_alive, seeds, workers_of
from .nemesis import Nemesis, Victims

pytestmark = [pytest.mark.dask, pytest.mark.timeout(600)]

BLOCK = "256"
"""Small enough for some dozens of partitions."""


@contextmanager
def started(job: Job) -> Iterator[subprocess.Popen[bytes]]:
    """A driver, of whose family nothing is left in the end."""
    driver = job.popen()
    try:
        yield driver
    finally:
        family = descendants(driver.pid)
        driver.send_signal(signal.SIGCONT)
        driver.kill()
        driver.wait()
        for process in family:
            if process.is_running():
                process.kill()


@pytest.fixture(params=["local", "processes"])
def local(calm: Calm, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Job, subprocess.Popen[bytes]]]:
    """A run on worker processes of this machine whose map stage has begun."""
    job = Job(calm.inputs, calm.config, tmp_path / "job", engine=request.param, block=BLOCK)
    with started(job) as driver:
        until(lambda: job.manifests() or driver.poll() is not None, "the first finished part")
        yield job, driver


def test_killed_driver_leaves_no_workers(calm: Calm, local: tuple[Job, subprocess.Popen[bytes]]) -> None:
    job, driver = local
    family = descendants(driver.pid)
    assert workers_of(driver.pid)
    strike(driver.pid, signal.SIGKILL, "after the first part", "driver")
    driver.wait()
    until(lambda: not any(is_alive(process) for process in family), "the end of all worker processes")
    calm.assert_goes_on(replace(job, engine="inline"))


def harmed_workers(calm: Calm, local: tuple[Job, subprocess.Popen[bytes]], seed: int, acts: int) -> None:
    job, driver = local
    with Nemesis(seed, {"worker": lambda: workers_of(driver.pid)}, acts) as nemesis:
        code = driver.wait(PATIENCE * 2)
    assert code == 0, f"{nemesis}\n{job.errors()}"
    assert nemesis.history
    try:
        calm.assert_equal(job, job.document())
    except AssertionError as error:
        error.add_note(str(nemesis))
        raise


def test_workers_are_killed_and_paused(calm: Calm, local: tuple[Job, subprocess.Popen[bytes]]) -> None:
    harmed_workers(calm, local, seed=3, acts=3)


@pytest.mark.parametrize("seed", seeds(100, 110))
def test_workers_are_killed_and_paused_by_more_seeds(
    seed: int, calm: Calm, local: tuple[Job, subprocess.Popen[bytes]]
) -> None:
    harmed_workers(calm, local, seed, acts=3)


@pytest.mark.timeout(2400)  # six attempts, each of which may wait for a connection to time out
@pytest.mark.parametrize("seed", seeds(200, 208, few=1))
def test_everything_is_killed_and_paused(seed: int, calm: Calm, tmp_path: Path) -> None:
    """The cluster is somewhere else; after each death of its scheduler or of the driver the command is run again."""
    for attempt in range(6):
        folder = tmp_path / f"cluster-{attempt}"
        folder.mkdir()
        with Cluster(folder, workers=2) as cluster:
            job = Job(calm.inputs, calm.config, tmp_path / "job", engine=str(cluster.file), block=BLOCK)
            with (
                started(job) as driver,
                Nemesis(seed + 1000 * attempt, _all_of(cluster, driver), 2, pace=4.0) as nemesis,
            ):
                began = time.monotonic()
                code = driver.wait(PATIENCE * 3)
            print(f"attempt {attempt}: exit code {code} after {time.monotonic() - began:.0f} s; {nemesis}")
            assert code in (0, 75, KILLED), f"{code}, {nemesis}\n{job.errors()}"
            if code == 0:
                break
    else:
        job = replace(job, engine="inline")
        job.finish()
    calm.assert_equal(job, job.document())


def _all_of(cluster: Cluster, driver: subprocess.Popen[bytes]) -> Victims:
    scheduler, *nannies = (psutil.Process(process.pid) for process in cluster.processes)
    return {
        "driver": lambda: [psutil.Process(driver.pid)] if driver.poll() is None else [],
        "scheduler": lambda: [scheduler],
        "nanny": lambda: nannies,
        "worker": lambda: [item for nanny in nannies for item in workers_of(nanny.pid)],
    }
