"""Signals and time limits: an orderly end, words on how to go on, and no process left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from daskae.config import load_settings
from daskae.config.clusters import ClusterSettings
from daskae.engine.deadline import Deadline
from daskae.engine.inline import InlineEngine
from daskae.errors import TimeLimitError
from daskae.run.deadline import find_deadline, left_by
from daskae.run.job import run_job
from tests.fault_log import strike
from tests.support import ROOT, assert_same_tables, orders_csv, read_tables, run, until, write_settings

SLOW_RULE = """
import time

from daskae.validate import RowRule
from jobs.customer_metrics import main


def wait(orders):
    open({begun!r}, "w").close()
    time.sleep({seconds})
    return orders["amount"] >= 0


if __name__ == "__main__":
    raise SystemExit(main(rules=[RowRule("slow", wait, frame=True)]))
"""


@dataclass
class Slow:
    """A run of a person's script whose every task takes its time."""

    folder: Path
    seconds: float
    rows: int = 600

    def start(self, engine: str, *more: str) -> subprocess.Popen[str]:
        (self.folder / "in").mkdir(exist_ok=True)
        (self.folder / "in" / "a.csv").write_bytes(orders_csv(self.rows))
        script = self.folder / "script.py"
        script.write_text(SLOW_RULE.format(seconds=self.seconds, begun=str(self.folder / "begun")))
        argv = ["in", "--to", "out/", "--work-dir", "work", "--cluster", engine, "--block-size", "2KiB", "--quiet"]
        return subprocess.Popen(
            [sys.executable, str(script), *argv, "--workers", "2", *more], cwd=self.folder, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def done(self) -> int:
        return len(list(self.folder.glob("work/maps/*/*/manifest.json")))

    def wait_for_parts(self, process: subprocess.Popen[str], count: int = 1) -> None:
        def come() -> bool:
            assert process.poll() is None, process.communicate()
            return self.done() >= count

        until(come, "the first parts")

    def finish(self) -> int:
        """Go on inline; return how many parts were taken from before."""
        before = self.done()
        process = self.start("inline")
        _, error = process.communicate(timeout=180)
        assert process.returncode == 0, error
        calm = run(self.folder / "in", self.folder / "calm")
        slow = read_tables(self.folder / "out")
        assert_same_tables(
            {name: table for name, table in slow.items() if name != "validation_results"},
            {name: table for name, table in calm.tables.items() if name != "validation_results"},
        )
        return before


def session(leader: int) -> list[psutil.Process]:
    """All processes of a session, those included whose parent is gone."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


def left_behind(leader: int) -> list[psutil.Process]:
    """What is still there after a while: multiprocessing's helper ends when it notices that its parent has."""
    alive: list[psutil.Process] = psutil.wait_procs(session(leader), timeout=60)[1]
    return alive


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    return Slow(tmp_path, 0.3)


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.slow
@pytest.mark.dask
@pytest.mark.parametrize("to", ["driver", "all"])
@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("engine", ["local", "processes"])
def test_one_signal_ends_the_cluster_in_order(
    number: signal.Signals, code: int, to: str, engine: str, slow: Slow
) -> None:
    process = slow.start(engine)
    slow.wait_for_parts(process)
    assert len(session(process.pid)) > 2
    if to == "all":  # as a terminal does at Ctrl-C, and Slurm at the end of a job
        strike(process.pid, number, "after the first part", f"driver and workers ({engine})", group=True)
    else:
        strike(process.pid, number, "after the first part", f"driver ({engine})")
    _, error = process.communicate(timeout=180)
    assert process.returncode == code, error
    assert "run the same command again to go on" in error
    assert "Traceback" not in error
    assert left_behind(process.pid) == []
    assert slow.finish() > 0


@pytest.mark.slow
@pytest.mark.dask
@pytest.mark.parametrize("engine", ["local", "processes", "inline"])
@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_two_signals_end_everything_at_once(number: signal.Signals, code: int, engine: str, tmp_path: Path) -> None:
    slow = Slow(tmp_path, 200.0)
    process = slow.start(engine)
    until(lambda: (tmp_path / "begun").exists(), "a task")
    strike(process.pid, number, "in the middle of a task", f"driver ({engine})")
    end = time.monotonic() + 60  # the tasks would need longer
    while process.poll() is None and time.monotonic() < end:
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)  # two that come at one moment are one to the system
        if process.poll() is None:
            strike(process.pid, number, "once more, before the end", f"driver ({engine})")
    assert process.poll() is not None
    _, error = process.communicate()
    # Nearly gone, Python lets go of its handlers, and a signal ends it by itself: to a shell that is the same code.
    assert process.returncode in (code, -number), error
    assert "run the same command again to go on" in error
    assert left_behind(process.pid) == []


@pytest.mark.slow
@pytest.mark.dask
@pytest.mark.parametrize("engine", ["local", "processes"])
def test_a_killed_driver_leaves_nothing(engine: str, slow: Slow) -> None:
    process = slow.start(engine)
    slow.wait_for_parts(process)
    strike(process.pid, signal.SIGKILL, "after the first part", f"driver ({engine})")
    process.communicate()
    assert left_behind(process.pid) == []


@pytest.mark.slow
@pytest.mark.dask
@pytest.mark.parametrize("engine", ["inline", "processes", "local"])
def test_time_limit_then_the_next_submission_goes_on(engine: str, tmp_path: Path) -> None:
    slow = Slow(tmp_path, 1.5, rows=1200)  # 20 seconds of work
    write_settings(tmp_path / "limit.toml", cluster={"time_limit": "30s", "stop_before_end": "14s"})
    process = slow.start(engine, "--config", "limit.toml")
    _, error = process.communicate(timeout=180)
    assert process.returncode == 75, error
    assert "the time is over before the work" in error
    assert "cluster.time_limit" in error
    assert "run the same command again" in error
    assert left_behind(process.pid) == []
    assert 0 < slow.finish() < 26


@pytest.mark.parametrize(("threads", "handed_out"), [(1, 1), (2, 4)])
def test_tasks_that_have_begun_are_done_and_no_others_begin(threads: int, handed_out: int) -> None:
    over = threading.Event()
    done: list[int] = []

    class Over(Deadline):
        def has_come(self) -> bool:
            return over.is_set()

    def end(item: int) -> None:
        over.set()
        done.append(item)

    with InlineEngine(threads) as engine:
        engine.deadline = Over(0.0, 0.0, "a test")
        with pytest.raises(TimeLimitError, match=r"the time is over before the work\n  where:   a test") as raised:
            list(engine.run(end, range(100)))
    assert raised.value.exit_code == 75
    assert 1 <= len(done) <= handed_out


def test_work_that_ends_in_time_is_whole() -> None:
    moment = time.monotonic() + 600
    with InlineEngine(2) as engine:
        engine.deadline = Deadline(moment, moment, "a test")
        assert len(list(engine.run(abs, range(10)))) == 10


@pytest.mark.parametrize(("moment", "come"), [(-1.0, True), (600.0, False)])
def test_a_deadline_comes_by_the_clock(moment: float, come: bool) -> None:
    assert Deadline(time.monotonic() + moment, 0.0, "a test").has_come() == come


def test_the_last_moment_ends_any_wait() -> None:
    now = time.monotonic()
    with pytest.raises(TimeLimitError, match="a test"), left_by(Deadline(now, now + 0.1, "a test")):
        time.sleep(30)
    assert time.monotonic() - now < 25  # less than a sleep
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_last_moment_ends_code_that_catches_everything() -> None:
    def stubborn() -> None:
        for _ in range(3):
            try:
                time.sleep(30)
            except Exception:
                continue

    now = time.monotonic()
    with pytest.raises(TimeLimitError, match="a test"), left_by(Deadline(now, now + 0.1, "a test")):
        stubborn()
    assert time.monotonic() - now < 25  # less than a sleep


def settings(**values: Any) -> ClusterSettings:
    return ClusterSettings(**values)


def test_without_a_limit_there_is_no_deadline() -> None:
    assert find_deadline(settings(), 0.0, {}) is None


def test_the_nearest_limit_counts() -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 4000)}
    found = find_deadline(settings(time_limit=10_000.0), 0.0, environment)
    assert found is not None
    assert found.reason == "the time limit of Slurm job 7"
    assert 3690 < found.stop - time.monotonic() < 3701
    assert 3900 < found.leave - time.monotonic() < 3926
    found = find_deadline(settings(time_limit=1000.0, stop_before_end=100.0), 50.0, environment)
    assert found is not None
    assert found.reason == "cluster.time_limit"
    assert 840 < found.stop - time.monotonic() <= 850


def test_half_of_a_short_time_is_for_work() -> None:
    found = find_deadline(settings(time_limit=100.0), 0.0, {})
    assert found is not None
    assert 45 < found.stop - time.monotonic() <= 50


@pytest.mark.parametrize(("answer", "known"), [("EndTime=2099-01-01T00:00:00", True), ("EndTime=Unknown", False)])
def test_an_older_slurm_is_asked(answer: str, known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "scontrol"
    command.write_text(f"#!/bin/sh\necho JobId=$4 JobState=RUNNING {answer} Deadline=N/A\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert (find_deadline(settings(), 0.0, {"SLURM_JOB_ID": "7"}) is not None) == known


def test_the_manifest_says_interrupted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(orders_csv(200))
    limit = {"time_limit": "1ms"}
    flags = {"inputs": [str(tmp_path / "a.csv")], "to": f"{tmp_path}/out/", "work_dir": tmp_path / "work"}
    given = load_settings({**flags, "cluster_name": "inline", "cluster": limit}, None)
    with pytest.raises(TimeLimitError, match=r"cluster\.time_limit") as raised:
        run_job(given)
    assert raised.value.summary.status == "interrupted"  # type: ignore[attr-defined]
