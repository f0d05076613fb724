"""The table of a benchmark of loads."""

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.loaders.databases import Kind
from benchmarks.loaders.rounds import OURS, Loaded

_MIB = 1 << 20
_HEAD = ("", "rows", "rows/s", "best", "/ ours", "client CPU s", "peak MiB", "result")


def render(kind: Kind, runs: Sequence[Loaded]) -> str:
    """Give a Markdown table: medians over the rounds, the best rate, and where the time of daskae goes."""
    ours = {run.round: run.rate for run in runs if run.loader.name == OURS and run.seconds}
    lines = [f"## {kind}", "", f"| {' | '.join(_HEAD)} |", "| --- |" + " ---: |" * (len(_HEAD) - 2) + " --- |"]
    names = list(dict.fromkeys(run.loader.name for run in runs))
    for name in names:
        own = [run for run in runs if run.loader.name == name]
        lines.append("| " + " | ".join(_cells(name, own, ours)) + " |")
    return "\n".join([*lines, "", *_steps(runs), ""])


def _cells(name: str, runs: Sequence[Loaded], ours: dict[int, float]) -> Iterator[str]:
    done = [run for run in runs if run.seconds]
    yield f"**{name}**" if name == OURS else name
    yield f"{runs[0].rows:,}"
    if not done:
        yield from [""] * (len(_HEAD) - 3)
        yield runs[0].error.replace("\n", " ").replace("|", "/")
        return
    ratios = [run.rate / ours[run.round] for run in done if run.round in ours]
    yield f"{median(run.rate for run in done):,.0f}"
    yield f"{max(run.rate for run in done):,.0f}"
    yield f"{median(ratios):.3f}" if ratios else ""
    yield f"{median(run.cpu_seconds for run in done):.2f}"
    yield f"{median(run.measured.peak_bytes if run.measured else 0 for run in done) / _MIB:,.0f}"
    yield next((run.wrong for run in done if run.wrong), "exact")


def _steps(runs: Sequence[Loaded]) -> Iterator[str]:
    """Say where the time of daskae goes; what no step accounts for is the ledger, catalogue and connecting."""
    for name in dict.fromkeys(run.loader.name for run in runs if run.steps):
        own = [run for run in runs if run.loader.name == name and run.steps]
        alone = median(run.steps.get("serialise alone", 0.0) for run in own)
        steps = {step: median(run.steps.get(step, 0.0) for run in own) for run in own for step in run.steps}
        del steps["serialise alone"]
        rest = max(0.0, median(run.seconds for run in own) - sum(steps.values()))
        told = ", ".join(f"{step} {seconds:.2f}" for step, seconds in steps.items() if seconds >= 0.01)
        yield f"- {name}, seconds: {told}, rest {rest:.2f}; serialising alone takes {alone:.2f}."
