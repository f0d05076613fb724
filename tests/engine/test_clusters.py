"""Local clusters: sized by what there is, back to full size after losses, or following the work."""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from daskae.config import ClusterSettings
from daskae.config.clusters import AdaptiveSettings, KubernetesSettings, SlurmSettings
from daskae.engine import base
from daskae.engine.base import INLINE, KUBERNETES, LOCAL, SLURM, allowed_memory, cores, local_workers, task_memory
from daskae.engine.create import create_engine
from daskae.engine.dask import DaskEngine
from daskae.engine.slurm import job_options
from daskae.errors import SettingsError
from tests.engine.test_engines import process_of, values
from tests.fault_log import strike
from tests.support import until

GIB = 1 << 30


def test_workers_follow_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "cores", lambda: 8)
    monkeypatch.setattr(base, "available_memory", lambda: 10 * GIB)
    assert local_workers(None, 0) == 8
    assert local_workers(None, 1 * GIB) == 8
    assert local_workers(None, 2 * GIB) == 4  # nine tenths of what is free
    assert local_workers(None, 100 * GIB) == 1
    assert local_workers(5, 100 * GIB) == 5


@pytest.mark.parametrize(("granted", "expected"), [(None, 8), (2.5, 2), (0.3, 1), (64.0, 8)])
def test_cores_follow_cgroups(granted: float | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(base, "cpu_limit", lambda: granted)
    assert cores() == expected


def test_memory_of_a_task_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "available_memory", lambda: 10 * GIB)
    settings = ClusterSettings(
        slurm=SlurmSettings(memory="8GiB", processes=4),
        kubernetes=KubernetesSettings(memory="3GiB"),
    )
    assert allowed_memory(INLINE, settings, 2, None) == 9 * GIB
    assert allowed_memory(LOCAL, settings, 3, None) == 3 * GIB
    assert allowed_memory(LOCAL, settings, 3, GIB) == GIB
    # Nannies live in the jobs and pods of their workers.
    assert allowed_memory(SLURM, settings, 2, None) == int(0.9 * 4 * GIB) // 2
    assert allowed_memory(KUBERNETES, settings, 2, None) == int(0.9 * 3 * GIB)
    assert allowed_memory("tcp://somewhere:1", settings, 2, None) is None
    # A task on a Dask worker stops by itself before its nanny stops it.
    assert task_memory(LOCAL, settings, 3, GIB) == int(0.9 * GIB)
    assert task_memory(INLINE, settings, 3, GIB) == GIB
    assert task_memory("tcp://somewhere:1", settings, 2, None) is None


@pytest.mark.dask
def test_silent_workers_are_looked_for_often() -> None:
    with DaskEngine(LOCAL, ClusterSettings(worker_ttl="20s"), 1) as engine:
        looks = engine._client.cluster.scheduler.periodic_callbacks["worker-ttl"]
        assert looks.callback_time == 2000
        until(looks.is_running, "the looks")
        assert sum(outcome.value for outcome in engine.run(abs, [-1, -2])) == 3


def slow(item: int) -> int:
    """A task that lasts long enough to be killed."""
    time.sleep(0.2)
    return process_of(item)


@pytest.mark.slow
@pytest.mark.dask
def test_lost_workers_are_replaced() -> None:
    # With so little patience Dask gives every killed worker up, before its process can be there again. Those that
    # come meanwhile under a name that is still taken die, too, and their tasks with them.
    settings = ClusterSettings(replace_after="50ms", retries=20)
    with DaskEngine(LOCAL, settings, 2, GIB) as engine:
        outcomes = engine.run(slow, range(40))
        seen = [next(outcomes).value]
        while len(set(seen)) < 2:  # on a busy machine one of them may come late
            seen.append(next(outcomes).value)
        first = set(seen)
        for pid in first:
            strike(pid, signal.SIGKILL, "all at once, in the middle of a task", "worker")
        assert len(values(outcomes)) == 40 - len(seen)
        client = engine._client
        until(lambda: len(client.scheduler_info()["workers"]) == 2, "the full size")
        pids = {outcome.value for outcome in engine.run(slow, range(40))}
        assert len(pids) == 2
        assert not pids & first


@pytest.mark.slow
@pytest.mark.dask
def test_the_number_of_workers_follows_the_work() -> None:
    settings = ClusterSettings(adaptive=AdaptiveSettings(minimum=1, maximum=2))
    with DaskEngine(LOCAL, settings, None, GIB) as engine:
        assert engine.slots == 2
        client = engine._client
        assert len(client.scheduler_info()["workers"]) == 1
        found = values(engine.run(slow, range(120)))
        assert len(found) == 120
        assert len(set(found.values())) == 2


def test_adaptive_bounds_are_in_order() -> None:
    with pytest.raises(ValueError, match="minimum is at most maximum"):
        AdaptiveSettings(minimum=3, maximum=2)


def test_slurm_jobs_are_encrypted_or_stay_on_loopback(tmp_path: Path) -> None:
    options = job_options(ClusterSettings(), tmp_path)
    assert options["protocol"] == "tls://"
    assert options["security"].require_encryption
    assert Path(options["shared_temp_directory"]).stat().st_mode & 0o777 == 0o700
    own_pages = ["--dashboard-address", "127.0.0.1:0"]
    assert options["worker_extra_args"] == [*own_pages, "--lifetime", "3300s", "--lifetime-stagger", "75s"]
    plain = job_options(ClusterSettings(slurm=SlurmSettings(tls=False)), tmp_path)
    assert plain["interface"] == "lo"
    assert "security" not in plain
    named = job_options(ClusterSettings(slurm=SlurmSettings(tls=False, interface="ib0")), tmp_path)
    assert named["interface"] == "ib0"


def test_slurm_without_its_commands_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(SettingsError, match=r"Slurm's commands are missing\n(.|\n)*sbatch"),
        create_engine(SLURM, ClusterSettings()) as engine,
    ):
        values(engine.run(len, ["task"]))


@pytest.mark.dask
def test_a_local_cluster_needs_no_port_that_others_may_have() -> None:
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # somebody has it already
            other.bind(("127.0.0.1", 8787))
            other.listen()
        with create_engine(LOCAL, ClusterSettings(), 1, GIB) as engine:
            assert len(values(engine.run(process_of, range(2)))) == 2


@pytest.mark.dask
def test_a_local_cluster_ends_with_its_processes() -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with create_engine(LOCAL, ClusterSettings(), 2, GIB) as engine:
        workers = [psutil.Process(pid) for pid in set(values(engine.run(process_of, range(8))).values())]
        assert not {worker.pid for worker in workers} & before
    assert psutil.wait_procs(workers, timeout=120)[1] == []
