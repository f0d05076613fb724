"""Law 5: kill -9 of the driver or of workers at any moment; the same command again ends in the same tables."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from tests.support import (
    EXACT_DUPLICATE,
    POSITIVE_QUANTITY,
    REPEATED_ORDER,
    ROOT,
    TABLES,
    Child,
    assert_same_tables,
    descendants,
    orders_csv,
    read_quarantine,
    read_tables,
    write_settings,
)

KILLED = -9
FILES = 3
PATIENCE = 60.0
SEED = 20_240_229


@dataclass(frozen=True)
class Job:
    """One command over one folder of orders, with its own work directory and target."""

    inputs: Path
    config: Path
    folder: Path
    engine: str = "inline"
    block: str = "4KiB"
    target: str = "out/"

    @property
    def argv(self) -> list[str]:
        """The same command every time."""
        to = f"{self.folder}/{self.target}"
        places = ["--to", to if to.endswith("/") else f"sqlite:///{to}", "--work-dir", f"{self.folder}/work"]
        engine = ["--cluster", self.engine, "--workers", "2", "--block-size", self.block]
        return [str(self.inputs), "--config", str(self.config), *places, *engine, "--quiet", "--json"]

    def start(self, **environment: str) -> Child:
        """Start it in a process of its own."""
        self.folder.mkdir(exist_ok=True)
        return Child(self.argv, self.folder / "stdout.json", **environment)

    def finish(self, **environment: str) -> dict[str, Any]:
        """Run it to its end and return what it printed."""
        child = self.start(**environment)
        assert child.wait() == 0
        return child.document()

    def popen(self) -> subprocess.Popen[bytes]:
        """Start it as a person does, so that it can have worker processes."""
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "stdout.json").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "jobs.customer_metrics", *self.argv], stdout=output, cwd=ROOT
            )

    def document(self) -> dict[str, Any]:
        """What the last run printed."""
        document: dict[str, Any] = json.loads((self.folder / "stdout.json").read_text())
        return document

    def tables(self) -> dict[str, pa.Table]:
        """What the target holds."""
        return read_tables(self.folder / "out")

    def rows(self) -> dict[str, list[Any]]:
        """What the target holds, if it is a database; the metadata columns, which come last, left out."""
        with closing(sqlite3.connect(self.folder / self.target)) as database:
            return {name: [row[:-3] for row in database.execute(f"SELECT * FROM {name}")] for name in TABLES}

    def manifests(self) -> set[Path]:
        """Every part that is done."""
        return set((self.folder / "work").glob("maps/*/*/manifest.json"))


@dataclass(frozen=True)
class Calm:
    """A run that nothing disturbed."""

    inputs: Path
    config: Path
    seconds: float
    document: dict[str, Any]
    tables: dict[str, pa.Table]
    quarantine: list[dict[str, Any]]

    def assert_equal(self, job: Job, document: dict[str, Any]) -> None:
        """Compare the result of a disturbed job with this one."""
        assert document["rows"] == self.document["rows"]
        assert document["load_id"] == self.document["load_id"]
        assert_same_tables(job.tables(), self.tables)
        assert read_quarantine(document["quarantine"]) == self.quarantine


def write_orders(folder: Path) -> Path:
    folder.mkdir()
    for i in range(FILES):
        # Files overlap, so that there are duplicates across partitions.
        (folder / f"orders-{i}.csv").write_bytes(orders_csv(70, first=60 * i))
    return folder


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("calm")
    inputs = write_orders(folder / "in")
    config = write_settings(folder / "settings.toml", POSITIVE_QUANTITY, EXACT_DUPLICATE, REPEATED_ORDER)
    job = Job(inputs, config, folder / "job")
    began = time.monotonic()
    document = job.finish()
    seconds = time.monotonic() - began
    return Calm(inputs, config, seconds, document, job.tables(), read_quarantine(document["quarantine"]))


@pytest.fixture
def job(calm: Calm, tmp_path: Path) -> Job:
    return Job(calm.inputs, calm.config, tmp_path / "job")


def test_the_calm_run_has_something_to_lose(calm: Calm) -> None:
    rejected = calm.document["rows"]["rejected_by_rule"]
    assert all(rejected[rule["name"]] for rule in (POSITIVE_QUANTITY, EXACT_DUPLICATE))
    assert calm.document["partitions"] >= FILES


def test_killed_after_every_single_commit(calm: Calm, job: Job) -> None:
    """Each attempt gets one commit further and dies, until there is nothing left to commit."""
    done: list[int] = []
    while (code := job.start(DASKAE_CRASH_AT="exchange.after_commit:1").wait()) == KILLED:
        done.append(len(job.manifests()))
        assert done == sorted(done)
        assert len(done) < 100
    assert code == 0
    assert len(done) > calm.document["partitions"]
    document = job.document()
    assert document["reused_partitions"] == document["partitions"]
    calm.assert_equal(job, document)


# The exchange's points are passed in every step: map, unique, reduce, finalize, quarantine.
@pytest.mark.parametrize("point", ["exchange.before_commit", "exchange.after_commit"])
def test_killed_at_every_commit_then_run_again(point: str, calm: Calm, tmp_path: Path) -> None:
    for count in range(1, 100):
        job = Job(calm.inputs, calm.config, tmp_path / str(count))
        code = job.start(DASKAE_CRASH_AT=f"{point}:{count}").wait()
        assert_goes_on(job, calm)
        if code == 0:
            break
        assert code == KILLED
    assert count > calm.document["partitions"] + 3


LOADING = {
    "out/": ["parquet.writing:2", "parquet.written", "parquet.linked", "parquet.flipped"],
    "metrics.db": ["sqlite.staged", "sqlite.deleted:3", "sqlite.uncommitted", "sqlite.committed"],
}


@pytest.mark.parametrize("point", LOADING["out/"])
def test_killed_while_loading_then_run_again(point: str, calm: Calm, job: Job) -> None:
    assert job.start(DASKAE_CRASH_AT=point).wait() == KILLED
    assert_goes_on(job, calm)


@pytest.mark.parametrize("point", LOADING["metrics.db"])
def test_killed_while_loading_a_database_then_run_again(point: str, calm: Calm, tmp_path: Path) -> None:
    jobs = [Job(calm.inputs, calm.config, tmp_path / name, target="metrics.db") for name in ("calm", "killed")]
    jobs[0].finish()
    assert jobs[1].start(DASKAE_CRASH_AT=point).wait() == KILLED
    document = jobs[1].finish()
    assert document["reused_partitions"] == document["partitions"]
    assert document["already_published"] == (point == "sqlite.committed")
    assert jobs[1].rows() == jobs[0].rows()


@pytest.mark.parametrize(
    ("target", "point"), [(target, point) for target, points in LOADING.items() for point in points[2:]]
)
def test_killed_while_loading_then_run_again_without_the_work_directory(
    target: str, point: str, calm: Calm, tmp_path: Path
) -> None:
    """The target and the input are enough: what is published already is known by its content."""
    jobs = [Job(calm.inputs, calm.config, tmp_path / name, target=target) for name in ("calm", "killed")]
    jobs[0].finish()
    assert jobs[1].start(DASKAE_CRASH_AT=point).wait() == KILLED
    shutil.rmtree(jobs[1].folder / "work")
    document = jobs[1].finish()
    assert document["reused_partitions"] == 0
    assert document["already_published"] == (point in ("sqlite.committed", "parquet.flipped"))
    if target == "metrics.db":
        assert jobs[1].rows() == jobs[0].rows()
    else:
        assert_same_tables(jobs[1].tables(), jobs[0].tables())


def assert_goes_on(job: Job, calm: Calm) -> None:
    """Run the same command again: what was finished is not done again, and the result is the calm one."""
    done = len(job.manifests())
    document = job.finish()
    assert document["reused_partitions"] == done
    calm.assert_equal(job, document)


def killed_at_random(calm: Calm, job: Job, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    for _ in range(kills):
        child = job.start()
        if child.wait(moments.uniform(0.02, 1.2) * calm.seconds) is None:
            child.kill()
    calm.assert_equal(job, job.finish())


@pytest.mark.parametrize("seed", [1, 2])
def test_driver_killed_at_random_moments(seed: int, calm: Calm, job: Job) -> None:
    killed_at_random(calm, job, 3, SEED + seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 33))
def test_driver_killed_at_more_random_moments(seed: int, calm: Calm, job: Job) -> None:
    killed_at_random(calm, job, 4, SEED + seed)


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait until a condition holds; what it returned."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    pytest.fail(f"waited {seconds} s for {what}")


def workers_of(driver: int) -> list[psutil.Process]:
    """Dask's worker processes below a driver, not the helper processes of multiprocessing."""
    found = []
    for process in descendants(driver):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "spawn_main" in command or "forkserver" in command:
            found.append(process)
    return found


@pytest.fixture
def local(calm: Calm, tmp_path: Path) -> Iterator[tuple[Job, subprocess.Popen[bytes]]]:
    """A run on local worker processes whose map stage has begun."""
    job = Job(calm.inputs, calm.config, tmp_path / "job", engine="local", block="256")
    driver = job.popen()
    try:
        until(lambda: job.manifests() or driver.poll() is not None, "the first finished part")
        yield job, driver
    finally:
        family = descendants(driver.pid)
        driver.kill()
        driver.wait()
        for process in family:
            if process.is_running():
                process.kill()


@pytest.mark.dask
@pytest.mark.timeout(150)
def test_workers_killed_while_they_work(calm: Calm, local: tuple[Job, subprocess.Popen[bytes]]) -> None:
    job, driver = local
    moments = random.Random(SEED)
    killed = 0
    for _ in range(2):
        workers = workers_of(driver.pid)
        if workers and driver.poll() is None:
            moments.choice(workers).kill()
            killed += 1
        if driver.poll() is None:
            time.sleep(moments.uniform(0.0, 0.5))
    assert driver.wait(PATIENCE * 2) == 0
    assert killed
    document = job.document()
    assert document["engine"] == "local"
    calm.assert_equal(job, document)


@pytest.mark.dask
@pytest.mark.timeout(150)
def test_killed_driver_leaves_no_workers(calm: Calm, local: tuple[Job, subprocess.Popen[bytes]]) -> None:
    job, driver = local
    family = descendants(driver.pid)
    assert workers_of(driver.pid)
    driver.kill()
    driver.wait()
    until(lambda: not any(_alive(process) for process in family), "the end of all worker processes")
    done = len(job.manifests())
    again = Job(job.inputs, job.config, job.folder, block=job.block)
    document = again.finish()
    calm.assert_equal(again, document)
    assert document["reused_partitions"] == done


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
