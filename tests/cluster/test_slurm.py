"""The main job under a real Slurm: the same tables as a calm run in one process, whatever is cancelled or killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from tests.cluster.slurm import NODES, Slurm, munge, until, why_not
from tests.support import ROOT, assert_same_tables, orders_csv, read_tables, write_settings

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(900)]
SCRIPTS = ROOT / "cluster" / "slurm"
SMALL = ("--ntasks=3", "--mem-per-cpu=1200M", "--time=00:10:00")
# A person's own script whose tasks last long enough to be disturbed; workers elsewhere cannot import it.
SCRIPT = """
import os
import time

from daskae.validate import RowRule
from jobs.customer_metrics import main


def slowly(orders):
    time.sleep(float(os.environ.get("SECONDS_A_PART", "0.5")))
    return orders["amount"] < 80


if __name__ == "__main__":
    raise SystemExit(main(rules=[RowRule("slowly", slowly, frame=True)]))
"""


@pytest.fixture(scope="module")
def authentication() -> Iterator[None]:
    if reason := why_not():
        pytest.skip(reason)
    with munge():
        yield


@pytest.fixture
def slurm(authentication: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    # Not in tmp_path: slurmd's sockets stand below it, and the name of a socket must be short.
    with Slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """Tables of a run that nothing disturbs, in one process."""
    job = Job(tmp_path_factory.mktemp("calm"))
    subprocess.run(job.command("--cluster", "inline"), cwd=job.folder, env=_environment(), check=True)
    return job.tables()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass
class Job:
    """One folder of orders with its own work directory and target."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "in").mkdir()
        (self.folder / "in" / "a.csv").write_bytes(orders_csv(1500))
        (self.folder / "script.py").write_text(SCRIPT)

    @property
    def arguments(self) -> list[str]:
        return ["in", "--to", "out/", "--work-dir", "work", "--block-size", "2KiB", "--json"]

    def command(self, *more: str) -> list[str]:
        return [sys.executable, "script.py", *self.arguments, "--quiet", *more]

    def config(self, name: str = "slurm.toml", **cluster: object) -> str:
        write_settings(
            self.folder / name,
            cluster={"start_timeout": "240s", "replace_after": "5s", **cluster},
            **{"cluster.slurm": {"jobs": 2, "memory": "1200MB", "walltime": "00:10:00", "interface": "lo"}},
        )
        return name

    def parts(self) -> int:
        return len(list(self.folder.glob("work/maps/*/*/manifest.json")))

    def wait_for_parts(self, count: int, slurm: Slurm) -> None:
        until(lambda: self.parts() >= count, f"{count} parts", 180, lambda: f"{slurm.seen()}\n{self.outputs()}")

    def tables(self) -> dict[str, pa.Table]:
        return read_tables(self.folder / "out")

    def outputs(self) -> str:
        """What the jobs have written, for the message of a test that fails."""
        logs = [
            *self.folder.glob("*.out"),
            *self.folder.glob("work/slurm/*"),
            *self.folder.glob(".daskae/slurm/*/*.log"),
        ]
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in logs if path.suffix != ".pem")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def submit(slurm: Slurm, job: Job, script: str, *arguments: str, options: tuple[str, ...] = SMALL, **more: str) -> str:
    variables = {"PYTHON": sys.executable, "JOB": "script.py", "INTERFACE": "lo", **more}
    return slurm.submit(*options, str(SCRIPTS / script), *job.arguments, *arguments, cwd=job.folder, **variables)


def test_one_job_with_a_scheduler_file(slurm: Slurm, job: Job, calm: dict[str, pa.Table]) -> None:
    number = submit(slurm, job, "job.sbatch")
    assert slurm.wait(number) == "COMPLETED", job.outputs()
    assert_same_tables(job.tables(), calm)
    printed = (job.folder / f"daskae-{number}.out").read_text()
    document = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    assert document["engine"] == "dask"
    # The key of the job's certificate is gone with it.
    assert not list(job.folder.glob(".daskae/slurm/*/*.pem"))
    assert (job.folder / ".daskae" / "slurm" / number).stat().st_mode & 0o77 == 0


def test_time_over_puts_the_job_into_the_queue_again(slurm: Slurm, job: Job) -> None:
    # Half of the time is for work, whatever is asked for: enough for a part on any machine, on none for all 32.
    limited = job.config(time_limit="60s", stop_before_end="5 minutes")
    number = submit(slurm, job, "job.sbatch", "--config", limited, SECONDS_A_PART="3")
    slurm.until(lambda: slurm.job(number)["Restarts"] == "1", "the job to be queued again")
    assert slurm.job(number)["JobState"] in ("PENDING", "COMPLETING")
    printed = (job.folder / f"daskae-{number}.out").read_text()
    assert "the time is over before the work" in printed
    assert f"exit code 75: job {number} is queued again" in printed
    assert job.parts() > 0, job.outputs()


@dataclass
class Driver:
    """The command as a process of this machine whose workers are Slurm jobs."""

    process: subprocess.Popen[str]

    def finish(self) -> str:
        output, error = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, error
        return output


@pytest.fixture
def driver(slurm: Slurm, job: Job) -> Iterator[Driver]:
    process = subprocess.Popen(
        job.command("--cluster", "slurm", "--config", job.config()), cwd=job.folder, env=slurm.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Driver(process)
    finally:
        process.kill()
        process.communicate()


def test_workers_by_jobqueue(slurm: Slurm, job: Job, driver: Driver, calm: dict[str, pa.Table]) -> None:
    job.wait_for_parts(1, slurm)
    assert 1 <= len(slurm.running("daskae-worker")) <= 2
    driver.finish()
    assert_same_tables(job.tables(), calm)
    slurm.until(lambda: not slurm.call("squeue", "-h"), "the end of the workers' jobs")


def test_a_cancelled_worker_is_replaced(slurm: Slurm, job: Job, driver: Driver, calm: dict[str, pa.Table]) -> None:
    job.wait_for_parts(1, slurm)
    slurm.until(lambda: len(slurm.running("daskae-worker")) == 2, "two workers")
    gone = slurm.running("daskae-worker")[0]
    slurm.call("scancel", gone)
    slurm.until(lambda: len(set(slurm.running("daskae-worker")) - {gone}) == 2, "the full size")
    driver.finish()
    assert_same_tables(job.tables(), calm)


def test_a_node_goes_down(slurm: Slurm, job: Job, driver: Driver, calm: dict[str, pa.Table]) -> None:
    job.wait_for_parts(1, slurm)
    node = slurm.job(slurm.running("daskae-worker")[0])["NodeList"]
    assert node in NODES
    slurm.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    driver.finish()
    assert_same_tables(job.tables(), calm)


def test_a_node_is_drained(slurm: Slurm, job: Job, driver: Driver, calm: dict[str, pa.Table]) -> None:
    job.wait_for_parts(1, slurm)
    node = slurm.job(slurm.running("daskae-worker")[0])["NodeList"]
    slurm.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    driver.finish()
    assert_same_tables(job.tables(), calm)


def test_a_killed_driver_is_submitted_again(slurm: Slurm, job: Job, calm: dict[str, pa.Table]) -> None:
    options = ("--mem=1500M", "--time=00:10:00")
    number = submit(slurm, job, "driver.sbatch", "--config", job.config(), options=options)
    job.wait_for_parts(3, slurm)
    (victim,) = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(job.folder) and "script.py" in (process.info["cmdline"] or [])
    ]
    os.kill(victim.pid, signal.SIGKILL)
    assert slurm.wait(number) == "FAILED"
    # The first driver's workers finish what they have, miss their scheduler and end.
    done = job.parts()
    assert done >= 3
    number = submit(slurm, job, "driver.sbatch", "--config", job.config(), options=options)
    assert slurm.wait(number) == "COMPLETED", job.outputs()
    assert_same_tables(job.tables(), calm)
    printed = (job.folder / f"daskae-driver-{number}.out").read_text()
    document = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    assert document["reused_partitions"] >= done


def test_a_queue_that_is_not_there_is_told_at_once(slurm: Slurm, job: Job) -> None:
    write_settings(job.folder / "wrong.toml", **{"cluster.slurm": {"queue": "nowhere", "interface": "lo"}})
    done = subprocess.run(
        job.command("--cluster", "slurm", "--config", "wrong.toml"), cwd=job.folder, env=slurm.environment, text=True,
        capture_output=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Slurm does not take the workers' jobs" in done.stderr
    assert "nvalid partition" in done.stderr
