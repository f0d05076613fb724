"""Write the runs on one data set as a table for people."""

import platform
from collections.abc import Iterator, Sequence

import psutil

from benchmarks.contenders import OURS
from benchmarks.inputs import Dataset
from benchmarks.measure import MEMORY_KIND, Measured
from benchmarks.session import Run, fastest, matches

RATIOS = ("wall", "CPU", "peak")
HEADER = (
    "mode", "contender", "wall s", "CPU s", f"peak {MEMORY_KIND} MiB", "rows/s",
    *(f"{ratio} / ours" for ratio in RATIOS), "others' CPU s", "result",
)  # fmt: skip
NUMBERS = len(HEADER) - 3


def render(dataset: Dataset, runs: Sequence[Run]) -> str:
    """Give a Markdown table, and below it what each contender counted otherwise or does less."""
    best = fastest(runs)
    ours = {run.mode: run.measured for run in best if run.contender == OURS and not run.error}
    lines = [cells(run, ours.get(run.mode)) for run in best]
    title = f"{dataset.rows:,} rows, {dataset.format}, {dataset.bytes / 1e6:,.1f} MB; {machine()}"
    return "\n".join([title, "", *markdown(lines), "", *remarks(runs, best)])


def machine() -> str:
    """Tell what the figures were taken on."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} processors, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def cells(run: Run, ours: Measured | None) -> tuple[str, ...]:
    """Give the row of a run."""
    result, measured = verdict(run), run.measured
    if measured is None or run.error:
        return (run.mode, run.contender, *("-" * NUMBERS), result)
    took = (measured.wall_seconds, measured.cpu_seconds, measured.peak_bytes)
    base = (ours.wall_seconds, ours.cpu_seconds, ours.peak_bytes) if ours else (0.0, 0.0, 0.0)
    return (
        run.mode,
        run.contender,
        f"{measured.wall_seconds:.2f}",
        f"{measured.cpu_seconds:.2f}",
        f"{measured.peak_bytes / 2**20:,.0f}",
        f"{run.dataset.rows / measured.wall_seconds:,.0f}",
        *(f"{own / other:.2f}" if other else "-" for own, other in zip(took, base, strict=True)),
        f"{measured.other_cpu_seconds:.1f}",
        result,
    )


def verdict(run: Run) -> str:
    """Tell in a few words whether the results are right."""
    if run.error:
        return run.error.splitlines()[0][:80]
    if run.totals is None:
        return "no job"
    if not matches(run.totals, run.dataset.totals):
        return f"{run.totals.orders - run.dataset.totals.orders:+,} orders"
    return f"differs from {run.reference}" if run.agreement and not run.agreement.exact else "exact"


def details(run: Run) -> Iterator[str]:
    """Tell what was kept from earlier runs, and what exactly is not as it should be."""
    if reused := run.document.get("reused_partitions"):
        yield f"kept {reused:,} of {run.document.get('partitions', 0):,} partitions from the run before"
    if run.error or run.totals is None:
        return
    got, truth = run.totals, run.dataset.totals
    if not matches(got, truth):
        customers = "" if truth.customers is None else f"{got.customers or 0:,} customers ({truth.customers:,}), "
        orders = f"{got.orders:,} orders ({truth.orders:,})"
        yield f"has {customers}{orders}, {got.revenue:,.2f} revenue ({truth.revenue:,.2f}); the truth is in brackets"
    planted, counted = run.dataset.rejected_by_rule, run.rejected_by_rule
    rules = [rule for rule in {**planted, **counted} if counted.get(rule, 0) != planted.get(rule, 0)]
    if rules:
        found = ", ".join(f"{rule} {counted.get(rule, 0):,} ({planted.get(rule, 0):,})" for rule in rules)
        yield f"rejected for {found}; the truth is in brackets"
    if run.agreement and not run.agreement.exact:
        rows = {"customers": run.agreement.customers, "cohort cells": run.agreement.cells}
        yield f"differs from {run.reference} in " + " and ".join(f"{count:,} {name}" for name, count in rows.items())
        if run.agreement.further:
            more = ", ".join(f"{name} of {count:,}" for name, count in run.agreement.further.items())
            yield f"beyond those differs in {more}"
    if run.agreement and run.agreement.missing:
        yield f"was not compared in {', '.join(run.agreement.missing)}, which it does not have"


def markdown(lines: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Lay out cells as a Markdown table that also reads well as text."""
    table = [HEADER, *[tuple(cell.replace("|", "/") for cell in line) for line in lines]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for number, line in enumerate(table):
        yield "| " + " | ".join(map(aligned, line, widths, range(len(line)))) + " |"
        if number == 0:
            rules = ("-" * (width + 1) + (":" if is_number(at) else "-") for at, width in enumerate(widths))
            yield f"|{'|'.join(rules)}|"


def is_number(position: int) -> bool:
    """Whether a column holds numbers."""
    return 2 <= position < len(HEADER) - 1


def aligned(cell: str, width: int, position: int) -> str:
    """Pad a cell so that numbers end and texts begin below each other."""
    return cell.rjust(width) if is_number(position) else cell.ljust(width)


def remarks(runs: Sequence[Run], best: Sequence[Run]) -> Iterator[str]:
    """Tell what the table has no room for."""
    for run in best:
        yield from (f"- {run.contender}, {run.mode}: {told}." for told in details(run))
        again = {verdict(other) for other in runs if (other.contender, other.mode) == (run.contender, run.mode)}
        yield from (f"- {run.contender}, {run.mode}, in another turn: {told}." for told in again - {verdict(run)})
    notes = [(run.contender, note) for run in best for note in run.document.get("notes", ())]
    yield from (f"- {contender}: {note}." for contender, note in dict.fromkeys(notes))
    if tools := dict.fromkeys(run.document["tool"] for run in best if "tool" in run.document):
        yield f"- {', '.join(tools)}."
