"""A long and narrow line, and one that loses packets, between scheduler, workers and driver: slower, and the same."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.hosts import Hosts, why_no_loss
from tests.cluster.slow_proxy import slow_proxy
from tests.engine.clusters import Cluster
from tests.faults.jobs import Calm, Job, run_calmly
from tests.faults.test_paused_workers import losses
from tests.support import ROOT, until

pytestmark = [pytest.mark.dask, pytest.mark.timeout(3000)]

LATE = 0.2
NARROW = 1e6 / 8
"""Bytes a second of 1 Mbit/s."""
TTL = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "60s"}
BLOCK = "1KiB"
SLOW = 400.0
"""Seconds that one run may take, many times of what it does."""
ATTEMPTS = 6


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return run_calmly(tmp_path_factory.mktemp("calm"))


def run(job: Job, before: Sequence[str] = ()) -> int:
    """Run the command behind some words; its exit code."""
    job.folder.mkdir(exist_ok=True)
    with (job.folder / "stdout.json").open("wb") as output, (job.folder / "stderr.txt").open("wb") as errors:
        command = [*before, sys.executable, "-m", "jobs.customer_metrics", *job.argv]
        driver = subprocess.Popen(command, stdout=output, stderr=errors, cwd=ROOT)
    try:
        return driver.wait(SLOW)
    finally:
        driver.kill()
        driver.wait()


def assert_ends(job: Job, calm: Calm, cluster: Cluster, before: Sequence[str] = ()) -> None:
    """It ends as on a good line, and no worker is given up."""
    assert run(job, before) == 0, job.errors()
    assert "Remove worker" not in cluster.log("scheduler")
    assert not losses(job.document())
    calm.assert_equal(job, job.document())


@pytest.mark.slow
def test_a_long_and_narrow_line_to_the_scheduler(calm: Calm, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with (
        Cluster(tmp_path / "cluster", 0, **TTL) as cluster,
        slow_proxy(cluster.address, LATE, NARROW) as for_workers,
        slow_proxy(cluster.address, LATE, NARROW) as for_driver,
    ):
        (tmp_path / "far.json").write_text(json.dumps({"address": for_workers.address}))
        for i in range(2):
            cluster.start(
                "worker", "--name", f"w{i}", "--nthreads", "1", "--memory-limit", "1GB", "--host", "127.0.0.1",
                "--scheduler-file", str(tmp_path / "far.json"), "--dashboard-address", "127.0.0.1:0",
            )  # fmt: skip
        until(lambda: cluster.log("scheduler").count("Register worker") == 2, "both workers")
        job = Job(calm.inputs, calm.config, tmp_path / "job", engine=for_driver.address, block=BLOCK)
        assert_ends(job, calm, cluster)
        carried = (for_driver.there.carried, for_driver.back.carried, for_workers.there.carried)
        assert min(carried) > 10_000  # it all went that way


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """One for the scheduler, two for workers, one for the driver."""
    if reason := why_no_loss():
        pytest.skip(reason)
    with Hosts(4) as started:
        yield started


@contextmanager
def lossy(hosts: Hosts, percent: int, folder: Path) -> Iterator[Cluster]:
    """A cluster whose hosts begin to lose so much of what comes to them when all workers are there."""
    folder.mkdir()
    with Cluster(folder, 0, host=hosts.address(0), before=hosts.on(0), **TTL) as cluster:
        for i in (1, 2):
            cluster.worker(f"w{i}", hosts.address(i), hosts.on(i))
        until(lambda: cluster.log("scheduler").count("Register worker") == 2, "both workers")
        for i in range(4):
            hosts.lose(i, percent)
        yield cluster
        assert all(hosts.lost(i) for i in range(4))


@pytest.mark.slow
def test_a_tenth_of_all_packets_is_lost(hosts: Hosts, calm: Calm, tmp_path: Path) -> None:
    with lossy(hosts, 10, tmp_path / "cluster") as cluster:
        job = Job(calm.inputs, calm.config, tmp_path / "job", engine=cluster.address, block=BLOCK)
        assert_ends(job, calm, cluster, hosts.on(3))


@pytest.mark.parametrize(
    "percent", [pytest.param(20, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.long)]
)
def test_so_many_packets_are_lost_that_connections_break(
    percent: int, hosts: Hosts, calm: Calm, tmp_path: Path
) -> None:  # fmt: skip
    """Dask gives a connection up that is not heard of for half a minute; the same command again goes on."""
    with lossy(hosts, percent, tmp_path / "cluster") as cluster:
        job = Job(calm.inputs, calm.config, tmp_path / "job", engine=cluster.address, block=BLOCK)
        for attempt in range(ATTEMPTS):
            began, done = time.monotonic(), job.manifests()
            code = run(job, hosts.on(3))
            print(f"attempt {attempt}: exit code {code} after {time.monotonic() - began:.0f} s")
            assert code in (0, 75), job.errors()
            assert done <= job.manifests()
            if code == 0:
                break
        assert code == 0, job.errors()
    calm.assert_equal(job, job.document())
