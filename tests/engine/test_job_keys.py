"""Keys of jobs are there as long as the run that made them, and no longer than the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daskae.engine.job_keys import KeyFolder, sweep_keys
from tests.fault_log import strike
from tests.support import ROOT, run

# Makes keys, says where, and waits.
OWNER = """
import sys
from pathlib import Path
from daskae.engine.job_keys import KeyFolder

folder = KeyFolder(Path(sys.argv[1]))
(folder.path / "key.pem").write_text("secret")
print(folder.path, flush=True)
sys.stdin.read()
"""
IN_A_THREAD = """
import signal, threading
from daskae.config import ClusterSettings
from daskae.engine.create import create_engine
from daskae.errors import SettingsError

def work():
    try:
        with create_engine("slurm", ClusterSettings()) as engine:
            list(engine.run(len, ["task"]))
    except SettingsError as error:
        print(error)

thread = threading.Thread(target=work)
thread.start()
thread.join()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def started(shared: Path) -> "tuple[subprocess.Popen[str], Path]":
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(shared)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_of_a_run_is_its_users_alone_and_goes_with_it(tmp_path: Path) -> None:
    keys = KeyFolder(tmp_path)
    assert list(tmp_path.iterdir()) == [keys.path]
    assert keys.path.stat().st_mode & 0o777 == 0o700
    (keys.path / "key.pem").write_text("secret")
    keys.close()
    assert list(tmp_path.iterdir()) == []


def test_keys_of_a_run_that_lives_stay_and_those_of_a_dead_one_go(tmp_path: Path) -> None:
    (tmp_path / "slurm-7.out").write_text("what a job said")
    process, theirs = started(tmp_path)
    with process:
        own = KeyFolder(tmp_path)
        assert (theirs / "key.pem").read_text() == "secret"
        strike(process.pid, signal.SIGSTOP, "while another run sweeps", "driver (slurm)")
        sweep_keys(tmp_path)
        assert (theirs / "key.pem").exists(), "its owner is stopped, not dead"
        process.kill()
        process.wait()
        sweep_keys(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [own.path.name, "slurm-7.out"]
    own.close()


def test_the_next_run_that_has_jobs_sweeps(tmp_path: Path) -> None:
    process, theirs = started(tmp_path)
    with process:
        process.kill()
    assert theirs.exists()
    KeyFolder(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fresh", [False, True])
def test_any_run_in_the_work_directory_sweeps(fresh: bool, tmp_path: Path) -> None:
    shared = tmp_path / "work" / "slurm"
    shared.mkdir(parents=True, mode=0o700)
    process, theirs = started(shared)
    with process:
        process.kill()
    assert theirs.exists()
    orders = tmp_path / "orders.csv"
    orders.write_text("order_id,customer_id,order_date,amount\n1,C1,2024-01-05,10.50\n")
    run(orders, tmp_path, fresh=fresh)
    assert list(shared.iterdir()) == []


def test_a_folder_that_is_not_there_is_swept() -> None:
    sweep_keys(Path("/nowhere/at/all"))


def test_a_thread_may_ask_for_jobs(tmp_path: Path) -> None:
    """Dask-jobqueue sets a handler of signals when it is imported, which Python lets the main thread do only."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_THREAD], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Slurm's commands are missing\n")
