"""Rounds of loads: every contender once a round, one after another, each a process of its own."""

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.inputs import ROOT
from benchmarks.loaders.customers import Truth, generate_customers
from benchmarks.loaders.databases import Kind, Target
from benchmarks.measure import Measured, measure

OURS = "daskae"


@dataclass(frozen=True)
class Loader:
    """A contender."""

    name: str
    package: str
    slow: bool = False
    """Whether it loads a smaller table, and its rate is compared."""


_OURS = (Loader(OURS, "daskae"), Loader("daskae_replace", "daskae"), Loader("daskae_upsert", "daskae"))
_ADBC = {"postgresql": "adbc_driver_postgresql", "sqlite": "adbc_driver_sqlite"}
_FLOORS = {
    "postgresql": (Loader("copy_floor", "psycopg"),),
    "sqlite": (Loader("executemany_floor", "sqlite3"), Loader("executemany_wal_floor", "sqlite3")),
}
PEERS = ("adbc", "dlt", "pandas", "pandas_multi", "dask", "sqlalchemy")


def line_up(kind: Kind, peers: Sequence[str]) -> list[Loader]:
    """Give who takes part for a database: daskae, the floors, and the named peers.

    Raises
    ------
    ValueError
        For a peer that there is not.
    """
    packages = {"adbc": _ADBC[kind], "pandas": "pandas", "pandas_multi": "pandas", "dask": "dask.dataframe"}
    if unknown := [peer for peer in peers if peer not in PEERS]:
        raise ValueError(f"there is no peer {unknown[0]!r}; choose from {', '.join(PEERS)}")
    others = [Loader(name, packages.get(name, name), slow=name not in ("adbc", "dlt")) for name in peers]
    return [*_OURS, *_FLOORS[kind], *others]


@dataclass(frozen=True)
class Loaded:
    """One load, or why there was none."""

    loader: Loader
    round: int
    rows: int
    seconds: float = 0.0
    """From rows that are ready in the loader's own form to the end of its last commit."""
    cpu_seconds: float = 0.0
    """Of its process in that time."""
    steps: Mapping[str, float] = field(default_factory=dict)
    measured: Measured | None = None
    found: Truth | None = None
    error: str = ""
    wrong: str = ""
    """What is not as it should be in the database."""

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Rounds:
    """The loads into one database."""

    target: Target
    work: Path
    rows: int
    slow_rows: int
    timeout: float | None = None
    quiet: bool = False

    def run(self, loaders: Sequence[Loader], rounds: int) -> Iterator[Loaded]:
        """Let all have their turn, as often as wanted."""
        sizes = {rows: generate_customers(self._parts(rows), rows) for rows in (self.rows, self.slow_rows)}
        for number in range(rounds):
            for loader in loaders:
                rows = self.slow_rows if loader.slow else self.rows
                if not self.quiet:
                    print(f"round {number + 1}: {self.target.kind}, {loader.name}, {rows:,} rows", file=sys.stderr)
                yield self._load(loader, number, sizes[rows])

    def _parts(self, rows: int) -> Path:
        return self.work / f"rows-{rows}"

    def _load(self, loader: Loader, number: int, truth: Truth) -> Loaded:
        if not _is_there(loader.package):
            return Loaded(loader, number, truth.rows, error=f"skipped: {loader.package} is not installed")
        self.target.empty()
        command = [sys.executable, "-m", "benchmarks.loaders", loader.name, self.target.url]
        command += [str(self._parts(truth.rows)), str(truth.rows)]
        log = self.work / "log" / f"{self.target.kind}-{loader.name}-{number}"
        measured = measure(command, log, cwd=ROOT, timeout=self.timeout)
        if measured.exit_code:
            reason = "time is over" if measured.timed_out else measured.stderr.strip()[-300:]
            return Loaded(loader, number, truth.rows, measured=measured, error=f"failed: {reason}")
        told, found = json.loads(measured.stdout.splitlines()[-1]), self.target.read()
        wrong = "" if found == truth else f"holds {found}, not {truth}"
        return Loaded(loader, number, truth.rows, **told, measured=measured, found=found,
            wrong=wrong)  # fmt: skip


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
