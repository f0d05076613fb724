"""A worker is stopped in the middle of a task, with its nanny, for longer than a scheduler waits; later it goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.engine.clusters import Cluster
from tests.fault_log import strike
from tests.support import ROOT, descendants, until

from .jobs import Calm, Job, is_alive

pytestmark = [pytest.mark.slow, pytest.mark.dask, pytest.mark.timeout(900)]

TTL = 6.0
NANNY_PATIENCE = 30.0
"""How long Dask's scheduler waits for a nanny that it has asked to end her worker."""
WORK = 120.0
"""More than all the work takes, on a slow machine too."""
BLOCK = "1KiB"
# A step that changes nothing. While it works on a part a file named after its process is there.
SCRIPT = """
import os
import time
from pathlib import Path

from daskae.transform.registry import register
from daskae.transform.steps import Step
from jobs.customer_metrics import main


@register("slowly", adds={{}})
def slowly(table):
    mark = Path("{marks}") / str(os.getpid())
    mark.touch()
    time.sleep(0.7)
    mark.unlink(missing_ok=True)
    return table


if __name__ == "__main__":
    raise SystemExit(main(steps=[Step(function="slowly")]))
"""


@contextmanager
def started(job: Job) -> Iterator["subprocess.Popen[bytes]"]:
    """The script over the orders of a job, of whose family nothing is left in the end."""
    marks = job.folder / "marks"
    marks.mkdir(parents=True)
    script = job.folder / "script.py"
    script.write_text(SCRIPT.format(marks=marks))
    with (job.folder / "stdout.json").open("wb") as output, (job.folder / "stderr.txt").open("wb") as errors:
        driver = subprocess.Popen(
            [sys.executable, str(script), *job.argv], stdout=output, stderr=errors, cwd=job.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        yield driver
    finally:
        family = descendants(driver.pid)
        driver.kill()
        driver.wait()
        for process in family:
            if process.is_running():
                process.kill()


def stop_one_at_work(job: Job) -> psutil.Process:
    """Stop a worker that is in the middle of a task."""

    def stopped() -> psutil.Process | None:
        for mark in (job.folder / "marks").iterdir():
            worker = psutil.Process(int(mark.name))
            strike(worker.pid, signal.SIGSTOP, "in the middle of a task, for longer than it is waited for", "worker")
            until(lambda: worker.status() == psutil.STATUS_STOPPED, "the stop", 10)  # noqa: B023
            if mark.exists():
                return worker
            worker.resume()
        return None

    until(lambda: len(job.manifests()) >= 2, "the first parts")
    found: psutil.Process = until(stopped, "a worker at work")
    return found


def losses(document: dict[str, Any]) -> list[dict[str, Any]]:
    lines = (Path(document["run_dir"]) / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "WorkerLost"]


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that was published or counts as done: which file it is, since when, and what it holds."""
    files = [*folder.glob("out/**/*"), *folder.glob("work/**/manifest.json")]
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in files
        if path.is_file()
    }  # fmt: skip


def written(job: Job) -> set[Path]:
    """Every file of rows that an attempt at a part has left, valid or not."""
    return set((job.folder / "work").glob("maps/*/*/*.arrow"))


def assert_lost_in_time(job: Job, driver: "subprocess.Popen[bytes]", bound: float) -> dict[str, Any]:
    """The run ends well, though not without a word about the silent worker and what it was running."""
    began = time.monotonic()
    code = driver.wait(600)
    seconds = time.monotonic() - began
    assert code == 0, job.errors()
    document = job.document()
    found = losses(document)
    assert [event["reason"] for event in found] == ["silent"]
    assert [name.partition("-")[0] for name in found[0]["tasks"]] == ["map_partition"]
    assert "not heard of for too long" in (Path(document["run_dir"]) / "run.log").read_text()
    assert seconds < bound + WORK
    return document


def test_a_stopped_worker_of_this_machine_is_replaced(calm: Calm, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f'{calm.config.read_text()}\n[cluster]\nworker_ttl = "{TTL:g}s"\n')
    job = Job(calm.inputs, config, tmp_path / "job", engine="local", block=BLOCK)
    with started(job) as driver:
        worker = stop_one_at_work(job)
        document = assert_lost_in_time(job, driver, 1.1 * TTL)
        until(lambda: not is_alive(worker), "the end of the stopped worker")
    calm.assert_equal(job, document)


def test_a_stopped_nanny_and_her_worker_change_nothing_when_they_go_on(calm: Calm, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster", 2, DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL=f"{TTL:g}s") as cluster:
        job = Job(calm.inputs, calm.config, tmp_path / "job", engine=str(cluster.file), block=BLOCK)
        with started(job) as driver:
            worker = stop_one_at_work(job)
            (nanny,) = [one for one in cluster.processes if worker.pid in {item.pid for item in descendants(one.pid)}]
            strike(nanny.pid, signal.SIGSTOP, "with her worker", "nanny")
            # A scheduler that is not ours looks at all workers once every ttl.
            document = assert_lost_in_time(job, driver, 2 * TTL + NANNY_PATIENCE)
            before, parts = state(job.folder), written(job)
            worker.resume()
            until(lambda: written(job) > parts or not is_alive(worker), "what the worker makes of its part")
            nanny.send_signal(signal.SIGCONT)
            until(lambda: nanny.poll() is not None or _registered(cluster) == 3, "the end of the pair, or its return")
    assert written(job) > parts  # it has done its task to the end
    assert state(job.folder) == before
    calm.assert_equal(job, document)


def _registered(cluster: Cluster) -> int:
    """How many workers have ever come."""
    return cluster.log("scheduler").count("Register worker")
