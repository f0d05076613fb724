"""Kills and pauses processes of a run by a seeded schedule."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import psutil

from tests.fault_log import strike

Victims = Mapping[str, Callable[[], Sequence[psutil.Process]]]


@dataclass
class Nemesis:
    """Context manager that does harm in a thread of its own until it has done enough, or is left.

    What was paused goes on at the end, as does all that comes back later than it should. ``history`` says what was
    done when, for the message of a test that fails; the seed says it again.
    """

    seed: int
    victims: Victims
    """By role, how its processes are found; a role that has none at the moment is passed over."""
    acts: int = 3
    """How often to strike."""
    pace: float = 0.5
    """Longest time between two strikes, in seconds."""
    pauses: bool = True
    """Whether to pause too, not only to kill."""
    longest_pause: float = 2.0
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._stop = threading.Event()
        self._paused: list[psutil.Process] = []
        self._thread = threading.Thread(target=self._work, name="nemesis")

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for process in self._paused:
            _go_on(process)

    def __str__(self) -> str:
        return f"seed {self.seed}: " + "; ".join(self.history or ["nothing was done"])

    def _work(self) -> None:
        while len(self.history) < self.acts and not self._stop.wait(self._random.uniform(0, self.pace)):
            role = self._random.choice(sorted(self.victims))
            found = sorted(self.victims[role](), key=lambda process: process.pid)
            if found:
                self._strike(role, self._random.choice(found))

    def _strike(self, role: str, process: psutil.Process) -> None:
        at = time.monotonic() - self._began
        if not self.pauses or self._random.random() < 0.6:
            self.history.append(f"{at:.2f} s kill {role}")
            self._send(role, process, signal.SIGKILL)
            return
        seconds = self._random.uniform(0.1, self.longest_pause)
        self.history.append(f"{at:.2f} s pause {role} for {seconds:.2f} s")
        self._paused.append(process)
        self._send(role, process, signal.SIGSTOP)
        self._stop.wait(seconds)
        _go_on(process)

    def _send(self, role: str, process: psutil.Process, number: signal.Signals) -> None:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if process.is_running():  # the number may have gone to another one
                strike(process.pid, number, "at a moment of the schedule", role, seed=self.seed)


def _go_on(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        if process.is_running():
            os.kill(process.pid, signal.SIGCONT)
