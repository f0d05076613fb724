"""Run a command and measure what its whole process tree takes: wall time, processor time and peak memory.

Memory is sampled, so a peak shorter than the interval can be missed. On Linux the figure is the sum of PSS, in which
memory that processes share counts once; elsewhere it is the sum of RSS, in which it counts for each of them.
"""

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

INTERVAL = 0.03
SAMPLER_SHARE = 0.2
"""Most of a processor that sampling may take; it waits longer where a sample is dear."""
GRACE_SECONDS = 10.0
"""How long a process may outlive the command before it is killed."""
MEMORY_KIND = "PSS" if Path("/proc/self/smaps_rollup").exists() else "RSS"


@dataclass(frozen=True)
class Measured:
    """What one run of a command took."""

    exit_code: int
    wall_seconds: float
    cpu_seconds: float
    """User and system time of all processes of the tree."""
    peak_bytes: int
    """Highest sum of memory over the tree in one sample."""
    other_cpu_seconds: float
    """Processor time that the rest of the machine took meanwhile; where it is much, do not trust the wall time."""
    samples: int
    timed_out: bool
    stdout: str
    stderr: str
    memory_kind: str = MEMORY_KIND


@dataclass
class ProcessTree:
    """A process and all that came from it, also those whose parent has gone."""

    members: dict[int, psutil.Process]
    cpu: dict[int, float] = field(default_factory=dict)
    """Processor seconds of each member, as of the last time it was seen."""
    peak: int = 0
    """Highest sum of memory so far."""

    @classmethod
    def below(cls, pid: int) -> "ProcessTree":
        """Give the tree of a process that was just started."""
        try:
            return cls({pid: psutil.Process(pid)})
        except psutil.NoSuchProcess:
            return cls({})

    def sample(self) -> None:
        """Look at every member once."""
        for root in list(self.members.values())[:1]:
            with suppress(psutil.Error):
                self.members |= {child.pid: child for child in root.children(recursive=True)}
        for pid, process in list(self.members.items()):
            try:
                times = process.cpu_times()
                self.cpu[pid] = times.user + times.system
            except psutil.Error:
                del self.members[pid]
        # The sum of PSS, which is dear to get, is never above that of RSS: it can only be a new peak where RSS is.
        if self._total(resident) > self.peak:
            self.peak = max(self.peak, self._total(proportional))

    def _total(self, memory: Callable[[psutil.Process], int]) -> int:
        total = 0
        for process in self.members.values():
            with suppress(psutil.Error, OSError):
                total += memory(process)
        return total

    @property
    def is_alive(self) -> bool:
        """Whether any member still runs."""
        for process in self.members.values():
            with suppress(psutil.Error):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    return True
        return False

    def kill(self) -> None:
        """End all members that are still there."""
        for process in self.members.values():
            with suppress(psutil.Error):
                process.kill()


def resident(process: psutil.Process) -> int:
    """Give the memory of one process in bytes, all of what it shares with others included."""
    return process.memory_info().rss


def proportional(process: psutil.Process) -> int:
    """Give the memory of one process in bytes, with its part of what it shares with others where the system tells."""
    if MEMORY_KIND == "RSS":
        return resident(process)
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_bytes()
    start = rollup.find(b"\nPss:")
    return int(rollup[start:].split(maxsplit=2)[1]) * 1024 if start >= 0 else 0


@contextmanager
def _started(command: Sequence[str], log: Path, cwd: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command with its output in files, since a full pipe would stop it."""
    with log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
        yield subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd)


def measure(command: Sequence[str], log: Path, *, cwd: Path | None = None, timeout: float | None = None) -> Measured:
    """Run a command to its end and measure it.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    log : Path
        Standard output and error go to this name with ``.out`` and ``.err``.
    cwd : Path, optional
        Folder to run in.
    timeout : float, optional
        Seconds after which the whole tree is killed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    machine, reaped, began = machine_cpu(), reaped_cpu(), time.perf_counter()
    with _started(command, log, cwd) as process:
        tree = ProcessTree.below(process.pid)
        try:
            watched = _watch(process, tree, timeout)
            _see_off(tree)
        finally:
            tree.kill()
            process.wait()
    # Reaped times miss orphans and processes nobody waited for; sampled times miss what was shorter than the interval.
    cpu = max(reaped_cpu() - reaped, sum(tree.cpu.values()))
    return Measured(
        exit_code=process.returncode,
        wall_seconds=watched.ended - began,
        cpu_seconds=cpu,
        peak_bytes=tree.peak,
        other_cpu_seconds=max(0.0, machine_cpu() - machine - cpu),
        samples=watched.samples,
        timed_out=watched.timed_out,
        stdout=_text(log, ".out"),
        stderr=_text(log, ".err"),
    )


def _text(log: Path, suffix: str) -> str:
    return log.with_suffix(suffix).read_text(encoding="utf-8", errors="replace")


@dataclass
class _Watched:
    ended: float = 0.0
    samples: int = 0
    timed_out: bool = False


def _watch(process: subprocess.Popen[bytes], tree: ProcessTree, timeout: float | None) -> _Watched:
    """Sample until the command ends or its time is over."""
    watched, done = _Watched(), threading.Event()

    def wait() -> None:
        # In a thread of its own, so that the end is seen at once and not at the next sample.
        process.wait()
        watched.ended = time.perf_counter()
        done.set()

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    deadline = time.perf_counter() + (timeout or math.inf)
    pause = 0.0
    while not done.wait(pause):
        before = time.perf_counter()
        tree.sample()
        watched.samples += 1
        if before > deadline:
            watched.timed_out = True
            tree.kill()
        pause = max(INTERVAL, (time.perf_counter() - before) / SAMPLER_SHARE)
    waiter.join()
    return watched


def _see_off(tree: ProcessTree) -> None:
    """Wait for members that outlive the command, such as a Java machine that shuts down."""
    deadline = time.perf_counter() + GRACE_SECONDS
    while tree.is_alive and time.perf_counter() < deadline:
        tree.sample()
        time.sleep(INTERVAL)


def reaped_cpu() -> float:
    """Give the processor time of all children of this process that have ended."""
    if sys.platform == "win32":
        return 0.0
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def machine_cpu() -> float:
    """Give the processor time that the whole machine has spent on work, its host's theft included."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
