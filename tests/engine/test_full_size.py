"""Workers of a local cluster die again and again, or all at once: it comes back, or says that it does not."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from daskae.config import ClusterSettings
from daskae.engine.base import LOCAL
from daskae.engine.create import create_engine
from daskae.engine.dask import DaskEngine
from daskae.engine.handing import Handout
from daskae.errors import WorkersUnavailableError
from daskae.events import Event, Warned, WorkerLost
from daskae.run.attempts import complete
from daskae.run.context import RunContext
from tests.engine.clusters import Cluster
from tests.engine.test_clusters import slow
from tests.fault_log import strike
from tests.support import descendants, until

pytestmark = [pytest.mark.slow, pytest.mark.dask]

GIB = 1 << 30
WORKERS = 2
KILLS = 10
PROMISED = 60.0
"""Seconds after which the cluster has its full size again, or the person has an answer."""
TASKS = 600


@dataclass(frozen=True)
class Task:
    """A short one, while there is something to be disturbed."""

    number: int
    calm: Path
    """A file that is there when nothing is killed any more."""


def short(item: Task) -> int:
    if not item.calm.exists():
        time.sleep(0.04)
    return item.number


@contextmanager
def local_engine(emit: Callable[[Event], None], **settings: Any) -> Iterator[DaskEngine]:
    with DaskEngine(LOCAL, ClusterSettings(**settings), WORKERS, GIB, emit=emit) as engine:
        yield engine


def pid_of(engine: DaskEngine, name: object) -> int | None:
    """The process that a nanny has now, or is starting."""
    nanny = engine._client.cluster.workers.get(name)
    process = getattr(getattr(nanny, "process", None), "process", None)
    return process.pid if process is not None and process.is_alive() else None


def pids(engine: DaskEngine) -> set[int]:
    found = (pid_of(engine, name) for name in list(engine._client.cluster.workers))
    return {pid for pid in found if pid is not None}


def kill(pid: int, where: str, seed: int | None = None) -> None:
    with suppress(ProcessLookupError):
        strike(pid, signal.SIGKILL, where, "worker", seed=seed)


@dataclass
class Killer:
    """Kills workers by a seeded schedule, and those that come in their place while they start."""

    engine: DaskEngine
    seed: int
    killed: list[int] = field(default_factory=list)

    def work(self, calm: Path) -> None:
        chance = random.Random(self.seed)
        while len(self.killed) < KILLS:
            time.sleep(chance.uniform(0, 0.3))
            name = chance.choice(sorted(self.engine._client.cluster.workers))
            self._kill(name)
            # At once, so that it has not come to the scheduler yet, or when it may have got a task.
            time.sleep(chance.choice([0.0, chance.uniform(0, 0.3)]))
            self._kill(name)
        calm.touch()

    def _kill(self, name: object) -> None:
        """Kill the process of a nanny, or the next that she has."""
        end = time.monotonic() + PROMISED
        while (pid := pid_of(self.engine, name)) is None or pid in self.killed:
            assert time.monotonic() < end, f"worker {name} does not come back; killed {self.killed}"
            time.sleep(0.001)
        kill(pid, "at a moment of the schedule, or while it starts", self.seed)
        self.killed.append(pid)


def run_to_the_end(engine: DaskEngine, items: Sequence[Task], emit: Callable[[Event], None]) -> list[int]:
    """Run tasks as a run does: those that may have killed their workers once more, alone."""
    context = cast(RunContext, SimpleNamespace(emit=emit))
    found = complete(engine, short, items, (), lambda _: (), context, "map")
    return sorted(outcome.value for _, outcome in found)


def assert_full_size(engine: DaskEngine, killed: set[int]) -> None:
    """All workers are there, new ones, and take part in the work."""
    until(lambda: len(engine._client.scheduler_info()["workers"]) == WORKERS, "the full size", PROMISED)
    until(lambda: len(pids(engine)) == WORKERS, "as many processes", PROMISED)
    until(lambda: len({outcome.value for outcome in engine.run(slow, range(20))}) == WORKERS, "work for all", PROMISED)
    assert not pids(engine) & killed


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ten_kills_cost_no_task_and_no_worker(seed: int, tmp_path: Path) -> None:
    events: list[Event] = []
    items = [Task(number, tmp_path / "calm") for number in range(TASKS)]
    with local_engine(events.append) as engine:
        killer = Killer(engine, seed)
        until(lambda: len(pids(engine)) == WORKERS, "all workers")
        thread = threading.Thread(target=killer.work, args=(items[0].calm,))
        thread.start()
        found = run_to_the_end(engine, items, events.append)
        thread.join()
        assert found == list(range(TASKS)), f"seed {seed}"
        assert len(killer.killed) == KILLS, f"seed {seed}: the work was over too early"
        assert_full_size(engine, set(killer.killed))
        assert run_to_the_end(engine, items, events.append) == list(range(TASKS))
    assert {event.reason for event in events if isinstance(event, WorkerLost)} == {"died"}


def test_all_workers_at_once_and_what_they_are_forked_from(tmp_path: Path) -> None:
    (tmp_path / "calm").touch()
    with local_engine(lambda event: None) as engine:
        until(lambda: len(pids(engine)) == WORKERS, "all workers")
        before = pids(engine)
        server: Any = forkserver._forkserver
        for pid in (*before, server._forkserver_pid):
            kill(pid, "all at once, with what they are forked from")
        assert_full_size(engine, before)


def test_all_workers_and_their_nannies(tmp_path: Path) -> None:
    """Nannies of a local cluster live in the driver: they end only where Dask gives one up."""
    with local_engine(lambda event: None) as engine:
        cluster = engine._client.cluster
        until(lambda: len(pids(engine)) == WORKERS, "all workers")
        before, nannies = pids(engine), list(cluster.workers.values())
        for pid in before:
            kill(pid, "all at once, with their nannies")
        for nanny in nannies:
            cluster.sync(nanny.close)
        assert_full_size(engine, before)
        assert not set(nannies) & set(cluster.workers.values())


def test_workers_that_never_come_back_are_told_and_left(tmp_path: Path) -> None:
    """Each that is started in place of another one dies, too."""
    items = [Task(number, tmp_path / "calm") for number in range(TASKS)]
    stop = threading.Event()
    with local_engine(lambda event: None, start_timeout="8s") as engine:

        def kill_all() -> None:
            while not stop.wait(0.002):
                for pid in pids(engine):
                    kill(pid, "each as soon as it is there")

        killer = threading.Thread(target=kill_all)
        outcomes = engine.run(short, items)
        next(outcomes)
        killer.start()
        began = time.monotonic()
        try:
            with pytest.raises(WorkersUnavailableError, match=r"all workers are gone") as raised:
                list(outcomes)
        finally:
            stop.set()
            killer.join()
    assert time.monotonic() - began < PROMISED
    assert raised.value.exit_code == 75


def test_a_result_that_is_lost_with_the_last_worker_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies between the word that a task is done and the moment its result is fetched."""
    events: list[Event] = []
    fetch = Handout._fetch
    with (
        Cluster(tmp_path, workers=1) as cluster,
        create_engine(cluster.address, ClusterSettings(start_timeout="3s"), emit=events.append) as engine,
    ):

        def late(handout: Handout, future: Any) -> Any:
            _, nanny = cluster.processes
            family = descendants(nanny.pid)
            for pid in (nanny.pid, *(process.pid for process in family)):
                kill(pid, "the last one and its nanny, when its task is done")
            until(lambda: "Remove worker" in cluster.log("scheduler"), "the scheduler to miss the worker", PROMISED)
            return fetch(handout, future)

        monkeypatch.setattr(Handout, "_fetch", late)
        began = time.monotonic()
        with pytest.raises(WorkersUnavailableError, match=r"all workers are gone(.|\n)*start_timeout = 3 s"):
            list(engine.run(len, ["task"]))
    assert time.monotonic() - began < PROMISED
    assert any("no worker is left" in event.message for event in events if isinstance(event, Warned))
