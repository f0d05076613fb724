"""The closing summary on the terminal: what was read, what came out, where it is, how long it took."""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from daskae.report.words import figure, figure_label, percent, reuse_line, stage_shares, status_line, visible
from daskae.summary import RuleOutcome, RunSummary
from daskae.units import format_bytes, format_count, format_seconds

_WIDEST_BAR = 24
_MENDED_SHOWN = 5
_EIGHTHS = "▏▎▍▌▋▊▉█"
_TO_ASCII = str.maketrans({"█": "#", "▌": "#", "▋": "#", "▊": "#", "▉": "#", "▏": ".", "▎": ".", "▍": "."})
_TO_ASCII |= str.maketrans({"●": "*", "–": "-", "✗": "x", "…": "..."})

_STATUS_STYLE = {"done": "bold green", "done_with_rejects": "bold yellow", "running": "bold yellow"}

Line = Text
Row = Sequence[str]


def render_summary(summary: RunSummary, *, color: bool, width: int, ascii_only: bool = False) -> str:
    """Return the summary as lines of text.

    Parameters
    ----------
    summary : RunSummary
        The run, however it ended.
    color : bool
        Use colours and bold; the words and columns are the same without.
    width : int
        Columns of the terminal. Paths are never cut, so that they can be copied; everything else fits.
    ascii_only : bool
        Draw bars and marks with ASCII, for terminals of another encoding.
    """
    bar_width = max(0, min(_WIDEST_BAR, width - 60))
    blocks = [
        _head(summary, width),
        _rows(summary),
        _reasons(summary, bar_width),
        _rules(summary, width),
        _steps(summary),
        _figures(summary),
        _tables(summary),
        _time(summary, bar_width),
        _mended(summary, width),
        _places(summary),
    ]
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        width=max(width, 20),
        legacy_windows=False,
    )
    for number, block in enumerate(block for block in blocks if block):
        if number:
            console.print()
        for line in block:
            console.print(line, soft_wrap=True, highlight=False, markup=False, emoji=False)
    text = out.getvalue()
    return text.translate(_TO_ASCII) if ascii_only else text


def bar(share: float, width: int) -> str:
    """Draw a share between 0 and 1 in eighths of a column; what is not zero is never empty."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    if share > 0 and width:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest - 1] if rest else "")


def _head(summary: RunSummary, width: int) -> list[Line]:
    style = _STATUS_STYLE.get(summary.status, "bold red")
    run = f"   run {visible(summary.run_id)}"
    lines = [Text().append("● ", style).append(status_line(summary), "bold").append(run, "dim")]
    for paragraph in summary.message.splitlines():
        text = Text(visible(paragraph))
        for part in text.wrap(Console(width=width), max(width - 2, 20)):
            part.rstrip()
            lines.append(Text("  ").append_text(part))
    return lines


def _mended(summary: RunSummary, width: int) -> list[Line]:
    """What went wrong on the way and did no harm: the first lines, and how many there are."""
    if not summary.mended:
        return []
    lines = [_title("Mended on the way")]
    for text in summary.mended[:_MENDED_SHOWN]:
        line = Text(f"  {visible(text)}")
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    more = len(summary.mended) - _MENDED_SHOWN
    return [*lines, Text(f"  and {more} more, see events.jsonl", "dim")] if more > 0 else lines


def _rows(summary: RunSummary) -> list[Line]:
    rows = summary.rows
    files = f"{format_count(summary.files)} {'file' if summary.files == 1 else 'files'}"
    source = f"{files}, {format_bytes(summary.input_bytes)}" if summary.files else ""
    return _table(
        "Rows",
        [
            ("read", format_count(rows.read), "", source),
            *_corrected(summary),
            ("accepted", format_count(rows.accepted), percent(rows.accepted, rows.read), ""),
            ("rejected", format_count(rows.rejected), percent(rows.rejected, rows.read), ""),
        ],
        "<>><",
    )


def _corrected(summary: RunSummary) -> list[Row]:
    if not summary.corrected_rows:
        return []
    share = percent(summary.corrected_rows, summary.rows.read)
    return [("corrected", format_count(summary.corrected_rows), share, "stand in for rejected ones")]


def _reasons(summary: RunSummary, bar_width: int) -> list[Line]:
    rows = summary.rows
    reasons = [(rule, count) for rule, count in rows.rejected_by_rule.items() if count]
    if not reasons:
        return [Text("  no row was rejected", style="green")] if rows.read and not rows.rejected else []
    most = max(count for _, count in reasons)
    table = [
        (visible(rule), format_count(count), percent(count, rows.rejected), bar(count / most, bar_width))
        for rule, count in reasons
    ]
    return _table("Rejected because of", table, "<>><", bars=True)


def _rules(summary: RunSummary, width: int) -> list[Line]:
    # A rule that rejects rows has said so above, under the reasons.
    rules = [rule for rule in summary.rules if rule.passed or rule.details.get("on_failure") != "reject_row"]
    if not rules:
        return []
    broken = [rule for rule in rules if not rule.passed]
    passed = f"  {len(rules) - len(broken)} of {len(rules)} passed"
    lines = [Text().append_text(_title("Rules")).append(passed + _severities(broken, summary.skipped_rules))]
    for rule in broken:
        style = "red" if rule.severity == "error" else "yellow"
        line = Text().append("  ✗ ", style).append(f"{visible(rule.rule_name)}  ", "bold")
        line.append(f"{rule.severity}: {visible(rule.message)}")
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
        lines += [_sample(rule.samples[0], width)] if rule.samples else []
    return lines


def _severities(broken: Sequence[RuleOutcome], skipped: Sequence[str]) -> str:
    """Count what did not pass by severity, and what was not asked for."""
    counts = [(name, sum(rule.severity == name for rule in broken)) for name in ("error", "warning", "info")]
    texts = [f"{count} {name}{'s' if count > 1 and name != 'info' else ''}" for name, count in counts if count]
    texts += [f"{len(skipped)} skipped"] if skipped else []
    return ", ".join(["", *texts])


def _sample(sample: Mapping[str, Any], width: int) -> Line:
    """Show where a rule is broken first."""
    value = "" if sample["value"] is None else f": {visible(sample['value'], 80)}"
    line = Text(f"    first in {visible(sample['file'])} row {format_count(sample['row_number'])}{value}", "dim")
    line.truncate(width, overflow="ellipsis")
    return line


def _steps(summary: RunSummary) -> list[Line]:
    rows = [
        (
            visible(step.name),
            f"{format_count(step.rows_in)} in",
            f"{format_count(step.rows_in - step.rows_out)} rejected" if step.rows_in != step.rows_out else "",
            f"failed on {format_count(step.failed)}" if step.failed else "",
            f"skipped in {step.skipped_partitions} of {step.partitions}" if step.skipped_partitions else "",
            format_seconds(step.seconds),
        )
        for step in summary.steps
    ]
    return _table("Steps", rows, "<>>>>>")


def _figures(summary: RunSummary) -> list[Line]:
    rows = [(visible(figure_label(name)), figure(name, value)) for name, value in summary.kpis.items()]
    return _table("Figures" + (f" as of {summary.as_of}" if summary.as_of else ""), rows, "<>")


def _tables(summary: RunSummary) -> list[Line]:
    rows = [
        (visible(name), f"{format_count(table.rows)} rows", visible(table.target) + _changes(table.changes))
        for name, table in summary.tables.items()
    ]
    return _table("Tables", rows, "<><")


def _changes(changes: dict[str, int]) -> str:
    """Say what a load changed, where it did more than insert rows."""
    done = {name: count for name, count in changes.items() if count}
    if not done or set(done) <= {"inserted", "deleted"}:
        return ""
    return " (" + ", ".join(f"{format_count(count)} {name}" for name, count in done.items()) + ")"


def _time(summary: RunSummary, bar_width: int) -> list[Line]:
    total = summary.seconds.get("total", 0.0)
    rows = [
        (stage, format_seconds(seconds), percent(seconds, total), bar(share, bar_width))
        for stage, seconds, share in stage_shares(summary)
        # A stage below a hundredth of the run says nothing; its time is in the total.
        if seconds >= total / 100
    ]
    if not rows:
        return []
    return _table("Time", [*rows, ("total", format_seconds(total), "", "")], "<>><", bars=True)


def _places(summary: RunSummary) -> list[Line]:
    facts = [
        (
            "peak memory",
            f"{format_bytes(summary.peak_memory_bytes)} in one process" if summary.peak_memory_bytes else "",
        ),
        ("partitions", reuse_line(summary) if summary.partitions else ""),
        ("engine", summary.engine),
        ("quarantine", _from_here(summary.quarantine)),
        ("report", _from_here(summary.report)),
        ("profile", _from_here(summary.profile)),
        ("run folder", _from_here(summary.run_dir)),
    ]
    return _table("", [(label, visible(text)) for label, text in facts if text], "<<")


def _from_here(path: str) -> str:
    """Return a path below the folder one is in as from there."""
    return path.removeprefix(os.path.join(os.getcwd(), ""))


def _title(text: str) -> Text:
    return Text(text, style="bold cyan")


def _table(title: str, rows: Iterable[Row], alignment: str, bars: bool = False) -> list[Line]:
    """Lay out rows in columns two blanks apart; with `bars` the last column is drawn, not written."""
    rows = list(rows)
    if not rows:
        return []
    widths = [max(Text(row[column]).cell_len for row in rows) for column in range(len(alignment))]
    lines = [_title(title)] if title else []
    for row in rows:
        line = Text(" ")
        for column, (cell, width, side) in enumerate(zip(row, widths, alignment, strict=True)):
            text = Text(cell, style="cyan" if bars and column == len(alignment) - 1 else "")
            blanks = " " * (width - text.cell_len)
            line.append("  " if column else " ")
            line.append_text(Text(blanks) + text if side == ">" else text + Text(blanks))
        line.rstrip()
        lines.append(line)
    return lines
