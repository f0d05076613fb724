"""Who takes part, how each is started, and what it needs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

OURS = "daskae"
JOB = "jobs.customer_metrics"
PEERS = {
    "floor": "pyarrow",
    "duckdb": "duckdb",
    "polars": "polars",
    "pandas": "pandas",
    "dask_dataframe": "dask.dataframe",
    "pyspark": "pyspark",
}
"""Modules under ``benchmarks.peers`` and the package that each needs."""
LIMITED = ("duckdb",)
"""Those that can be told how much memory they may take."""


@dataclass(frozen=True)
class Contender:
    """One way to do the job."""

    name: str
    package: str
    python: str = sys.executable
    """Interpreter; a peer may have one of its own, since packages may not go together."""
    memory: int = 0
    """MiB that it may take; 0 for any."""

    @property
    def is_ours(self) -> bool:
        """Whether this is daskae, which alone keeps work from run to run."""
        return self.name == OURS

    @property
    def done_codes(self) -> tuple[int, ...]:
        """Exit codes that mean the job is done; by 3 daskae says that many rows were rejected."""
        return (0, 3) if self.is_ours else (0,)

    @property
    def does_job(self) -> bool:
        """Whether there are results to compare."""
        return self.name != "floor"

    def command(self, folder: Path, out: Path, work: Path, cpus: int) -> list[str]:
        """Give the command line of one run."""
        if not self.is_ours:
            sizes = ["--cpus", f"{cpus}", "--memory", f"{self.memory}"]
            return [self.python, "-m", f"benchmarks.peers.{self.name}", f"{folder}", f"{out}", *sizes]
        settings = ["--config", f"{folder / '_settings.toml'}", "--workers", f"{cpus}"]
        if self.memory:
            settings += ["--cluster", "inline", "--memory-limit", f"{self.memory}MiB"]
        target = ["--to", f"{out}{os.sep}", "--work-dir", f"{work}", "--quiet", "--json"]
        return [self.python, "-m", JOB, f"{folder}", *settings, *target]

    def missing(self, cwd: Path) -> str | None:
        """Tell what it lacks to run here, or None."""
        # Asked of its own interpreter; a package is found without being imported, which can take seconds.
        look = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({self.package!r}) is None)"
        try:
            found = subprocess.run([self.python, "-c", look], cwd=cwd, capture_output=True).returncode == 0
        except OSError as error:
            return f"cannot start {self.python}: {error}"
        if not found:
            return f"{self.package} is not installed" if not self.is_ours else f"there is no {self.package}"
        if self.name == "pyspark" and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
            return "there is no Java"
        return None


def line_up(peers: Sequence[str], pythons: Sequence[str] = (), memory: int = 0) -> list[Contender]:
    """Give daskae and the named peers; ``pythons`` holds interpreters as ``NAME=PATH``, ``memory`` a limit in MiB.

    Raises
    ------
    ValueError
        For a peer that there is not, or that keeps to no limit, or an interpreter of none that takes part.
    """
    chosen = {OURS: Contender(OURS, JOB)}
    for name in dict.fromkeys(peer.replace(".", "_") for peer in peers):
        if name not in PEERS:
            raise ValueError(f"there is no peer {name!r}; choose from {', '.join(PEERS)}")
        if memory and name not in LIMITED:
            raise ValueError(f"{name} keeps to no limit of memory; choose from {', '.join(LIMITED)}")
        chosen[name] = Contender(name, PEERS[name])
    for given in pythons:
        name, _, path = given.partition("=")
        name = name.replace(".", "_")
        if name not in chosen or not path:
            raise ValueError(f"{given!r} names no interpreter of a contender; write pyspark=/opt/venv/bin/python")
        chosen[name] = replace(chosen[name], python=path)
    return [replace(each, memory=memory) for each in chosen.values()]
