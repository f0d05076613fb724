"""The command over a small input, to be disturbed: how it is started, and what it must leave behind."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from daskae.load.verifying import verify_target
from tests.fault_log import checked
from tests.support import (
    EXACT_DUPLICATE,
    POSITIVE_QUANTITY,
    REPEATED_ORDER,
    ROOT,
    TABLES,
    Child,
    assert_same_tables,
    descendants,
    read_quarantine,
    read_tables,
    until,
    write_settings,
)

from .checker import assert_accounted_for, fingerprint, numbered_orders

KILLED = -9
FILES = 3
PATIENCE = 120.0


@dataclass(frozen=True)
class Job:
    """One command over one folder of orders, with its own work directory and target."""

    inputs: Path
    config: Path
    folder: Path
    engine: str = "inline"
    block: str = "4KiB"
    target: str = "out/"
    workers: int = 2

    @property
    def argv(self) -> list[str]:
        """The same command every time."""
        to = f"{self.folder}/{self.target}"
        places = ["--to", to if to.endswith("/") else f"sqlite:///{to}", "--work-dir", f"{self.folder}/work"]
        engine = ["--cluster", self.engine, "--workers", str(self.workers), "--block-size", self.block]
        return [str(self.inputs), "--config", str(self.config), *places, *engine, "--quiet", "--json"]

    def start(self, **environment: str) -> Child:
        """Start it in a process of its own."""
        self.folder.mkdir(exist_ok=True)
        return Child(self.argv, self.folder / "stdout.json", environment)

    def finish(self, **environment: str) -> dict[str, Any]:
        """Run it to its end and return what it printed."""
        child = self.start(**environment)
        assert child.wait() == 0
        return child.document()

    def stopped_at(self, point: str) -> Child:
        """Start it, and return when it has stopped at a crash point."""
        child = self.start(DASKAE_STOP_AT=point)
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED, f"the stop at {point}")
        return child

    def popen(self) -> subprocess.Popen[bytes]:
        """Start it as a person does, so that it can have worker processes."""
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "stdout.json").open("wb") as output, (self.folder / "stderr.txt").open("ab") as errors:
            command = [sys.executable, "-m", "jobs.customer_metrics", *self.argv]
            return subprocess.Popen(command, stdout=output, stderr=errors, cwd=ROOT)

    def document(self) -> dict[str, Any]:
        """What the last run printed."""
        document: dict[str, Any] = json.loads((self.folder / "stdout.json").read_text())
        return document

    def errors(self) -> str:
        """What all runs started by :meth:`popen` said."""
        return (self.folder / "stderr.txt").read_text()

    def tables(self) -> dict[str, pa.Table]:
        """What the target holds."""
        return read_tables(self.folder / "out")

    def rows(self) -> dict[str, list[Any]]:
        """What the target holds, if it is a database; the metadata columns, which come last, left out."""
        with closing(sqlite3.connect(self.folder / self.target)) as database:
            return {name: [row[:-3] for row in database.execute(f"SELECT * FROM {name}")] for name in TABLES}

    def assert_rows(self, expected: dict[str, list[Any]]) -> None:
        """Compare what the target holds, if it is a database, with what another one does."""
        assert self.rows() == expected
        checked("contents")

    def manifests(self) -> set[Path]:
        """Every partition that is done."""
        return set((self.folder / "work").glob("maps/*/*/manifest.json"))

    def steps(self) -> dict[Path, int]:
        """Every later task that is done, and which file says so: one that is done again has another."""
        return {path: path.stat().st_ino for path in (self.folder / "work").glob("steps/*/manifest.json")}


@dataclass(frozen=True)
class Calm:
    """A run that nothing disturbed."""

    inputs: Path
    config: Path
    seconds: float
    document: dict[str, Any]
    tables: dict[str, pa.Table]
    quarantine: list[dict[str, Any]]

    def assert_equal(self, job: Job, document: dict[str, Any]) -> None:
        """Compare the result of a disturbed job with this one, and account for every row."""
        assert document["rows"] == self.document["rows"]
        assert document["load_id"] == self.document["load_id"]
        quarantine = read_quarantine(document["quarantine"])
        assert verify_target(f"{job.folder}/out/").differences == ()
        assert_same_tables(job.tables(), self.tables)
        assert fingerprint(job.tables()) == fingerprint(self.tables)
        checked("bytes")
        assert quarantine == self.quarantine
        assert_accounted_for(job.inputs, job.tables()["customer_metrics"], quarantine)

    def assert_goes_on(self, job: Job) -> int:
        """Run the same command again: the result is the calm one, and what was finished is not done again.

        Returns
        -------
        int
            Tasks that were run.
        """
        done, steps = len(job.manifests()), job.steps()
        document = job.finish()
        assert document["reused_partitions"] == done
        after = job.steps()
        assert {path: after[path] for path in steps} == steps
        self.assert_equal(job, document)
        return len(job.manifests()) - done + len(after) - len(steps)


def write_orders(folder: Path) -> Path:
    """Make files that overlap, so that there are duplicates across partitions."""
    folder.mkdir()
    for i in range(FILES):
        path = folder / f"orders-{i}.csv"
        path.write_bytes(numbered_orders(70, first=60 * i))
        os.utime(path, (1_700_000_000, 1_700_000_000))  # what was written just now is looked at again each time
    return folder


def run_calmly(folder: Path) -> Calm:
    """Run the job once, undisturbed."""
    inputs = write_orders(folder / "in")
    rules = (POSITIVE_QUANTITY, EXACT_DUPLICATE, REPEATED_ORDER)
    config = write_settings(folder / "settings.toml", *rules, money={"scale": 0})
    job = Job(inputs, config, folder / "job")
    began = time.monotonic()
    document = job.finish()
    seconds = time.monotonic() - began
    found = Calm(inputs, config, seconds, document, job.tables(), read_quarantine(document["quarantine"]))
    found.assert_equal(job, document)
    return found


def go_on(child: Child) -> int | None:
    """Let a stopped job go on to its end; its exit code."""
    os.kill(child.pid, signal.SIGCONT)
    return child.wait()


def workers_of(driver: int) -> list[psutil.Process]:
    """Worker processes below a driver, forks of it too, and the server that others are forked from."""
    found = []
    try:
        own = " ".join(psutil.Process(driver).cmdline())
    except psutil.Error:
        return []  # it has ended, and so have they
    for process in descendants(driver):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if command == own or "spawn_main" in command or "forkserver" in command:
            found.append(process)
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs, and is not just waiting to be collected."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def seeds(first: int, end: int, few: int = 3) -> list[Any]:
    """Seeds of a long test: the first few run in CI, the others for an evening."""
    marks = {True: pytest.mark.slow, False: pytest.mark.long}
    return [pytest.param(seed, marks=marks[seed < first + few]) for seed in range(first, end)]
