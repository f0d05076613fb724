"""What safety costs: the monitor, a worker killed late, a driver killed late, many partitions, one worker or two.

``python -m benchmarks.reliability`` prints a table; see the README beside this file.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
PARTS = 50_000


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    measured: str
    bound: str
    kept: bool


@dataclass
class Job:
    """The main command over generated orders, on worker processes, with its own folders."""

    inputs: Path
    folder: Path
    flags: Sequence[str] = ()
    environment: dict[str, str] | None = None
    workers: int = 2

    def start(self) -> "subprocess.Popen[bytes]":
        self.folder.mkdir(parents=True, exist_ok=True)
        argv = [str(self.inputs), "--config", str(self.inputs / "_settings.toml"), "--to", f"{self.folder}/out/"]
        argv += [
            "--work-dir",
            f"{self.folder}/work",
            "--cluster",
            "local",
            "--workers",
            str(self.workers),
            "--quiet",
            "--json",
        ]
        code = "import sys; from benchmarks.reliability import child; sys.exit(child(sys.argv[1:]))"
        with (self.folder / "stdout.json").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-c", code, *argv, *self.flags], stdout=output, cwd=ROOT,
                env={**os.environ, **(self.environment or {})},
            )  # fmt: skip

    def finish(self) -> dict[str, Any]:
        """Run to the end and return what was printed."""
        process = self.start()
        if process.wait() != 0:
            raise RuntimeError(f"the job failed with {process.returncode}, see {self.folder}")
        document: dict[str, Any] = json.loads((self.folder / "stdout.json").read_text())
        return document

    def maps(self) -> int:
        """Partitions that are done."""
        return sum(1 for _ in (self.folder / "work").glob("maps/*/*/manifest.json"))


def child(argv: list[str]) -> int:
    """Run the job; without the monitor where the environment says so."""
    from jobs.customer_metrics import main

    if os.environ.get("DASKAE_TEST_UNWATCHED"):
        from daskae.engine import handing
        from daskae.engine.dask import DaskEngine

        handing.measured_on_worker = unmeasured
        DaskEngine._watch = lambda self: False  # type: ignore[method-assign]
    return main(argv)


def unmeasured(index: int, function: Callable[..., Any], item: Any, parcel: bytes) -> Any:
    """Run a task and look at nothing."""
    from daskae.engine.base import Outcome
    from daskae.engine.parcel import unpack

    return Outcome(index, function(item, *unpack(parcel)), 0, 0.0)


def monitor_cost(inputs: Path, folder: Path, rounds: int) -> Line:
    """Processor seconds of the whole command with the monitor and without, in turns; the median of the rounds' ratios.

    Wall time tells less: from run to run it differs by more than the bound.
    """
    ratios, walls = [], []
    for i in range(rounds):
        took: dict[str, tuple[float, float]] = {}
        # Who is first changes, as what comes first may find another machine.
        for name in ("with", "without")[:: 1 if i % 2 else -1]:
            environment = {} if name == "with" else {"DASKAE_TEST_UNWATCHED": "1"}
            job = Job(inputs, folder / f"{name}-{i}", ["--block-size", "4MiB"], environment)
            before, began = _processor_seconds(), time.monotonic()
            job.finish()
            took[name] = _processor_seconds() - before, time.monotonic() - began
            shutil.rmtree(job.folder)
        ratios.append(took["with"][0] / took["without"][0] - 1)
        walls.append(took["with"][1] / took["without"][1] - 1)
    share = statistics.median(ratios)
    text = f"{share:+.1%} of processor time ({min(ratios):+.1%} to {max(ratios):+.1%}), "
    text += f"{statistics.median(walls):+.1%} of wall time ({min(walls):+.1%} to {max(walls):+.1%})"
    return Line("cost of the monitor", text, "< 2 %", share < 0.02)


def _processor_seconds() -> float:
    """Return what all processes have used that this one has started and that have ended, and those below them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def workers_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Worker processes of a driver: forks of its fork server, or interpreters of their own where there is none."""
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
        forks = [item for item in family if "forkserver" in _line(item) and item.ppid() != process.pid]
        return forks or [item for item in family if "spawn_main" in _line(item)]
    return []


def _line(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def when(share: float, job: Job, parts: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a share of the partitions is done."""
    while process.poll() is None and job.maps() < share * parts:
        time.sleep(0.02)


def killed_worker(inputs: Path, folder: Path, rounds: int) -> Line:
    """Time lost by one worker killed when 90 % of the partitions are done."""
    flags = ["--block-size", "2MiB"]
    calm, hurt = [], []
    for i in range(rounds):
        job = Job(inputs, folder / f"calm-{i}", flags)
        began = time.perf_counter()
        parts = int(job.finish()["partitions"])
        calm.append(time.perf_counter() - began)
        job = Job(inputs, folder / f"hurt-{i}", flags)
        began = time.perf_counter()
        process = job.start()
        when(0.9, job, parts, process)
        workers_of(process)[0].kill()
        if process.wait() != 0:
            raise RuntimeError("the job did not survive the death of a worker")
        hurt.append(time.perf_counter() - began)
    lost = min(hurt) / min(calm) - 1
    text = f"{lost:+.1%} ({min(hurt):.1f} s against {min(calm):.1f} s)"
    return Line("time lost by a worker killed at 90 %", text, "< 10 %", lost < 0.1)


def killed_driver(inputs: Path, folder: Path) -> Line:
    """Partitions done again after the driver was killed at 80 %."""
    job = Job(inputs, folder, ["--block-size", "1MiB"])
    parts = int(Job(inputs, folder / "calm", job.flags).finish()["partitions"])
    process = job.start()
    when(0.8, job, parts, process)
    family = [process.pid, *(item.pid for item in psutil.Process(process.pid).children(recursive=True))]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    psutil.wait_procs([item for item in map(_process, family) if item is not None], timeout=60)
    started = sum(1 for item in (folder / "work").glob("maps/*/*") if item.is_dir())
    done = job.maps()
    document = job.finish()
    again = started - int(document["reused_partitions"])
    text = f"{again} of {parts} ({done} were done, 2 workers)"
    return Line("partitions begun twice after the driver's death at 80 %", text, "<= 3", again <= 3)


def _process(pid: int) -> psutil.Process | None:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid)
    return None


def many_partitions(folder: Path) -> Line:
    """Peak memory of the driver, which holds the scheduler too, while it hands out 50,000 tasks."""
    code = f"from benchmarks.reliability import hand_out; hand_out({PARTS})"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout)
    text = f"{found['peak'] / 1e6:.0f} MB ({found['seconds']:.0f} s, {PARTS:,} tasks on 2 workers)"
    return Line("driver with scheduler, 50,000 partitions", text, "<= 400 MB", found["peak"] <= 400e6)


def nothing(ref: object) -> object:
    """A task as small as they come."""
    return ref


def hand_out(parts: int) -> None:
    """Hand out tasks that carry a partition each, keep their results, and print what that took."""
    from daskae.config import ClusterSettings
    from daskae.engine.create import create_engine
    from daskae.monitor.memory import peak_rss
    from daskae.partition import PartitionRef, Segment

    columns = tuple(f"column_{i}" for i in range(8))
    refs = [
        PartitionRef((Segment(f"/in/{i}.csv", f"{i}.csv", "csv", 0, 1000, 1000, f"{i:032d}", columns, "1:2:3"),))
        for i in range(parts)
    ]
    began = time.perf_counter()
    with create_engine("local", ClusterSettings(), 2, 1 << 30) as engine:
        kept = [outcome.value for outcome in engine.run(nothing, refs)]
    assert len(kept) == parts
    print(json.dumps({"peak": peak_rss(), "seconds": time.perf_counter() - began}))


def speed(inputs: Path, folder: Path, rounds: int) -> Line:
    """Seconds of map, unique and reduce on one worker and on two."""
    best: dict[int, float] = {}
    for workers in (1, 2):
        for i in range(rounds):
            job = Job(inputs, folder / f"{workers}-{i}", ["--block-size", "4MiB"], workers=workers)
            seconds = job.finish()["seconds"]
            took = seconds["map"] + seconds["unique"] + seconds["reduce"]
            best[workers] = min(best.get(workers, took), took)
            shutil.rmtree(job.folder)
    ratio = best[1] / best[2]
    text = f"{ratio:.2f} times ({best[1]:.2f} s, {best[2]:.2f} s)"
    return Line("speed from 1 to 2 workers", text, ">= 1.5 times", ratio >= 1.5)


def show(line: Line) -> bool:
    """Print a line of the table, and say whether its bound is kept."""
    kept = "yes" if line.kept else "NO"
    print(f"| {line.what} | {line.measured} | {line.bound} | {kept} |", flush=True)
    return line.kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="runs of which the fastest counts")
    parser.add_argument("--only", nargs="*", default=[], help="monitor worker driver many speed")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="daskae-reliability-") as name:
        folder = Path(name)
        inputs = folder / "orders"
        command = ["-m", "jobs.generate_orders", "--rows", str(given.rows), "--out", str(inputs)]
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
        every: dict[str, Callable[[], Line]] = {
            "monitor": lambda: monitor_cost(inputs, folder / "monitor", given.rounds),
            "worker": lambda: killed_worker(inputs, folder / "worker", given.rounds),
            "driver": lambda: killed_driver(inputs, folder / "driver"),
            "many": lambda: many_partitions(folder),
            "speed": lambda: speed(inputs, folder / "speed", given.rounds),
        }
        print("| what | measured | bound | kept |\n| --- | --- | --- | --- |", flush=True)
        kept = [show(measure()) for part, measure in every.items() if not given.only or part in given.only]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
