"""The words for a stage and for an event, in plain ASCII, as log files and Slurm output want them."""

import math

from daskae.events import (
    Event,
    MemoryPressure,
    Noted,
    PlanReady,
    RunFinished,
    RunStarted,
    StageDone,
    StageStarted,
    StepApplied,
    StillRunning,
    TaskDone,
    TaskRepeated,
    Warned,
    WorkerLost,
)
from daskae.monitor.tally import StageTally, Tally
from daskae.units import format_bytes, format_count, format_seconds


def one_line(text: str) -> str:
    """Return the text with everything that could move a cursor written as an escape; a file name may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def whole_seconds(value: float) -> str:
    """Write a duration without the digits that only flicker: ``8 s``, ``4 min 05 s``, ``2 h 03 min``."""
    return f"{math.ceil(value)} s" if value < 59 else format_seconds(value)


def stage_facts(stage: StageTally, now: float) -> list[str]:
    """Return what is known of a stage, most important first: n of m, rows, rate, reuse."""
    facts = []
    if stage.tasks:
        facts.append(f"{format_count(stage.done)} of {format_count(stage.tasks)} tasks")
    if stage.rows:
        facts.append(f"{format_count(stage.rows)} rows")
    rate = stage.rows_per_second(now)
    if rate is not None:
        facts.append(f"{format_count(round(rate))} rows/s")
    if stage.reused:
        facts.append(f"{format_count(stage.reused)} reused")
    return facts


def stage_done(stage: StageTally, seconds: float, now: float) -> str:
    """Return the line that closes a stage."""
    return f"{stage.stage}: " + ", ".join([f"done in {format_seconds(seconds)}", *stage_facts(stage, now)])


def still_running(tally: Tally) -> str:
    """Return the line that breaks a long silence; it names the running stage and its age."""
    stage, now = tally.current, tally.clock()
    if stage is None:
        return f"between stages, {whole_seconds(tally.elapsed)} since the start"
    facts = stage_facts(stage, now)
    eta = stage.eta(now)
    if eta is not None:
        facts.append(f"ETA {whole_seconds(eta)}")
    if tally.peak_bytes:
        facts.append(f"peak memory {format_bytes(tally.peak_bytes)}")
    return f"{stage.stage}: " + ", ".join([f"running for {whole_seconds(now - stage.started)}", *facts])


def describe(event: Event, tally: Tally) -> str:
    """Return one readable line for an event; `tally` has counted it already."""
    match event:
        case RunStarted():
            return f"run {event.run_id} started: {', '.join(event.inputs)} -> {event.target} in {event.run_dir}"
        case PlanReady():
            return (
                f"plan: {format_count(event.files)} files, {format_bytes(event.input_bytes)}, "
                f"{format_count(event.partitions)} partitions ({format_count(event.reused)} reused), "
                f"{format_count(event.buckets)} buckets, up to {format_bytes(event.projected_bytes)} a task, "
                f"{event.engine}"
            )
        case StageStarted():
            return f"{event.stage} started" + (f", {format_count(event.tasks)} tasks" if event.tasks else "")
        case TaskDone():
            return _task_line(event, tally)
        case StageDone():
            return f"{event.stage} done in {format_seconds(event.seconds)}"
        case StepApplied():
            return _step_line(event)
        case StillRunning():
            return still_waiting(event)
        case Noted():
            return event.message
        case Warned() | WorkerLost() | MemoryPressure() | TaskRepeated():
            return warning(event) or ""
        case RunFinished():
            ending = f": {event.error}" if event.error else ""
            return f"run finished, {event.status}, in {format_seconds(event.seconds)}{ending}"
        case _:
            return repr(event)


def still_waiting(event: StillRunning) -> str:
    """Return the line that says what has been waited for."""
    what = ", ".join(event.tasks)
    more = f" and {format_count(event.others)} more" if event.others else ""
    waiting = f"; waiting for {what}{more}" if what else ""
    return f"{event.stage or 'between stages'}: nothing has ended for {whole_seconds(event.seconds)}{waiting}"


_LOSSES = {
    "memory": "stopped above its memory limit",
    "died": "killed by a signal or crashed",
    "silent": "not heard of for too long",
}


def warning(event: Event) -> str | None:
    """Return the text of an event that a person should see at once; None for others."""
    match event:
        case Warned():
            return event.message
        case WorkerLost():
            of = f" of {format_bytes(event.limit_bytes)}" if event.limit_bytes else ""
            running = f", while it ran {', '.join(event.tasks[:3])}" if event.tasks else ""
            memory = f", memory as last seen {format_bytes(event.rss_bytes)}{of}"
            return f"worker {event.worker} is lost: {_LOSSES[event.reason]}{memory}{running}"
        case MemoryPressure():
            tasks = f"{event.at_once} of {event.of} tasks at once"
            return f"memory is short, {tasks}: {event.cause}" if event.cause else f"memory is enough again, {tasks}"
        case TaskRepeated():
            how = f"cut into {event.pieces} and run alone" if event.pieces > 1 else "run again, alone"
            return f"{event.stage} {event.task} is {how}: {event.cause}"
        case _:
            return None


def _step_line(event: StepApplied) -> str:
    failed = f", failed on {format_count(event.failed)}" if event.failed else ""
    skipped = f", skipped in {event.skipped} of {event.partitions} partitions" if event.skipped else ""
    rows = f"{format_count(event.rows_in)} rows in, {format_count(event.rows_out)} out"
    return f"step {event.step}: {rows}{failed}{skipped}, {format_seconds(event.seconds)}"


def _task_line(event: TaskDone, tally: Tally) -> str:
    stage = tally.current
    count = f" {stage.done}/{stage.tasks}" if stage is not None and stage.stage == event.stage else ""
    return (
        f"{event.stage}{count} {event.task}: {format_count(event.rows)} rows in {format_seconds(event.seconds)}, "
        f"peak memory {format_bytes(event.peak_bytes)}"
    )
