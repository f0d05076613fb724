"""One run: its settings, folders, clock and listeners."""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from daskae.aggregate.aggregation import Metric
from daskae.config import Settings
from daskae.errors import InputError
from daskae.events import Event, Listener, Noted, Stage, StageDone, StageStarted, Warned
from daskae.load.audits import LoadCheck
from daskae.load.base import TableParts
from daskae.monitor.board import Board
from daskae.monitor.lines import warning
from daskae.monitor.logfile import LOGGER
from daskae.partition import ExchangeFile
from daskae.read.discover import ScanCache
from daskae.run.deadline import describe_deadline, find_deadline, left_by
from daskae.stages.accepted import AcceptedRows
from daskae.summary import RowCounts, RuleOutcome, StepOutcome
from daskae.transform.steps import Step
from daskae.validate.custom import CustomRule

if TYPE_CHECKING:
    from daskae.engine.base import Engine
    from daskae.run.plan import Plan

_MENDED = 100
"""Lines of what went wrong and was mended that a summary keeps; the event file has them all."""


@dataclass
class RunContext:
    """What every step of a run needs besides its data."""

    settings: Settings
    metrics: tuple[Metric, ...]
    """All columns of the customer table, built-in and the user's own."""
    make_engine: Callable[["Plan"], "Engine"]
    listeners: Sequence[Listener] = ()
    custom_rules: tuple[CustomRule, ...] = ()
    """Rules written in Python, beside those of the settings."""
    own_steps: tuple[Step, ...] = ()
    """Steps written in Python, beside those of the settings."""
    load_checks: tuple[LoadCheck, ...] = ()
    """Checks of the load written in Python, beside those of the settings."""
    dry: bool = False
    """Whether nothing may be written."""
    run_id: str = ""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    engine_name: str = ""
    # What is known so far, for the summary of a run that does not reach its end.
    rows: RowCounts | None = None
    corrected: int = 0
    rules: tuple[RuleOutcome, ...] = ()
    step_outcomes: tuple[StepOutcome, ...] = ()
    load_id: str = ""
    is_loaded: bool = False
    """Whether the target holds the load."""
    tables: tuple[TableParts, ...] = ()
    accepted: AcceptedRows | None = None
    mended: list[str] = field(default_factory=list)
    outputs: list[tuple[Path, tuple[ExchangeFile, ...]]] = field(default_factory=list)
    """Folders of all tasks whose outputs this run uses, with their files."""
    pending: dict[Path, str] = field(default_factory=dict)
    """Tasks of the stage that have not ended, by their folders, in the order in which they are handed out."""

    def __post_init__(self) -> None:
        self.run_id = self.run_id or f"{self.started:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        self.work = Path(os.path.abspath(self.settings.work_dir))
        self._begun = time.perf_counter()

    def elapsed(self) -> float:
        """Return seconds since the run began."""
        return time.perf_counter() - self._begun

    @property
    def run_dir(self) -> Path:
        """Folder of this run: manifest, events, log, quarantine, report."""
        return self.work / "runs" / self.run_id

    @property
    def scans(self) -> ScanCache | None:
        """What earlier runs found out about files; None when it is to be ignored."""
        return None if self.settings.fresh else ScanCache(self._folder("scans"))

    def maps(self, fingerprint: str) -> Path:
        """Folder of map outputs of one fingerprint."""
        return self._root / "maps" / fingerprint[:16]

    def steps(self, key: str) -> Path:
        """Folder of one later step's output."""
        return self._root / "steps" / key[:24]

    @property
    def turns(self) -> Path:
        """Folder of the numbers that runs of a command take; fresh runs too."""
        return self.work / "turns"

    @property
    def patches(self) -> Path:
        """Folder of corrections as tasks read them."""
        return self._root / "patches"

    @property
    def references(self) -> Path:
        """Folder of the keys that reference rules look up."""
        return self._root / "references"

    @property
    def _root(self) -> Path:
        # What a fresh run writes is its own: nothing of it is taken from, or left for, other runs.
        return self.run_dir / "fresh" if self.settings.fresh else self.work

    def _folder(self, name: str) -> Path:
        root, folder = self._root, self._root / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                "the work directory cannot be written", str(root), error.strerror or "", hint="set --work-dir"
            ) from error
        return folder

    def waiting_for(self) -> list[str]:
        """Return the tasks that have not ended; may be called from any thread."""
        return list(self.pending.copy().values())

    def emit(self, event: Event) -> None:
        """Tell all listeners, and keep for the summary what went wrong and was mended."""
        if not isinstance(event, Warned) and (text := warning(event)) is not None and len(self.mended) < _MENDED:
            self.mended.append(text)
        for listener in self.listeners:
            listener(event)

    @contextmanager
    def stage(self, name: Stage, tasks: int = 0, reused: int = 0, total_bytes: int = 0) -> Iterator[None]:
        """Time a stage and tell of its begin and end."""
        self.emit(StageStarted(name, tasks, reused, total_bytes))
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun
        self.emit(StageDone(name, self.seconds[name]))

    @contextmanager
    def engine(self, plan: "Plan") -> Iterator["Engine"]:
        """Start the engine of a plan, for as long as there is time."""
        deadline = find_deadline(self.settings.cluster, self.elapsed())
        engine = self.make_engine(plan)
        if deadline is not None:
            LOGGER.info("%s", describe_deadline(deadline))
            engine.deadline = deadline
        # Its start is limited too; its end is not to be cut short.
        with ExitStack() as stack, left_by(deadline):
            stack.enter_context(engine)
            self.engine_name = engine.name
            listeners = self.listeners
            if (show := engine.show()) is not None:
                self.emit(Noted(show.note))
                self.listeners = (*listeners, Board(show.post, self.run_id, plan.projected_bytes))
            try:
                yield engine
            finally:
                self.listeners = listeners
