"""One contract for all engines: every item's outcome once, errors in our form, nothing left behind."""

import operator
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from daskae.config import ClusterSettings
from daskae.engine.base import AUTO, INLINE, LOCAL, PROCESSES, Engine, Outcome, choose_engine, cores
from daskae.engine.create import create_engine
from daskae.engine.inline import InlineEngine
from daskae.errors import DaskaeError, EngineError, InputError, SettingsError, WorkersUnavailableError
from tests.support import ROOT, descendants

ALLOCATED = 64 << 20


def add(item: int, more: int) -> int:
    """A task; worker processes import it by its name."""
    return item + more


def touch(item: Path) -> str:
    """A task that leaves a trace."""
    item.write_text("done")
    return item.name


def refuse(item: int) -> int:
    """A task that fails as our own code does, for one item."""
    if item == 3:
        raise InputError("an input is gone", f"file {item}", "nothing", "something", "fetch it")
    return item


def divide(item: int) -> float:
    """A task with a fault of its own, for one item."""
    return 1 / item


def allocate(item: int) -> int:
    """A task that needs memory for a moment, long enough to be seen."""
    data = bytearray(os.urandom(1 << 20) * (item >> 20))
    time.sleep(0.3)
    return len(data)


def wait_for(item: Path) -> str:
    """A task that ends when its file is there."""
    end = time.monotonic() + 60
    while not item.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return item.name


def process_of(_: int) -> int:
    """The process that runs a task."""
    return os.getpid()


@pytest.fixture(
    scope="module", params=["inline-1", "inline-3", "processes", pytest.param("local", marks=pytest.mark.dask)]
)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    name, _, threads = request.param.partition("-")
    with create_engine(name, ClusterSettings(), int(threads or 2), 1 << 30) as started:
        yield started


def values(outcomes: Iterator[Outcome]) -> dict[int, Any]:
    """Values by index; no index may come twice."""
    found: dict[int, Any] = {}
    for outcome in outcomes:
        assert outcome.index not in found
        found[outcome.index] = outcome.value
    return found


@pytest.mark.parametrize("count", [0, 1, 50])
def test_every_item_has_its_outcome(count: int, engine: Engine) -> None:
    assert values(engine.run(add, range(count), 100)) == {i: i + 100 for i in range(count)}


def test_equal_items_and_runs_are_run_again(engine: Engine, tmp_path: Path) -> None:
    for _ in range(2):
        path = tmp_path / "trace"
        assert values(engine.run(touch, [path, path])) == {0: "trace", 1: "trace"}
        assert path.read_text() == "done"
        path.unlink()


def test_outcomes_come_while_other_tasks_run(engine: Engine, tmp_path: Path) -> None:
    if engine.slots == 1:
        pytest.skip("one task at a time")
    first, second = tmp_path / "first", tmp_path / "second"
    second.write_text("")
    outcomes = engine.run(wait_for, [first, second])
    assert next(outcomes).value == "second"
    first.write_text("")
    assert next(outcomes).value == "first"
    with pytest.raises(StopIteration, match=r"^$"):
        next(outcomes)


def test_our_errors_come_through_whole(engine: Engine) -> None:
    with pytest.raises(InputError, match=r"^an input is gone\n  where:   file 3\n") as raised:
        list(engine.run(refuse, range(6)))
    assert (raised.value.got, raised.value.allowed, raised.value.hint) == ("nothing", "something", "fetch it")


def test_other_errors_name_the_item(engine: Engine) -> None:
    with pytest.raises(
        EngineError, match=r"^a task failed\n  where:   divide 0\n  got:     ZeroDivisionError: "
    ) as raised:
        list(engine.run(divide, [2, 1, 0]))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_an_engine_goes_on_after_an_error(engine: Engine) -> None:
    with pytest.raises(DaskaeError, match="an input is gone"):
        list(engine.run(refuse, range(6)))
    assert values(engine.run(add, range(3), 1)) == {0: 1, 1: 2, 2: 3}


def test_a_run_may_be_left_early(engine: Engine) -> None:
    outcomes = engine.run(add, range(100), 0)
    assert next(outcomes).seconds >= 0
    operator.methodcaller("close")(outcomes)
    assert len(values(engine.run(add, range(5), 0))) == 5


def test_cost_is_measured(engine: Engine) -> None:
    (outcome,) = engine.run(allocate, [ALLOCATED])
    assert outcome.value == ALLOCATED
    assert outcome.seconds >= 0.3
    # A Python process with the libraries in it, and the block; far from the limit of the worker.
    assert ALLOCATED < outcome.peak_bytes < 2 << 30


def test_inline_tasks_stay_in_this_process() -> None:
    with InlineEngine(2) as engine:
        assert set(values(engine.run(process_of, range(4))).values()) == {os.getpid()}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("daskae")]


def listening(pid: int) -> set[str]:
    """Addresses on which a process and all below it listen."""
    family = [psutil.Process(pid), *descendants(pid)]
    found = set()
    for process in family:
        connections = process.net_connections("inet")
        found |= {item.laddr.ip for item in connections if item.status == psutil.CONN_LISTEN}
    return found


@pytest.mark.dask
def test_a_local_cluster_listens_on_the_loopback_address_only() -> None:
    before = listening(os.getpid())
    with create_engine(LOCAL, ClusterSettings(dashboard=True), 2, 1 << 30) as engine:
        pids = set(values(engine.run(process_of, range(8))).values())
        assert pids <= {process.pid for process in descendants(os.getpid())}
        assert listening(os.getpid()) - before <= {"127.0.0.1"}
        family = descendants(os.getpid())
        workers = [process for process in family if process.pid in pids]
    _, alive = psutil.wait_procs(workers, timeout=120)
    assert alive == []


@pytest.mark.parametrize(
    ("asked", "size", "name", "reason"),
    [
        (AUTO, 999, INLINE, "999 bytes of input are below cluster.inline_below = 1,000"),
        (AUTO, 1000, PROCESSES, "are below cluster.processes_below"),
        (AUTO, 1999, PROCESSES, "are below cluster.processes_below = 2,000"),
        (AUTO, 2000, LOCAL, "not below cluster.processes_below"),
        (INLINE, 10**12, INLINE, "asked for"),
        (LOCAL, 1, LOCAL, "asked for"),
        ("tcp://10.0.0.1:8786", 1, "tcp://10.0.0.1:8786", "asked for"),
    ],
)
def test_the_engine_is_chosen_by_what_is_asked_then_by_size(asked: str, size: int, name: str, reason: str) -> None:
    chosen, why = choose_engine(asked, size, ClusterSettings(inline_below=1000, processes_below=2000))
    assert chosen == name
    assert reason in why


@pytest.mark.parametrize("name", ["moon", "", "http://host:8786", "Local"])
def test_an_unknown_cluster_is_a_settings_error(name: str) -> None:
    with pytest.raises(SettingsError, match="unknown cluster") as raised:
        create_engine(name, ClusterSettings())
    assert raised.value.got == name


@pytest.mark.dask
@pytest.mark.parametrize("way", ["file", "input"])
def test_workers_do_not_run_the_program_again(way: str, tmp_path: Path) -> None:
    """Neither a script that does not ask whether it is the main program, nor one that is no file."""
    script = """
from daskae.config import ClusterSettings
from daskae.engine.create import create_engine

def double(item):
    return 2 * item

with create_engine("local", ClusterSettings(), 1, 1 << 30) as engine:
    print([outcome.value for outcome in engine.run(double, [21])])
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-" if way == "input" else tmp_path / "script.py"], input=script, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[42]\n"), done.stderr


def test_without_a_task_nothing_is_started() -> None:
    before = descendants(os.getpid())
    with create_engine("tcp://127.0.0.1:9", ClusterSettings()) as engine:
        assert list(engine.run(len, [])) == []
    with create_engine(LOCAL, ClusterSettings()) as engine:
        assert list(engine.run(len, [])) == []
    assert descendants(os.getpid()) == before


def test_engines_are_made_without_starting_anything() -> None:
    before = descendants(os.getpid())
    assert create_engine("tcp://127.0.0.1:9", ClusterSettings()).name == "dask"
    assert create_engine("scheduler.json", ClusterSettings()).name == "dask"
    assert create_engine(LOCAL, ClusterSettings(), 3).slots == 3
    assert create_engine(INLINE, ClusterSettings()).slots == cores()
    assert descendants(os.getpid()) == before


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere.json"])
def test_an_unreachable_scheduler_is_told_soon(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(WorkersUnavailableError, match=f"no scheduler answers(.|\n)*{address}(.|\n)*next:") as raised:
        values(create_engine(address, ClusterSettings(start_timeout="1s")).run(len, ["task"]))
    assert raised.value.exit_code == 75
    assert time.monotonic() - began < 20
