"""Runs that are looked at after every task: what the process holds, and what the work directory takes."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from daskae.config import load_settings
from daskae.events import Event, StageDone, StageStarted, TaskDone
from daskae.monitor.memory import current_rss
from daskae.run.job import run_job
from tests.support import CONTEXT, WAIT


@dataclass(frozen=True)
class Look:
    """What was there when a task ended."""

    stage: str
    input_bytes: int
    peak: int
    """Of the process, while the task ran."""
    before: int
    """Resident bytes when it began."""
    after: int
    disk: int
    """Allocated bytes of the work directory."""


def run_watched(inputs: Path, folder: Path, config: Path | None = None, **flags: object) -> list[Look]:
    """Run the job on one thread, in a process of its own; return what was seen at the end of each task and stage."""
    process = CONTEXT.Process(target=_run, args=(inputs, folder, config, flags))
    process.start()
    process.join(5 * WAIT)
    assert process.exitcode == 0
    return [Look(**item) for item in json.loads((folder / "looks.json").read_text())]


def _run(inputs: Path, folder: Path, config: Path | None, flags: dict[str, object]) -> None:
    looks: list[Look] = []
    work, before = folder / "work", 0

    def look(event: Event) -> None:
        nonlocal before
        rss = current_rss()
        if isinstance(event, TaskDone):
            looks.append(Look(event.stage, event.input_bytes, event.peak_bytes, before, rss, allocated(work)))
        elif isinstance(event, StageDone):
            looks.append(Look(event.stage, 0, 0, before, rss, allocated(work)))
        if isinstance(event, StageStarted | TaskDone):
            before = current_rss()

    values = {"inputs": [str(inputs)], "work_dir": work, "to": f"{folder}/out/", "workers": 1, "cluster_name": "inline"}
    run_job(load_settings({**values, **flags}, config), listeners=[look])
    (folder / "looks.json").write_text(json.dumps([asdict(item) for item in looks]))


def allocated(folder: Path) -> int:
    """Return what all files below a folder take on the disk; one that has two names counts once."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def of_tasks(looks: Sequence[Look], stage: str) -> list[Look]:
    """Return the looks at the tasks of a stage."""
    return [look for look in looks if look.stage == stage and look.peak]
