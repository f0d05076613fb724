"""Run a job from settings to a result, with its folder, log, events and exit code."""

import shutil
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from daskae.aggregate.aggregation import Metric
from daskae.aggregate.customer import BUILT_IN
from daskae.config import Settings
from daskae.engine.base import Needs
from daskae.engine.create import create_engine
from daskae.engine.early import NO_WORKERS, EarlyWorkers
from daskae.engine.frames import to_dask_dataframe
from daskae.errors import DaskaeError, ExchangeError, GateError, SettingsError, TimeLimitError
from daskae.events import Listener, RunFinished, RunStarted, Status, Warned
from daskae.exchange import MANIFEST
from daskae.load.audits import LoadCheck
from daskae.load.base import TableParts
from daskae.masking import mask_secrets
from daskae.monitor.heartbeat import Heartbeat
from daskae.monitor.history import EventLog
from daskae.monitor.logfile import LogEvents, attach_log_file
from daskae.pipeline import plan_run, run_plan
from daskae.read.reachable import look_at_sources, some_sources
from daskae.run.context import RunContext
from daskae.run.plan import Plan
from daskae.run.presence import present
from daskae.run.record import write_record
from daskae.run.report import summarize_failure, write_manifest
from daskae.run.sweep import mark_used, sweep
from daskae.run.workdir import explained, make_private
from daskae.stages.accepted import AcceptedRows, empty_table, read_accepted
from daskae.summary import RunSummary
from daskae.transform.steps import Step
from daskae.validate.custom import CustomRule

_ATTEMPTS = 3


@dataclass(frozen=True)
class RunResult:
    """A finished run: the summary, and its tables while the work directory keeps them."""

    summary: RunSummary
    parts: tuple[TableParts, ...]
    accepted: AcceptedRows | None = None

    def to_arrow(self, table: str) -> pa.Table:
        """Return one of the output tables.

        Raises
        ------
        KeyError
            If there is no table of that name.
        """
        found = {part.name: part for part in self.parts}[table]
        pieces = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in found.files]
        return pa.concat_tables(pieces) if pieces else pa.Table.from_batches([], found.schema)

    def to_pandas(self, table: str) -> Any:
        """Return one of the output tables as a pandas DataFrame; money as ``decimal.Decimal``."""
        return self.to_arrow(table).to_pandas()

    def to_dask(self) -> Any:
        """Return the accepted rows as a lazy ``dask.dataframe``, a partition for each that was read.

        It has the contract columns that the run's metrics use, with Arrow types and exact decimals, and reads from the
        work directory, which must be seen by the workers that compute it.

        Raises
        ------
        DaskaeError
            If the run was ``--fresh``, which leaves nothing to read from.
        """
        if self.accepted is None:
            raise DaskaeError("a fresh run leaves no accepted rows to read", hint="run without --fresh")
        return to_dask_dataframe(read_accepted, self.accepted.parts, empty_table(self.accepted.spec), self.accepted)

    def _repr_html_(self) -> str:
        from html import escape

        from daskae.report.summary_text import render_summary

        return f"<pre>{escape(render_summary(self.summary, color=False, width=100))}</pre>"


def all_metrics(extra: Sequence[Metric] = ()) -> tuple[Metric, ...]:
    """Return the built-in metrics and a user's own.

    Raises
    ------
    SettingsError
        If a name is taken.
    """
    metrics = (*BUILT_IN, *extra)
    names = ["customer_id"]
    for item in metrics:
        if item.name in names or item.name.startswith("_"):
            raise SettingsError("a metric's name is taken or not allowed", f"metric {item.name}", item.name)
        names.append(item.name)
    return metrics


def make_context(
    settings: Settings,
    metrics: Sequence[Metric] = (),
    listeners: Sequence[Listener] = (),
    rules: Sequence[CustomRule] = (),
    steps: Sequence[Step] = (),
    checks: Sequence[LoadCheck] = (),
    early: EarlyWorkers = NO_WORKERS,
) -> RunContext:
    """Return the context of a new run; nothing is written yet."""

    def engine(plan: Plan) -> Any:
        needs = Needs(
            plan.projected_bytes, settings.work_dir.absolute(), look_at_sources, some_sources(plan.source.segments)
        )
        return create_engine(
            plan.engine, settings.cluster, plan.workers, settings.memory_limit, needs, context.emit, early
        )

    context = RunContext(settings, all_metrics(metrics), engine, listeners, tuple(rules), tuple(steps), tuple(checks))
    return context


def run_job(
    settings: Settings,
    metrics: Sequence[Metric] = (),
    listeners: Sequence[Listener] = (),
    rules: Sequence[CustomRule] = (),
    steps: Sequence[Step] = (),
    checks: Sequence[LoadCheck] = (),
    early: EarlyWorkers = NO_WORKERS,
) -> RunResult:
    """Run a job to its end.

    Parameters
    ----------
    settings : Settings
    metrics : sequence of Metric
        Further columns for ``customer_metrics``.
    listeners : sequence of Listener
        Told of every event; the run's own files are written in any case.
    rules : sequence of RowRule or TableRule
        Further rules, beside those of the settings.
    steps : sequence of Step
        Further transformations, after those of the settings.
    checks : sequence of LoadCheck
        Further checks of what is about to be published, after those of the settings.
    early : EarlyWorkers
        Processes that were made ready for this run; ended by whoever made them, unless the run uses them.

    Raises
    ------
    DaskaeError
        The target is as it was; ``error.summary`` is what is known of the run.
    """
    context = make_context(settings, metrics, listeners, rules, steps, checks, early)
    with ExitStack() as stack:
        _open_records(context, stack)
        inputs = tuple(map(mask_secrets, settings.inputs))
        context.emit(RunStarted(context.run_id, inputs, mask_secrets(settings.to), str(context.run_dir)))
        heartbeat = Heartbeat(context.emit, context.waiting_for, settings.cluster.heartbeat)
        context.listeners = (*context.listeners, heartbeat)
        with heartbeat:
            summary = _run_watched(context)
    sweep(context)
    return RunResult(summary, context.tables, None if settings.fresh else context.accepted)


def _open_records(context: RunContext, stack: ExitStack) -> None:
    """Create the run folder with its log and event file."""
    try:
        make_private(context.work)
        context.run_dir.mkdir(mode=0o700)
    except OSError as error:
        raise SettingsError(
            "the run folder cannot be created",
            str(context.run_dir),
            error.strerror or str(error),
            hint="set --work-dir",
        ) from error
    stack.enter_context(present(context.work, context.settings.load.timeout_seconds))
    write_record(context)
    stack.enter_context(attach_log_file(context.run_dir / "run.log"))
    events = stack.enter_context(EventLog(context.run_dir / "events.jsonl"))
    context.listeners = (*context.listeners, events, LogEvents())


def _run_watched(context: RunContext) -> RunSummary:
    """Run, and leave a manifest however it ends."""
    known: list[Plan] = []
    try:
        with explained(context, known):
            summary = _run_repairing(context, known)
    except BaseException as error:
        status: Status = "refused" if isinstance(error, GateError) else "failed"
        if isinstance(error, KeyboardInterrupt | TimeLimitError):
            status = "interrupted"
        text = mask_secrets(str(error) or type(error).__name__)
        failed = summarize_failure(context, status, text, known[-1] if known else None)
        # What stopped the run may be the disk that these are written to.
        with suppress(OSError):
            (context.run_dir / "traceback.txt").write_text(mask_secrets("".join(traceback.format_exception(error))))
        with suppress(OSError):
            write_manifest(failed, context)
        with suppress(OSError):
            context.emit(RunFinished(status, context.elapsed(), text))
        if isinstance(error, DaskaeError):
            error.summary = failed
        raise
    context.emit(RunFinished(summary.status, context.elapsed()))
    return summary


def _run_repairing(context: RunContext, known: list[Plan]) -> RunSummary:
    """Plan and run; where an intermediate file turns out damaged, forget its task's output and do it again."""
    for attempt in range(_ATTEMPTS):
        context.outputs.clear()
        context.pending = {}
        plan = plan_run(context)
        known.append(plan)
        try:
            summary = run_plan(plan, context)
            mark_used(context)
            return summary
        except ExchangeError as error:
            if attempt + 1 == _ATTEMPTS:
                raise
            (Path(error.where).parent / MANIFEST).unlink(missing_ok=True)
            context.emit(Warned(f"{error.what}: {error.where}; it is made again"))
        finally:
            if context.settings.fresh:
                _drop_fresh(context)
    raise AssertionError("unreachable")


def _drop_fresh(context: RunContext) -> None:
    """A fresh run leaves nothing for other runs; its finished tables are published by now."""
    shutil.rmtree(context.run_dir / "fresh", ignore_errors=True)
