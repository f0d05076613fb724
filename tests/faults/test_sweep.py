"""The work directory stays within its bounds, and nobody loses what a run still needs."""

import os
import time
from pathlib import Path

import pytest

from tests.support import Child

from .checker import numbered_orders
from .jobs import KILLED, Calm, Job, go_on

SMALL = {"DASKAE_WORK__KEEP": "1"}


def age(job: Job, hours: float) -> None:
    """Make everything in the work directory look unused for so long."""
    then = time.time() - 3600 * hours
    for path in (job.folder / "work").rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)


@pytest.fixture
def job(calm: Calm, tmp_path: Path) -> Job:
    """A job over input of its own."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    for number in range(2):
        (inputs / f"orders-{number}.csv").write_bytes(numbered_orders(60, first=60 * number))
    return Job(inputs, calm.config, tmp_path / "job")


def replace_input(job: Job) -> None:
    for path in job.inputs.iterdir():
        path.write_bytes(numbered_orders(60, first=500))


def test_what_is_not_used_goes_where_there_is_too_much(job: Job) -> None:
    job.finish()
    before = job.manifests()
    assert before
    age(job, 3)
    again = job.finish(**SMALL)
    assert again["reused_partitions"] == again["partitions"]
    assert job.manifests() == before  # used just now
    age(job, 3)
    replace_input(job)
    job.finish(**SMALL)
    assert job.manifests()
    assert not job.manifests() & before
    assert not [path for path in before if path.parent.exists()]


def test_days_bound_it_too(job: Job) -> None:
    job.finish()
    before = job.manifests()
    replace_input(job)
    age(job, 24 * 31)
    job.finish()
    assert not job.manifests() & before


def test_nothing_goes_while_another_run_is_there(job: Job) -> None:
    """A run marks what it uses at its end; until then it looks like what nobody has used for long."""
    job.finish()
    slow = job.stopped_at("plan.made")
    age(job, 3)
    other = Job(job.inputs.parent / "other", job.config, job.folder)
    other.inputs.mkdir()
    (other.inputs / "orders.csv").write_bytes(numbered_orders(30, first=900))
    argv = [*other.argv]
    argv[argv.index("--to") + 1] = f"{job.folder}/elsewhere/"
    assert Child(argv, job.folder / "other.json", SMALL).wait() == 0
    # What it used itself is marked all the same: nobody may take it for old when the slow one has ended.
    assert [path for path in job.manifests() if time.time() - path.stat().st_mtime < 3600]
    assert go_on(slow) == 0
    again = job.finish()
    assert again["reused_partitions"] == again["partitions"]


def test_what_a_killed_fresh_run_has_left_goes_with_the_next(job: Job) -> None:
    fresh = Child([*job.argv, "--fresh"], job.inputs.parent / "fresh.json", {"DASKAE_CRASH_AT": "turn.published"})
    assert fresh.wait() == KILLED
    assert list((job.folder / "work").glob("runs/*/fresh/*"))
    job.finish()
    assert not list((job.folder / "work").glob("runs/*/fresh"))
