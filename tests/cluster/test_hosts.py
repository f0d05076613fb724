"""Scheduler and workers on hosts of their own whose network comes and goes: nothing is lost, nothing is doubled."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import Hosts, why_not
from tests.cluster.slurm import until
from tests.engine.clusters import Cluster
from tests.support import ROOT, assert_same_tables, orders_csv, read_quarantine, read_tables

pytestmark = [pytest.mark.slow, pytest.mark.dask, pytest.mark.timeout(900)]
# Impatient, so that the test need not wait for minutes.
IMPATIENT = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "6s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
}
SCRIPT = """
import time

from daskae.validate import RowRule
from jobs.customer_metrics import main


def slowly(orders):
    time.sleep(0.6)
    return orders["amount"] < 80


if __name__ == "__main__":
    raise SystemExit(main(rules=[RowRule("slowly", slowly, frame=True)]))
"""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if reason := why_not():
        pytest.skip(reason)
    with Hosts(3) as started:
        yield started


def start(folder: Path, name: str, *more: str) -> subprocess.Popen[str]:
    argv = ["in", "--to", f"{name}/out/", "--work-dir", f"{name}/work", "--block-size", "2KiB", "--quiet", "--json"]
    return subprocess.Popen(
        [sys.executable, "script.py", *argv, *more], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_partitioned_worker_is_replaced_and_may_come_back(hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_bytes(orders_csv(2500))
    (tmp_path / "script.py").write_text(SCRIPT)
    calm = start(tmp_path, "calm", "--cluster", "inline")
    _, error = calm.communicate(timeout=300)
    assert calm.returncode == 0, error
    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster", 0, host=hosts.address(0), before=hosts.on(0), **IMPATIENT) as cluster:
        for i in (1, 2):
            cluster.worker(f"w{i}", hosts.address(i), hosts.on(i))
        until(lambda: cluster.log("scheduler").count("Register worker") == 2, "both workers")
        driver = start(tmp_path, "parted", "--cluster", cluster.address)
        try:
            until(lambda: len(list((tmp_path / "parted").glob("work/maps/*/*/manifest.json"))) >= 4, "the first parts")
            hosts.pull(1)
            until(lambda: "Remove worker" in cluster.log("scheduler"), "the scheduler to miss a worker")
            hosts.plug(1)
            output, error = driver.communicate(timeout=300)
        finally:
            driver.kill()
            driver.communicate()
        assert driver.returncode == 0, error
    document = json.loads(output)
    assert document["rows"]["read"] == 2500
    assert_same_tables(read_tables(tmp_path / "parted" / "out"), read_tables(tmp_path / "calm" / "out"))
    found, expected = (quarantine(tmp_path / name) for name in ("parted", "calm"))
    assert found == expected
    assert len(found) == len({(row["file"], row["row_number"]) for row in found})


def quarantine(folder: Path) -> list[dict[str, object]]:
    """Rejected rows of the only run in a folder."""
    (place,) = folder.glob("work/runs/*/quarantine")
    return read_quarantine(place)
