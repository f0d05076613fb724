"""The main job under a real Slurm: the same tables as a calm run in one process, whatever is cancelled or killed."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator

import psutil
import pyarrow as pa
import pytest

from tests.cluster.jobs import Job, finish, submit
from tests.cluster.slurm import NODES, Slurm
from tests.fault_log import strike
from tests.support import assert_same_tables, write_settings

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(900)]


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


@pytest.fixture
def driver(slurm: Slurm, job: Job) -> Iterator["subprocess.Popen[str]"]:
    with job.driver(slurm, "--config", job.config()) as process:
        yield process


def test_workers_by_jobqueue(
    slurm: Slurm, job: Job, driver: "subprocess.Popen[str]", calm: dict[str, pa.Table]
) -> None:
    job.wait_for_parts(1, slurm)
    assert 1 <= len(slurm.running("daskae-worker")) <= 2
    finish(driver)
    assert_same_tables(job.tables(), calm)
    slurm.until(lambda: not slurm.call("squeue", "-h"), "the end of the workers' jobs")


def test_a_cancelled_worker_is_replaced(
    slurm: Slurm, job: Job, driver: "subprocess.Popen[str]", calm: dict[str, pa.Table]
) -> None:
    job.wait_for_parts(1, slurm)
    slurm.until(lambda: len(slurm.running("daskae-worker")) == 2, "two workers")
    gone = slurm.running("daskae-worker")[0]
    slurm.call("scancel", gone)
    slurm.until(lambda: len(set(slurm.running("daskae-worker")) - {gone}) == 2, "the full size")
    finish(driver)
    assert_same_tables(job.tables(), calm)


def test_a_node_goes_down(slurm: Slurm, job: Job, driver: "subprocess.Popen[str]", calm: dict[str, pa.Table]) -> None:
    job.wait_for_parts(1, slurm)
    node = slurm.job(slurm.running("daskae-worker")[0])["NodeList"]
    assert node in NODES
    slurm.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    finish(driver)
    assert_same_tables(job.tables(), calm)


def test_a_node_is_drained(slurm: Slurm, job: Job, driver: "subprocess.Popen[str]", calm: dict[str, pa.Table]) -> None:
    job.wait_for_parts(1, slurm)
    node = slurm.job(slurm.running("daskae-worker")[0])["NodeList"]
    slurm.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    finish(driver)
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
    strike(victim.pid, signal.SIGKILL, "after some parts", "driver (slurm)")
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


def instead_of_sbatch(job: Job, slurm: Slurm, lines: str) -> str:
    """A PATH on which ``sbatch`` does something first; ``$sbatch`` is the real one."""
    script = job.folder / "bin" / "sbatch"
    script.parent.mkdir()
    script.write_text(f'#!/bin/bash\nsbatch={shutil.which("sbatch")}\n{lines}\nexec $sbatch "$@"\n')
    script.chmod(0o755)
    return f"{script.parent}:{slurm.environment['PATH']}"


def test_a_job_that_slurm_does_not_take_is_submitted_again(slurm: Slurm, job: Job, calm: dict[str, pa.Table]) -> None:
    # The first two of them, so that at first there is no worker at all.
    fails = f"""
[ "$1" = --test-only ] || {{
    for i in 1 2; do mkdir {job.folder}/tried-$i 2>/dev/null && echo "sbatch: error: busy" >&2 && exit 1; done
}}
"""
    path = instead_of_sbatch(job, slurm, fails)
    with job.driver(slurm, "--config", job.config(), PATH=path) as driver:
        slurm.until(lambda: len(slurm.running("daskae-worker")) == 2, "the full size")
        finish(driver)
    assert_same_tables(job.tables(), calm)
    (log,) = job.folder.glob("work/runs/*/run.log")
    assert "WARNING Slurm did not take a worker's job, another try in 5 s: sbatch: error: busy" in log.read_text()


def test_a_slurm_that_does_not_answer_is_for_later(slurm: Slurm, job: Job) -> None:
    said = "allocation failure: Unable to contact slurm controller (connect failure)"
    path = instead_of_sbatch(job, slurm, f"echo '{said}' >&2; exit 1")
    with job.driver(slurm, "--config", job.config(), PATH=path) as driver:
        _, error = driver.communicate(timeout=120)
    assert driver.returncode == 75, error
    assert "Slurm takes no jobs at the moment" in error
    assert said in error


def test_nodes_that_are_all_drained_are_waited_for(slurm: Slurm, job: Job) -> None:
    for node in NODES:
        slurm.call("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    with job.driver(slurm, "--config", job.config(), program=("-m", "jobs.customer_metrics")) as driver:
        slurm.until(lambda: slurm.call("squeue", "-h", "-t", "pending") or driver.poll(), "jobs in the queue")
        for node in NODES:
            slurm.call("scontrol", "update", f"nodename={node}", "state=resume")
        document = json.loads(finish(driver))
    assert document["rows"]["read"] == 1500
    assert job.keys() == []


IN_A_THREAD = """
import threading
from pathlib import Path

from daskae.config import load_settings
from daskae.run.job import run_job

given = {"inputs": ["in"], "to": "out/", "work_dir": Path("work"), "block_size": 2048, "cluster_name": "slurm"}
settings = load_settings(given, Path("slurm.toml"))
results = []
thread = threading.Thread(target=lambda: results.append(run_job(settings)))
thread.start()
thread.join()
print(results[0].summary.engine, results[0].summary.rows.read)
"""


def test_a_run_in_another_thread_than_the_main_one(slurm: Slurm, job: Job) -> None:
    (job.folder / "threaded.py").write_text(IN_A_THREAD)
    job.config()
    with job.driver(slurm, program=("threaded.py",)) as driver:
        assert finish(driver) == "dask 1500\n"
    slurm.until(lambda: not slurm.call("squeue", "-h"), "the end of the workers' jobs")
    assert job.keys() == []
