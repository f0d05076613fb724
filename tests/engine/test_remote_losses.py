"""What a scheduler somewhere else loses: all its workers, itself, or a driver."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import distributed
import pytest

from daskae.config import ClusterSettings
from daskae.engine.create import create_engine
from daskae.errors import TaskKilledError, WorkersUnavailableError
from daskae.events import Event, Warned, WorkerLost
from tests.engine.clusters import Cluster, until_told
from tests.fault_log import strike
from tests.support import ROOT, until

pytestmark = pytest.mark.dask


def act(item: tuple[int, int, Path]) -> int:
    """Tasks of which the fourth kills a process and its own, once; only its own, each time, where that is 0."""
    number, pid, trace = item
    if number == 3 and (pid == 0 or not trace.exists()):
        until_told()
        trace.write_text("")
        if pid:
            strike(pid, signal.SIGKILL, "in the middle of a task", "scheduler or nanny")
        strike(os.getpid(), signal.SIGKILL, "in the middle of a task", "worker")
    return number


@pytest.mark.slow
def test_a_cluster_without_any_worker_left_is_told_and_left(tmp_path: Path) -> None:
    events: list[Event] = []
    with (
        Cluster(tmp_path, workers=1) as cluster,
        create_engine(cluster.address, ClusterSettings(start_timeout="9s"), emit=events.append) as engine,
    ):
        items = [(i, cluster.processes[1].pid, tmp_path / "trace") for i in range(9)]
        with pytest.raises(WorkersUnavailableError, match=r"all workers are gone(.|\n)*start_timeout = 9 s") as raised:
            list(engine.run(act, items))
    assert raised.value.exit_code == 75
    assert any("no worker is left" in event.message for event in events if isinstance(event, Warned))


@pytest.mark.slow
def test_workers_that_come_in_time_go_on(tmp_path: Path) -> None:
    with Cluster(tmp_path, workers=1) as cluster:

        def emit(event: Event) -> None:
            if isinstance(event, Warned) and "no worker is left" in event.message:
                cluster.worker("another")

        with create_engine(cluster.address, ClusterSettings(start_timeout="60s"), emit=emit) as engine:
            items = [(i, cluster.processes[1].pid, tmp_path / "trace") for i in range(9)]
            assert sorted(outcome.value for outcome in engine.run(act, items)) == list(range(9))


def test_a_scheduler_that_dies_is_named_and_no_task_is_blamed(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path, workers=1) as cluster,
        create_engine(cluster.address, ClusterSettings(start_timeout="60s")) as engine,
    ):
        items = [(i, cluster.processes[0].pid, tmp_path / "trace") for i in range(9)]
        with pytest.raises(WorkersUnavailableError, match=r"the scheduler is gone(.*)\n  where:   tcp://") as raised:
            list(engine.run(act, items))
        failed = time.monotonic()
    assert raised.value.exit_code == 75
    assert time.monotonic() - failed < 30


@pytest.mark.slow
def test_a_deadly_task_is_found_where_every_worker_has_the_same_address(tmp_path: Path) -> None:
    """A worker that comes after another one to its port has its own deaths."""
    events: list[Event] = []
    with Cluster(tmp_path, workers=0) as cluster:
        cluster.start(
            "worker", "--name", "fixed", "--nthreads", "1", "--memory-limit", "1GB", "--host", "127.0.0.1",
            "--worker-port", str(_free_port()), "--local-directory", str(tmp_path),
            "--dashboard-address", "127.0.0.1:0",
        )  # fmt: skip
        settings = ClusterSettings(start_timeout="60s")
        with create_engine(cluster.address, settings, emit=events.append) as engine:
            for _ in range(2):
                found = {o.index: o for o in engine.attempt(act, [(i, 0, tmp_path / "trace") for i in range(5)])}
                assert isinstance(found.pop(3).error, TaskKilledError)
                assert {index: outcome.value for index, outcome in found.items()} == {0: 0, 1: 1, 2: 2, 4: 4}
    addresses = [event.worker for event in events if isinstance(event, WorkerLost)]
    assert len(addresses) >= 4
    assert len(set(addresses)) == 1


DRIVER = """
import sys, time
from pathlib import Path
from daskae.config import ClusterSettings
from daskae.engine.base import Needs
from daskae.engine.create import create_engine

with create_engine(sys.argv[1], ClusterSettings(), needs=Needs(0, Path(sys.argv[2]))) as engine:
    print(len(list(engine.run(len, ["task"]))), flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_leaves_no_rule_for_workers_to_come(tmp_path: Path) -> None:
    with Cluster(tmp_path, workers=1) as cluster:
        command = [sys.executable, "-c", DRIVER, cluster.address, str(tmp_path / "work")]
        with (
            subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as driver,
            distributed.Client(cluster.address) as client,
        ):
            assert driver.stdout is not None
            assert driver.stdout.readline() == b"1\n"
            assert _plugins(client)
            strike(driver.pid, signal.SIGKILL, "when its tasks are done", "driver")
            driver.wait()
            until(lambda: not _plugins(client), "the rule to be forgotten")
        shutil.rmtree(tmp_path / "work")
        cluster.worker("late")
        with distributed.Client(cluster.address) as client:
            until(lambda: len(client.nthreads()) == 2, "the late worker")


def _plugins(client: Any) -> list[str]:
    names: list[str] = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.worker_plugins))
    return [name for name in names if name.startswith("daskae-newcomers")]


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
