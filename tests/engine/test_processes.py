"""Worker processes without a scheduler: forked early, and followed by a cluster when one of them dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from daskae.config import ClusterSettings
from daskae.engine.base import LOCAL, PROCESSES
from daskae.engine.create import create_engine
from daskae.engine.early import fork_workers
from daskae.engine.pool import may_fork, start_pool
from daskae.engine.processes import ProcessEngine
from daskae.errors import MemoryLimitError
from daskae.events import Event, Warned
from tests.fault_log import fault, strike
from tests.support import ROOT, until

GIB = 1 << 30

EARLY = """
import os, sys
from daskae.allocators import tune_allocators
tune_allocators()
from daskae.config import load_settings
from daskae.engine.create import create_engine
from daskae.engine.early import expect_workers, fork_workers

settings = load_settings({"inputs": ["in"], "to": "out/", "cluster_name": "processes", "workers": 2}, None)
expected = expect_workers(settings)
import daskae.run.job

def process_of(item):
    import polars as pl
    assert pl.DataFrame({"a": [1, 2]}).select(pl.col("a").sum()).item() == 3  # Polars' threads are there
    return os.getpid(), os.getppid(), pl.thread_pool_size()

cluster = settings.cluster
with fork_workers(expected, 2) as early, create_engine("processes", cluster, 2, 1 << 30, early=early) as engine:
    assert "distributed" not in sys.modules
    for outcome in engine.run(process_of, range(8)):
        pid, parent, threads = outcome.value
        assert parent == os.getpid() != pid, "a worker is no fork of this process"
        assert threads == 1
    assert "distributed" not in sys.modules
assert not os.path.exists(f"/proc/{pid}")
print("all forked")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks need Linux")
def test_a_fresh_process_forks_its_workers(tmp_path: Path) -> None:
    """The guard against libraries that begin to start threads when they are imported."""
    script = tmp_path / "script.py"
    script.write_text(EARLY)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("all forked\n", "", 0)


def test_a_process_with_threads_is_not_forked() -> None:
    import polars as pl

    pl.DataFrame({"a": [1]}).select(pl.col("a").sum())
    assert not may_fork()
    with fork_workers(PROCESSES, 2) as early:
        assert early.take() is None


def die_once(item: tuple[int, Path]) -> int:
    """A task that kills its process, the first time."""
    number, trace = item
    if number == 3 and not trace.exists():
        trace.write_text("")
        strike(os.getpid(), signal.SIGKILL, "in the middle of a task", "worker (processes)")
    time.sleep(0.05)
    return number


@pytest.mark.dask
def test_a_cluster_goes_on_when_a_worker_has_died(tmp_path: Path) -> None:
    events: list[Event] = []
    with create_engine(PROCESSES, ClusterSettings(), 2, GIB, emit=events.append) as engine:
        items = [(i, tmp_path / "died") for i in range(9)]
        assert sorted((o.index, o.value) for o in engine.run(die_once, items)) == [(i, i) for i in range(9)]
        warned = [event.message for event in events if isinstance(event, Warned)]
        assert len(warned) == 1
        assert warned[0].startswith("a worker process has died; a Dask cluster of this machine goes on with ")
        # What comes later goes to the cluster at once.
        assert sorted(o.value for o in engine.run(die_once, items)) == list(range(9))
        assert len([event for event in events if isinstance(event, Warned)]) == 1


def stop_once(item: tuple[int, Path]) -> int:
    """A task that stops its process, the first time."""
    number, trace = item
    if number == 1 and not trace.exists():
        trace.write_text("")
        strike(os.getpid(), signal.SIGSTOP, "in the middle of a task", "worker (processes)")
    return number


@pytest.mark.dask
def test_a_worker_that_is_stopped_for_long_is_taken_for_lost(tmp_path: Path) -> None:
    events: list[Event] = []
    cluster = partial(create_engine, LOCAL, ClusterSettings(), 2, GIB)
    with ProcessEngine(2, GIB, cluster, events.append, patience=0.5) as engine:
        outcomes = engine.run(stop_once, [(i, tmp_path / "stopped") for i in range(4)])
        assert sorted(outcome.value for outcome in outcomes) == list(range(4))
    assert any(isinstance(event, Warned) for event in events)


def stop_or_die(item: tuple[str, Path]) -> None:
    """Tasks that stop one process, and kill the other one then."""
    what, trace = item
    if what == "stop":
        trace.write_text(str(os.getpid()))
        strike(os.getpid(), signal.SIGSTOP, "beside one that dies", "worker (processes)")
    else:
        until(lambda: trace.exists() and trace.read_text(), "the other process")
        until(lambda: psutil.Process(int(trace.read_text())).status() == psutil.STATUS_STOPPED, "its stop")
        strike(os.getpid(), signal.SIGKILL, "beside one that is stopped", "worker (processes)")


def test_a_stopped_process_beside_a_dead_one_holds_nothing_up(tmp_path: Path) -> None:
    with start_pool(2) as pool:
        futures = [pool.submit(stop_or_die, (what, tmp_path / "trace")) for what in ("stop", "die")]
        pool.submit(len, "the executor looks at its processes anew when a task comes")
        with pytest.raises(BrokenExecutor):
            futures[1].result(timeout=120)
        family = _workers(pool)
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() == "stopped" for pid in family)


@pytest.mark.slow
def test_a_process_that_is_stopped_while_idle_is_ended_too() -> None:
    with start_pool(1) as pool:
        assert pool.submit(len, "task").result(timeout=60) == 4
        (pid,) = _workers(pool)
        strike(pid, signal.SIGSTOP, "while it is idle", "worker (processes)")
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert not psutil.pid_exists(pid)


def hold(item: int) -> int:
    """A task that holds memory and looks at its limit."""
    from daskae.budget import checkpoint

    if item > 512 << 20:
        fault("too little memory", "in the middle of a task", "task")
    data = os.urandom(1 << 20) * (item >> 20)
    checkpoint()
    return len(data)


def test_a_task_above_its_share_stops_by_itself() -> None:
    with create_engine(PROCESSES, ClusterSettings(), 1, 512 << 20) as engine:
        first, second = sorted(engine.attempt(hold, [1 << 20, 900 << 20]), key=lambda outcome: outcome.index)
    assert first.value == 1 << 20
    assert isinstance(second.error, MemoryLimitError)


def test_fewer_tasks_than_processes_run_where_memory_is_short() -> None:
    with start_pool(2) as pool:
        cluster = partial(create_engine, LOCAL, ClusterSettings(), 1, GIB)
        with ProcessEngine(1, GIB, cluster, pool=pool) as engine:
            assert engine.slots == 1
            spans = sorted(outcome.value for outcome in engine.run(span, range(4)))
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def span(_: int) -> tuple[float, float]:
    """When a task began and ended."""
    began = time.monotonic()
    time.sleep(0.1)
    return began, time.monotonic()


def test_a_pool_that_is_closed_at_once_waits_for_no_task() -> None:
    pool = start_pool(1)
    future = pool.submit(time.sleep, 60)
    (worker,) = [item for item in psutil.Process().children(recursive=True) if item.pid in _workers(pool)]
    began = time.monotonic()
    pool.close(at_once=True)
    assert time.monotonic() - began < 20
    assert not worker.is_running()
    with pytest.raises(BrokenExecutor):
        future.result(timeout=60)


def _workers(pool: object) -> set[int]:
    found: set[int] = until(
        lambda: {child.pid for child in multiprocessing.active_children() if child.pid is not None},
        f"a process of {pool}",
    )
    return found
