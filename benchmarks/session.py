"""Run all contenders one after another on the same files, and judge what they come to."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.agreement import Agreement, Totals, compare, read_totals
from benchmarks.contenders import OURS, Contender
from benchmarks.inputs import ROOT, Dataset, generate_extra, warm_cache, with_extra
from benchmarks.measure import Measured, measure

Mode = Literal["cold", "rerun", "incremental"]
MODES: tuple[Mode, ...] = ("cold", "rerun", "incremental")
"""In the order in which they run: each builds on what the one before left."""
TAIL = 400
"""Characters of an error that are worth showing."""


@dataclass(frozen=True)
class Run:
    """One run of one contender, or why there was none."""

    contender: str
    mode: Mode
    dataset: Dataset
    out: Path
    measured: Measured | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    """What the contender printed."""
    error: str = ""
    totals: Totals | None = None
    agreement: Agreement | None = None
    """With the tables of the reference."""
    reference: str = ""

    @property
    def wall(self) -> float:
        """Wall time, endless for a run that came to nothing, to tell the fastest of some."""
        return self.measured.wall_seconds if self.measured and not self.error else float("inf")

    @property
    def rejected_by_rule(self) -> dict[str, int]:
        """Rejected rows as the contender counted them."""
        return dict(self.document.get("rows", {}).get("rejected_by_rule", {}))

    def as_json(self) -> dict[str, Any]:
        """Give what is worth keeping in a file."""
        told = asdict(self)
        told |= {"rows": self.dataset.rows, "bytes": self.dataset.bytes, "format": self.dataset.format}
        return {name: value for name, value in told.items() if name not in ("dataset", "out")}


@dataclass
class Session:
    """The runs on one data set."""

    contenders: Sequence[Contender]
    dataset: Dataset
    work: Path
    cpus: int = 2
    dirt: float = 0.005
    timeout: float | None = None
    quiet: bool = False

    def run(self, modes: Sequence[Mode], repeat: int = 1) -> list[Run]:
        """Run every mode ``repeat`` times, in turns, so that a slow minute of the machine does not hit one alone."""
        runs: list[Run] = []
        for turn in range(repeat):
            for folder in ("out", "state", "log"):
                shutil.rmtree(self.work / folder, ignore_errors=True)
            # The later modes need what a cold run leaves, asked for or not.
            for mode in [mode for mode in MODES if mode == "cold" or mode in modes]:
                self._say(f"{mode}, turn {turn + 1} of {repeat}")
                with self._input(mode) as dataset:
                    warm_cache(dataset)
                    runs += judge([self._attempt(each, mode, dataset) for each in self._entrants(mode, modes)])
                if mode == "cold" and any(run.error and run.contender == OURS for run in runs):
                    break  # without its cold run, what ours does later would be cold too
        return [run for run in runs if run.mode in modes or run.error]

    def _entrants(self, mode: Mode, modes: Sequence[Mode]) -> list[Contender]:
        """Tell who runs. To do the same again the others do all again, so only ours runs for it."""
        only_ours = mode == "rerun" or mode not in modes
        return [each for each in self.contenders if each.is_ours or not only_ours]

    @contextmanager
    def _input(self, mode: Mode) -> Iterator[Dataset]:
        if mode != "incremental":
            yield self.dataset
            return
        extra = generate_extra(self.dataset, self.work / "extra", dirt=self.dirt)
        with with_extra(self.dataset, extra) as larger:
            yield larger

    def _attempt(self, contender: Contender, mode: Mode, dataset: Dataset) -> Run:
        """Run one contender; whatever goes wrong is a result too."""
        run = Run(contender.name, mode, dataset, self.work / "out" / contender.name)
        if lacking := contender.missing(ROOT):
            self._say(f"  {contender.name}: skipped, {lacking}")
            return replace(run, error=f"skipped: {lacking}")
        if not contender.is_ours:
            shutil.rmtree(run.out, ignore_errors=True)
        command = contender.command(dataset.folder, run.out, self.work / "state" / contender.name, self.cpus)
        measured = measure(command, self.work / "log" / f"{contender.name}-{mode}", cwd=ROOT, timeout=self.timeout)
        self._say(f"  {contender.name}: {measured.wall_seconds:.1f} s")
        run = replace(run, measured=measured)
        if measured.timed_out:
            return replace(run, error=f"failed: killed after {self.timeout} s")
        if measured.exit_code not in contender.done_codes:
            said = (measured.stderr.strip() or measured.stdout.strip())[-TAIL:]
            return replace(run, error=f"failed: exit code {measured.exit_code}: {said}")
        return read_results(run, contender.does_job, measured.stdout)

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def read_results(run: Run, does_job: bool, stdout: str) -> Run:
    """Read what a run printed and wrote."""
    try:
        return replace(run, document=json.loads(stdout), totals=read_totals(run.out) if does_job else None)
    except Exception as error:  # of what others wrote, anything may be missing or of another type
        return replace(run, error=unreadable(error))


def unreadable(error: Exception) -> str:
    """Tell in short why results could not be read."""
    return f"failed: unreadable results: {type(error).__name__}: {str(error)[:TAIL]}"


def matches(totals: Totals, truth: Totals) -> bool:
    """Whether totals are those that the generator gave; it may not know the number of customers."""
    return (totals if truth.customers is not None else replace(totals, customers=None)) == truth


def judge(runs: Sequence[Run]) -> list[Run]:
    """Compare the tables of runs on the same files with those of the first that comes to the true totals."""
    able = [run for run in runs if run.totals]
    right = [run for run in able if run.totals and matches(run.totals, run.dataset.totals)]
    for reference in (right or able)[:1]:
        return [compared(run, reference) if run.totals else run for run in runs]
    return list(runs)


def compared(run: Run, reference: Run) -> Run:
    """Note where a run differs from the reference."""
    try:
        return replace(run, agreement=compare(reference.out, run.out), reference=reference.contender)
    except Exception as error:  # of what others wrote, anything may be missing or of another type
        return replace(run, error=unreadable(error))


def fastest(runs: Sequence[Run]) -> list[Run]:
    """Keep the fastest run of each contender in each mode: what slows a run down is mostly not its own doing."""
    best: dict[tuple[str, str], Run] = {}
    for run in runs:
        known = best.setdefault((run.mode, run.contender), run)
        if run.wall < known.wall:
            best[run.mode, run.contender] = run
    return list(best.values())
