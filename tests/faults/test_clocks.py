"""Wall clocks that are wrong or jump: the result is the same, ids stay apart, and nothing is waited for by them."""

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.support import ROOT

from .jobs import Calm, Job

# Where the time of day is looked at: for people, for what is older than a day, for the end of a batch job. Loads note
# when they were.
LOOK_AT_THE_CLOCK = {
    "daskae/events.py",
    "daskae/read/discover.py",
    "daskae/run/context.py",
    "daskae/run/deadline.py",
    "daskae/run/sweep.py",
}


def test_waits_and_orders_do_not_use_the_time_of_day() -> None:
    found = set()
    for path in sorted((ROOT / "daskae").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "datetime.now", "date.today"):
                found.add(str(path.relative_to(ROOT)))
    assert {name for name in found if not name.startswith("daskae/load/")} == LOOK_AT_THE_CLOCK


def run_at(job: Job, clock: str) -> dict[str, object]:
    """Run a job whose clock is wrong; the monotonic clock goes on as it does."""
    job.folder.mkdir(exist_ok=True)
    command = ["faketime", "-f", clock, sys.executable, "-m", "jobs.customer_metrics", *job.argv]
    environment = {**os.environ, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    return document


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("faketime") is None, reason="there is no faketime command (Debian: faketime)")
def test_a_clock_that_jumps_between_runs(calm: Calm, job: Job) -> None:
    ids = set()
    for clock in ("+1d", "-400d x20"):
        document = run_at(job, clock)
        calm.assert_equal(job, document)
        ids.add(document["run_id"])
    assert len(ids) == len(list((job.folder / "work" / "runs").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.dask
@pytest.mark.skipif(shutil.which("faketime") is None, reason="there is no faketime command (Debian: faketime)")
@pytest.mark.parametrize("clock", ["-1d", "+1d x5"])
def test_worker_processes_whose_clock_is_wrong(clock: str, calm: Calm, job: Job) -> None:
    job = replace(job, engine="local", block="1KiB")
    calm.assert_equal(job, run_at(job, clock))
