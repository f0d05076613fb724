"""Crash points in worker processes only: the run survives, or names the part that kills its workers and goes on later.

The driver is exempt, so what dies is what a person would lose: a process in the middle of a task, whatever starts it.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.fault_log import armed
from tests.support import ROOT

from .jobs import Calm, Job

pytestmark = [pytest.mark.dask, pytest.mark.timeout(300)]

# Whatever a driver starts takes over its environment: forks, the fork server and its forks, Dask's nannies.
ARMED = """
import os
from daskae.allocators import tune_allocators

tune_allocators()  # with other allocators there are threads that forbid a fork
from daskae import faults
from jobs.customer_metrics import main

DRIVER, meant = os.getpid(), faults._is_meant
faults._is_meant = lambda *about: os.getpid() != DRIVER and meant(*about)
if "once" in os.environ.get("DASKAE_TEST_ARMED", ""):
    # Only forks of the driver itself, not what comes in their place.
    armed = os.environ.pop(faults.CRASH_VARIABLE)
    os.register_at_fork(after_in_child=lambda: os.environ.update({faults.CRASH_VARIABLE: armed}))

if __name__ == "__main__":
    raise SystemExit(main())
"""


@dataclass(frozen=True)
class Ended:
    """How a run with armed workers ended."""

    code: int
    errors: str
    deaths: list[str]
    """The points at which processes died."""


def run_armed(job: Job, point: str, once: bool = False) -> Ended:
    """Run a job whose worker processes die at a point."""
    job.folder.mkdir(exist_ok=True)
    script = job.folder / "armed.py"
    script.write_text(ARMED)
    armed(f"worker ({job.engine})")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASKAE_CRASH_AT": point, "DASKAE_TEST_ARMED": "once" * once}
    with (job.folder / "stdout.json").open("wb") as output:
        done = subprocess.run(
            [sys.executable, str(script), *job.argv], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    deaths = [line.removeprefix("SIGKILL at ") for line in done.stderr.splitlines() if line.startswith("SIGKILL at ")]
    return Ended(done.returncode, done.stderr, deaths)


def test_forked_workers_die_and_the_run_goes_on(calm: Calm, job: Job) -> None:
    job = replace(job, engine="processes")
    ended = run_armed(job, "exchange.before_commit", once=True)
    assert set(ended.deaths) == {"exchange.before_commit"}
    assert ended.code == 0, ended.errors
    assert "Traceback" not in ended.errors
    calm.assert_equal(job, job.document())


def end_well(calm: Calm, job: Job, ended: Ended) -> None:
    """Check a run whose workers died again and again, and that the same command goes on where it was."""
    assert "Traceback" not in ended.errors, ended.errors
    if ended.code == 0:
        calm.assert_equal(job, job.document())
        return
    assert ended.code == 1, ended.errors
    assert "while nothing else ran" in ended.errors
    assert re.search(r"^  where:   \S+", ended.errors, re.MULTILINE), ended.errors
    assert not list(job.folder.glob("out/customer_metrics/*"))
    go_on(calm, replace(job, engine="inline"))


def go_on(calm: Calm, job: Job) -> None:
    """Run the same command with workers that live: what was finished is not done again.

    Of a part whose worker died behind its commit there may be its pieces, too; then not all that is there is used.
    """
    done = inodes(job)
    document = job.finish()
    calm.assert_equal(job, document)
    after = inodes(job)
    assert {path: after.get(path) for path in done} == done
    new = [path for path in after if path not in done and "maps" in path.parts]
    assert len(new) == document["partitions"] - document["reused_partitions"]


def inodes(job: Job) -> dict[Path, int]:
    """All that is finished, and which file says so."""
    return {path: path.stat().st_ino for path in job.manifests()} | job.steps()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("engine", ["processes", "local"])
def test_workers_die_at_every_passage_of_any_point(engine: str, calm: Calm, tmp_path: Path) -> None:
    """Each process dies at its n-th passage, those that come in its place too; n grows until none has so many."""
    codes = []
    for passage in range(1, 200):
        job = Job(calm.inputs, calm.config, tmp_path / str(passage), engine=engine)
        ended = run_armed(job, f"*:{passage}")
        codes.append(ended.code)
        try:
            end_well(calm, job, ended)
        except AssertionError as error:
            error.add_note(f"passage {passage}, deaths at {ended.deaths}")
            raise
        if not ended.deaths:
            break
    print(f"{engine}: exit codes by passage: {codes}")
    assert ended.code == 0
    assert 1 in codes
    assert codes.count(0) > 2, "some runs survive the deaths of their workers"
