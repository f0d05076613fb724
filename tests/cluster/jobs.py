"""The command under Slurm over a small input, and what is left of it: jobs, processes, parts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from tests.cluster.slurm import Slurm, until
from tests.support import ROOT, orders_csv, read_tables, write_settings

SCRIPTS = ROOT / "cluster" / "slurm"
SMALL = ("--ntasks=3", "--mem-per-cpu=1200M", "--time=00:10:00")
# A person's own script whose tasks last long enough to be disturbed; workers elsewhere cannot import it.
SCRIPT = """
import os
import time

from daskae.validate import RowRule
from jobs.customer_metrics import main


def slowly(orders):
    time.sleep(float(os.environ.get("SECONDS_A_PART", "0.5")))
    return orders["amount"] < 80


if __name__ == "__main__":
    raise SystemExit(main(rules=[RowRule("slowly", slowly, frame=True)]))
"""


@dataclass
class Job:
    """One folder of orders with its own work directory and target."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "in").mkdir()
        (self.folder / "in" / "a.csv").write_bytes(orders_csv(1500))
        (self.folder / "script.py").write_text(SCRIPT)

    @property
    def arguments(self) -> list[str]:
        return ["in", "--to", "out/", "--work-dir", "work", "--block-size", "2KiB", "--json"]

    def command(self, *more: str, program: tuple[str, ...] = ("script.py",)) -> list[str]:
        return [sys.executable, *program, *self.arguments, "--quiet", *more]

    def config(self, name: str = "slurm.toml", slurm: dict[str, Any] | None = None, **cluster: object) -> str:
        jobs = {"jobs": 2, "memory": "1200MB", "walltime": "00:10:00", "interface": "lo", **(slurm or {})}
        write_settings(
            self.folder / name,
            cluster={"start_timeout": "240s", "replace_after": "5s", **cluster},
            **{"cluster.slurm": {key: value for key, value in jobs.items() if value is not None}},
        )
        return name

    @contextmanager
    def driver(
        self, slurm: Slurm, *more: str, program: tuple[str, ...] = ("script.py",), **environment: str
    ) -> "Iterator[subprocess.Popen[str]]":
        """Start the command as a process of this machine, in a session of its own, whose workers are Slurm jobs."""
        process = subprocess.Popen(
            self.command("--cluster", "slurm", *more, program=program), cwd=self.folder,
            env={**slurm.environment, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def parts(self) -> int:
        return len(list(self.folder.glob("work/maps/*/*/manifest.json")))

    def wait_for_parts(self, count: int, slurm: Slurm) -> None:
        until(lambda: self.parts() >= count, f"{count} parts", 180, lambda: f"{slurm.seen()}\n{self.outputs()}")

    def keys(self) -> list[Path]:
        """Certificates of runs, and their keys."""
        return list(self.folder.glob("work/slurm/**/.dask*"))

    def tables(self) -> dict[str, pa.Table]:
        return read_tables(self.folder / "out")

    def go_on(self) -> dict[str, pa.Table]:
        """Run it to its end in one process, and return its tables."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SECONDS_A_PART": "0"}
        subprocess.run(self.command("--cluster", "inline"), cwd=self.folder, env=environment, check=True)
        return self.tables()

    def outputs(self) -> str:
        """What the jobs have written, for the message of a test that fails."""
        logs = [
            *self.folder.glob("*.out"),
            *self.folder.glob("work/slurm/*.*"),
            *self.folder.glob(".daskae/slurm/*/*.log"),
        ]
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in logs if path.suffix != ".pem")


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait for a driver to end well, and return what it printed."""
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return output


def submit(slurm: Slurm, job: Job, script: str, *arguments: str, options: tuple[str, ...] = SMALL, **more: str) -> str:
    """Submit one of the batch scripts that people copy."""
    variables = {"PYTHON": sys.executable, "JOB": "script.py", "INTERFACE": "lo", **more}
    return slurm.submit(*options, str(SCRIPTS / script), *job.arguments, *arguments, cwd=job.folder, **variables)


def worker_processes(slurm: Slurm) -> list[psutil.Process]:
    """All Python processes within jobs of this Slurm: nannies, workers and what they have started."""
    found = []
    for process in psutil.process_iter():
        try:
            variables = process.environ()
            if (
                variables.get("SLURM_CONF") == slurm.environment["SLURM_CONF"]
                and "SLURM_JOB_ID" in variables
                and "python" in process.name()
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
