"""Commands in a process whose memory is limited by the system, and what their events say of its peaks."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
PAGE_CACHE = 64 << 20
"""A group counts file pages too, and gives them back late."""

BULKY_ROW = 600


@dataclass(frozen=True)
class Finished:
    """A run that ended well."""

    document: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def peaks(self) -> dict[str, list[int]]:
        """Measured peaks by stage, in the order of the tasks' ends."""
        return peaks_of(self.events)

    @property
    def peak(self) -> int:
        return max(max(peaks) for peaks in self.peaks.values())

    @property
    def projected(self) -> int:
        return projected_by(self.events)


def events_of(run_dir: str | Path) -> list[dict[str, Any]]:
    """Return all events of a run."""
    return [json.loads(line) for line in Path(run_dir, "events.jsonl").read_text().splitlines()]


def peaks_of(events: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    """Return measured peaks by stage, in the order of the tasks' ends."""
    found: dict[str, list[int]] = {}
    for event in events:
        if event["event"] == "TaskDone":
            found.setdefault(event["stage"], []).append(event["peak_bytes"])
    return found


def projected_by(events: Sequence[dict[str, Any]]) -> int:
    """Return what the plan says that a task needs at most."""
    return next(int(event["projected_bytes"]) for event in events if event["event"] == "PlanReady")


def run_limited(
    inputs: Path, folder: Path, *flags: str, group: Path | None = None, engine: str = "inline", workers: int = 1
) -> Finished:
    """Run the job, on one thread unless told, in a process of its own, a member of a memory group if there is one."""
    argv = [str(inputs), "--to", f"{folder}/out/", "--work-dir", f"{folder}/work", "--cluster", engine]
    command = [sys.executable, "-m", "jobs.customer_metrics", *argv, "--workers", str(workers), "--quiet", "--json"]
    command += flags
    if group is not None:
        join = f"import os,sys; open({str(group / 'cgroup.procs')!r},'w').write(str(os.getpid())); "
        command = [sys.executable, "-c", join + "os.execv(sys.argv[1], sys.argv[1:])", *command]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert ended.returncode == 0, ended.stderr[-2000:]
    document = json.loads(ended.stdout)
    return Finished(document, events_of(document["run_dir"]))


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A memory cgroup with a limit, or a skip that says why there is none."""
    parent, name = _own_group()
    group = parent / f"daskae-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / name).write_text(str(limit))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        yield group
    finally:
        group.rmdir()


def _own_group() -> tuple[Path, str]:
    for line in Path("/proc/self/cgroup").read_text().splitlines() if Path("/proc/self/cgroup").exists() else []:
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _V1 / group.lstrip("/"), "memory.limit_in_bytes"
        if not controllers and (_V2 / "cgroup.controllers").exists():
            return _V2 / group.lstrip("/"), "memory.max"
    pytest.skip("this system has no memory cgroups")


def write_bulky(folder: Path, nbytes: int, files: int, customers: int = 500) -> Path:
    """Write orders with long notes of about ``nbytes`` in all, packed, so that they take hardly any disk."""
    folder.mkdir(parents=True)
    note = "x" * (BULKY_ROW - 40)
    rows = nbytes // files // BULKY_ROW
    for i in range(files):
        with gzip.open(folder / f"orders-{i:03d}.csv.gz", "wt", compresslevel=1) as file:
            file.write("order_id,customer_id,order_date,amount,note\n")
            for j in range(rows):
                n = i * rows + j
                file.write(f"O{n},C{n * 7919 % customers},2024-{n % 12 + 1:02d}-{n % 28 + 1:02d},{n % 90}.25,{note}\n")
    return folder


def write_often(folder: Path, nbytes: int, files: int) -> Path:
    """Write files that hold the same bulky orders, each with one more of its own: any number takes no time to make."""
    once = write_bulky(folder.parent / "once", nbytes // files, 1) / "orders-000.csv.gz"
    folder.mkdir(parents=True)
    for i in range(files):
        more = gzip.compress(f"P{i},C{i % 500},2024-01-01,1.25,more\n".encode())
        (folder / f"orders-{i:03d}.csv.gz").write_bytes(once.read_bytes() + more)
    return folder


def write_packed(folder: Path, rows: int, day: str, orders: int) -> Path:
    """Write one packed file of ``rows`` lines of one day, that are ``orders`` different ones, and one good line."""
    folder.mkdir(parents=True)
    with gzip.open(folder / "orders.csv.gz", "wt", compresslevel=1) as file:
        file.write("order_id,customer_id,order_date,amount,note\nGOOD,GOOD,2024-01-01,1,one\n")
        for n in range(rows):
            file.write(f"O{n % orders},C{n % orders % 997},{day},1.25,{'n' * 100}\n")
    return folder


def write_small(folder: Path, rows: int, lines: Sequence[str] = ()) -> Path:
    """Write one plain file of short orders."""
    folder.mkdir(parents=True)
    with (folder / "orders.csv").open("w") as file:
        file.write("order_id,customer_id,order_date,amount\n")
        for n in range(rows):
            file.write(f"O{n},C{n * 7919 % 5000},2024-{n % 12 + 1:02d}-{n % 28 + 1:02d},{n % 90}.25\n")
        file.writelines(lines)
    return folder
