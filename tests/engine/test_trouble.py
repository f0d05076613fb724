"""Tasks that run out of memory or kill their process: named, and nobody else suffers."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daskae.budget import checkpoint, guarded
from daskae.config import ClusterSettings
from daskae.engine.base import LOCAL, Engine, MemoryGuard, Outcome
from daskae.engine.create import create_engine
from daskae.engine.inline import InlineEngine
from daskae.errors import MemoryLimitError, TaskKilledError
from daskae.events import Event, WorkerLost
from daskae.monitor.memory import current_rss
from tests.engine.clusters import until_told
from tests.fault_log import fault, strike

LIMIT = 500 << 20
# The kernel counts resident pages for each processor apart: what the task saw and its peak may differ by some pages.
COUNTER_LAG = 1 << 20


def trouble(item: tuple[str, int, Path]) -> int:
    """A task that does what it is told."""
    what, number, folder = item
    if what == "die":
        (folder / f"{time.monotonic_ns()}").touch()
        until_told()
        strike(os.getpid(), signal.SIGKILL, "in a task, each time", "worker")
    if what == "die once" and not (folder / "once").exists():
        (folder / "once").touch()
        strike(os.getpid(), signal.SIGKILL, "in a task, once", "worker")
    if what in ("grow", "grow and look", "raise"):
        fault("too little memory", f"in a task: {what}", "task")
    if what == "grow":
        held = []
        while True:
            held.append(b"x" * (8 << 20))
            time.sleep(0.01)
    if what == "grow and look":
        held = []
        while True:
            held.append(b"x" * (8 << 20))
            checkpoint()
    if what == "raise":
        raise MemoryError
    return number


@pytest.fixture(scope="module")
def local() -> Iterator[tuple[Engine, list[Event]]]:
    events: list[Event] = []
    with create_engine(LOCAL, ClusterSettings(), 2, LIMIT, emit=events.append) as engine:
        yield engine, events


def tried(engine: Engine, items: list[tuple[str, int, Path]], **how: Any) -> dict[int, Outcome]:
    found = {outcome.index: outcome for outcome in engine.attempt(trouble, items, **how)}
    assert sorted(found) == list(range(len(items)))
    return found


def among_others(what: str, folder: Path) -> list[tuple[str, int, Path]]:
    return [(what if i == 5 else "work", i, folder) for i in range(12)]


def assert_only(found: dict[int, Outcome], kind: type[Exception]) -> Outcome:
    """Only the sixth task failed, and in the way expected."""
    assert {i: outcome.value for i, outcome in found.items() if i != 5} == {i: i for i in found if i != 5}
    assert isinstance(found[5].error, kind), found[5]
    return found[5]


@pytest.mark.dask
def test_a_task_that_kills_its_worker_is_found_after_two_deaths(
    local: tuple[Engine, list[Event]], tmp_path: Path
) -> None:
    engine, events = local
    events.clear()
    failed = assert_only(tried(engine, among_others("die", tmp_path)), TaskKilledError)
    assert "trouble ('die', 5" in str(failed.error)
    assert len(list(tmp_path.iterdir())) == 2
    losses = [event for event in events if isinstance(event, WorkerLost)]
    assert [event.reason for event in losses] == ["died", "died"]
    assert all(len(event.tasks) == 1 and "trouble" in event.tasks[0] for event in losses)


@pytest.mark.dask
def test_a_worker_that_is_killed_once_costs_nobody_anything(local: tuple[Engine, list[Event]], tmp_path: Path) -> None:
    engine, _ = local
    found = tried(engine, among_others("die once", tmp_path))
    assert {i: outcome.value for i, outcome in found.items()} == {i: i for i in range(12)}


@pytest.mark.dask
def test_a_worker_stopped_by_its_nanny_died_of_memory(local: tuple[Engine, list[Event]], tmp_path: Path) -> None:
    engine, events = local
    events.clear()
    failed = assert_only(tried(engine, among_others("grow", tmp_path)), MemoryLimitError)
    losses = [event for event in events if isinstance(event, WorkerLost)]
    assert [(event.reason, event.limit_bytes) for event in losses] == [("memory", LIMIT)]
    assert losses[0].rss_bytes > 0.95 * LIMIT
    assert failed.error is not None
    assert failed.error.allowed == "500.0 MiB"


@pytest.mark.dask
def test_a_task_that_looks_stops_before_its_worker_is_killed(local: tuple[Engine, list[Event]], tmp_path: Path) -> None:
    engine, events = local
    events.clear()
    failed = assert_only(tried(engine, among_others("grow and look", tmp_path)), MemoryLimitError)
    assert 0.9 * LIMIT - COUNTER_LAG < failed.peak_bytes < 0.95 * LIMIT
    assert not [event for event in events if isinstance(event, WorkerLost)]


@pytest.mark.dask
def test_alone_means_one_try(local: tuple[Engine, list[Event]], tmp_path: Path) -> None:
    engine, _ = local
    found = tried(engine, [("die", 0, tmp_path), ("work", 1, tmp_path)], alone=True)
    assert isinstance(found[0].error, TaskKilledError)
    assert found[1].value == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_inline_tasks_stop_at_the_limit(threads: int, tmp_path: Path) -> None:
    with InlineEngine(threads, current_rss() + (200 << 20)) as engine:
        failed = assert_only(tried(engine, among_others("grow and look", tmp_path)), MemoryLimitError)
    assert "trouble ('grow and look', 5" in str(failed.error)


@pytest.mark.parametrize("alone", [False, True])
def test_an_error_of_memory_is_no_bug(alone: bool, tmp_path: Path) -> None:
    with InlineEngine(2) as engine:
        assert_only(tried(engine, among_others("raise", tmp_path), alone=alone), MemoryLimitError)
        with pytest.raises(MemoryLimitError, match=r"a task needs more memory(.|\n)*trouble \('raise', 5"):
            list(engine.run(trouble, among_others("raise", tmp_path)))


def test_a_checkpoint_outside_of_an_engine_does_nothing() -> None:
    checkpoint()
    with guarded(MemoryGuard(1, "a task")), pytest.raises(MemoryLimitError, match=r"a peak of .*\n  allowed: 1 B"):
        checkpoint()
    checkpoint()
