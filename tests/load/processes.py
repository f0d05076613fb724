"""Publish in a process of its own, and kill it there."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

from daskae.errors import LoadError
from daskae.faults import CRASH_VARIABLE
from daskae.load.base import Load
from daskae.load.lock import publisher_lock
from daskae.load.targets import open_sink
from tests.fault_log import armed, fault, target_of
from tests.support import CONTEXT

WAIT = 180


def publish_killed_at(url: str, load: Load, crash_at: str) -> None:
    """Publish in a child that dies at a crash point; check that it did die there."""
    armed("publisher", target_of(url))
    child = CONTEXT.Process(target=_publish_armed, args=(url, load, crash_at))
    child.start()
    child.join(WAIT)
    code = child.exitcode
    child.close()
    assert code == -signal.SIGKILL, f"the child ended with {code} and never came to {crash_at}"


def publish_together(url: str, load: Load, count: int) -> list[bool]:
    """Publish one load in several processes at once; return for each whether it was there already."""
    return publish_all_at_once(url, [load] * count)


def publish_all_at_once(url: str, loads: Sequence[Load]) -> list[bool]:
    """Publish loads in a process each, all at once; return for each that ends whether it was there already."""
    barrier = CONTEXT.Barrier(len(loads))
    results = CONTEXT.SimpleQueue()
    children = [CONTEXT.Process(target=_publish_at, args=(barrier, url, load, results)) for load in loads]
    for child in children:
        child.start()
    for child in children:
        child.join(WAIT)
        assert child.exitcode == 0
        child.close()
    fault("runs at once", f"{len(loads)} publishers", "publisher", target_of(url), count=len(loads))
    found = [results.get() for _ in children]
    results.close()
    return found


class LockHolder:
    """A process that holds a publisher's lock, until it is told to stop or is killed."""

    def __init__(self, path: Path) -> None:
        self._here, there = CONTEXT.Pipe()
        self._child = CONTEXT.Process(target=_hold_lock, args=(path, there))
        self._child.start()
        there.close()
        assert self._here.recv() == "held"

    def __enter__(self) -> "LockHolder":
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._child.join(WAIT)
        self._child.close()

    @property
    def pid(self) -> int:
        assert self._child.pid is not None
        return self._child.pid

    def kill(self) -> None:
        self._child.kill()
        self._child.join(WAIT)
        assert self._child.exitcode == -signal.SIGKILL
        fault("kill", "while it holds the lock", "publisher")


class StoppedPublish:
    """A publish in a process of its own, that stops where it passes a crash point, until it is told to go on.

    Parameters
    ----------
    url, load
        What is published.
    number : int
        The how manieth crash point it passes; all there are count, whatever their names.
    named : str
        Ending of the names that count.
    timeout : float
        Seconds it waits for others.
    """

    def __init__(self, url: str, load: Load, number: int = 1, named: str = "", timeout: float = 30.0) -> None:
        self._target = target_of(url)
        self._here, there = CONTEXT.Pipe()
        self._child = CONTEXT.Process(target=_publish_stopping, args=(url, load, number, named, timeout, there))
        self._child.start()
        there.close()
        what, text = self._here.recv()
        self.point: str | None = text if what == "stopped" else None
        """Name of the crash point; None when there were not so many."""
        assert self.point or what == "done", text

    def __enter__(self) -> "StoppedPublish":
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._child.join(WAIT)
        self._child.close()

    def kill(self) -> None:
        """Kill the process where it stands."""
        self._child.kill()
        self._child.join(WAIT)
        assert self._child.exitcode == -signal.SIGKILL
        fault("kill", str(self.point), "publisher", self._target)

    def failure(self) -> str:
        """Let it go on; return what it failed with, nothing when it did not."""
        self._here.send("go on")
        what, text = self._here.recv()
        return str(text) if what == "failed" else ""

    def finish(self) -> None:
        """Let it go on; it must succeed."""
        assert self.failure() == ""


def _publish_stopping(url: str, load: Load, number: int, named: str, timeout: float, pipe: Connection) -> None:
    sink = open_sink(url, timeout)
    passed = count(1)

    def stop(name: str) -> None:
        if name.endswith(named) and next(passed) == number:
            pipe.send(("stopped", name))
            with suppress(EOFError):
                pipe.recv()

    replace_crash_points(stop)
    try:
        sink.publish(load)
    except LoadError as error:
        told = ("failed", str(error))
    else:
        told = ("done", "")
    with suppress(BrokenPipeError):
        pipe.send(told)


def replace_crash_points(by: Callable[[str], None]) -> None:
    """Call something else wherever the package has a crash point, in this process."""
    for module in [*sys.modules.values()]:
        if module.__name__.startswith("daskae.") and "crash_point" in vars(module):
            vars(module)["crash_point"] = by


def _publish_armed(url: str, load: Load, crash_at: str) -> None:
    os.environ[CRASH_VARIABLE] = crash_at
    open_sink(url).publish(load)


def _publish_at(barrier, url: str, load: Load, results) -> None:  # type: ignore[no-untyped-def]
    sink = open_sink(url)
    barrier.wait(WAIT)
    results.put(sink.publish(load).already_published)


def _hold_lock(path: Path, pipe: Connection) -> None:
    with publisher_lock(path, 0, "the target"):
        pipe.send("held")
        try:
            pipe.recv()
        except EOFError:
            return
