"""A Dask scheduler and workers as processes of their own, as they run on other hosts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import distributed
import psutil

from daskae.engine.plugins import TASK
from tests.support import ROOT, descendants


def until_told() -> None:
    """Wait, in a task, until its worker has told the scheduler that it runs."""
    worker = distributed.get_worker()
    key, told = worker.get_current_task(), worker.batched_stream.recent_message_log
    end = time.monotonic() + 60
    while not any(_begins(message, key) for sent in list(told) for message in sent):
        assert time.monotonic() < end, f"the scheduler was not told of {key}"
        time.sleep(0.01)


def _begins(message: object, key: object) -> bool:
    return isinstance(message, dict) and (message.get("op"), message.get("key")) == (TASK, key)


class Cluster:
    """Context manager: a scheduler with a scheduler file, and workers of one thread.

    Parameters
    ----------
    folder : Path
        For the scheduler file, scratch and logs.
    workers : int
    memory : str
        Of each worker.
    host : str
        Address that the scheduler and these workers listen on.
    before : sequence of str
        Words in front of the scheduler's command, such as ``ip netns exec``.
    **environment
        Variables of all of them.
    """

    def __init__(
        self,
        folder: Path,
        workers: int,
        memory: str = "1GB",
        host: str = "127.0.0.1",
        before: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self.file = folder / "scheduler.json"
        self._folder, self._workers, self._memory, self._host = folder, workers, memory, host
        self._before = before
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.start(
            "scheduler", "--host", self._host, "--port", "0", "--dashboard-address", "127.0.0.1:0", before=self._before
        )  # fmt: skip
        end = time.monotonic() + 180
        while not self.file.exists() or not self.file.read_text().endswith("}"):
            assert time.monotonic() < end, self.log("scheduler")
            assert self._processes[0].poll() is None, self.log("scheduler")
            time.sleep(0.05)
        for i in range(self._workers):
            self.worker(f"w{i}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        family = [item for process in self._processes for item in descendants(process.pid)]
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        for item in family:
            if item.is_running():
                item.kill()
        psutil.wait_procs(family, timeout=10)

    @property
    def processes(self) -> list[subprocess.Popen[bytes]]:
        """The scheduler, and the nannies of the workers."""
        return list(self._processes)

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return str(json.loads(self.file.read_text())["address"])

    def worker(
        self, name: str, host: str = "", before: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        return self.start(
            "worker", "--name", name, "--nthreads", "1", "--memory-limit", self._memory,
            "--host", host or self._host,
            "--local-directory", str(self._folder), "--dashboard-address", "127.0.0.1:0",
            before=before, **environment,
        )  # fmt: skip

    def start(
        self, role: str, *options: str, before: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a process of the cluster in an empty folder, so that it can import what is installed and no more."""
        command = [*before, sys.executable, "-m", "dask", role, "--scheduler-file", str(self.file), *options]
        with (self._folder / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self._folder, env={**self._environment, **environment}, stdout=log, stderr=log
            )
        self._processes.append(process)
        return process

    def log(self, role: str) -> str:
        """What processes of a role have said."""
        return (self._folder / f"{role}.log").read_text()
