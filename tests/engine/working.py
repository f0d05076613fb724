"""Tasks that keep a record of when they begin and end, so that nothing can be done twice unseen."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from daskae.engine.dask import DaskEngine

PATIENCE = 240.0


@dataclass(frozen=True)
class Work:
    """A task of some length, or one that ends when it is let go."""

    folder: Path
    name: str
    seconds: float | None = None
    """How long it takes; None for until :meth:`let_go`."""

    def let_go(self) -> None:
        """Let it end."""
        (self.folder / f"{self.name}.go").touch()


def work(item: Work) -> str:
    """Do it, and note each time that it was begun or done."""
    note(item, "begun")
    end = time.monotonic() + (PATIENCE if item.seconds is None else item.seconds)
    while time.monotonic() < end and not (item.folder / f"{item.name}.go").exists():
        time.sleep(0.02)
    note(item, "done")
    return item.name


def note(item: Work, what: str) -> None:
    with (item.folder / f"{item.name}.{what}").open("a") as file:
        file.write(f"{os.getpid()}\n")


def notes(folder: Path, what: str) -> dict[str, int]:
    """How often each task was begun or done."""
    return {path.stem: len(path.read_text().split()) for path in folder.glob(f"*.{what}")}


def workers(engine: DaskEngine) -> set[str]:
    """Names of the workers that there are."""
    return {str(worker["name"]) for worker in engine._client.scheduler_info(n_workers=-1)["workers"].values()}


def processes(folder: Path) -> set[str]:
    """Those in which tasks were begun."""
    return {line for path in folder.glob("*.begun") for line in path.read_text().split()}
