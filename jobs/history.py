"""How rules went over the runs of a work directory, and what was loaded into a database.

    python -m jobs.history [RULE] [--last N] [--json]
    python -m jobs.history --loads --to sqlite:///metrics.db [--last N] [--json]

Without a rule it lists the runs, newest last; with one, that rule in each run that had it. With ``--loads`` it lists
what the database's own ledger says, whichever machine and work directory a load came from.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from daskae.units import format_count
from jobs.command import call, ended, new_app, say

if TYPE_CHECKING:
    from daskae.load.history import LoadLine
    from daskae.run.history import RuleLine, RunLine

_MOST_NAMES = 3
_DATABASE = "sqlite:///customer_metrics.db"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv`` unless given.

    Returns
    -------
    int
        The exit code.
    """
    app = new_app("history", __doc__, "[RULE] [OPTIONS]")

    @app.default
    def command(
        rule: str | None = None,
        /,
        *,
        loads: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
        to: str | None = None,
        last: Annotated[int, Parameter(validator=Number(gte=0), show_default=False)] = 0,
        work_dir: Path = Path(".daskae"),
        json: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    ) -> int:
        """Show runs, one rule over all runs, or the loads of a database, newest last.

        Parameters
        ----------
        rule
            Name of a rule.
        loads
            Show the loads of a database.
        to
            The database, as the job has it. [default: sqlite:///customer_metrics.db]
        last
            Show the last so many only. [default: all]
        work_dir
            Where the runs are kept.
        json
            Print one JSON document.
        """
        if loads:
            return (
                _misused("--loads takes no rule") if rule else ended(lambda: _show_loads(to or _DATABASE, last, json))
            )
        return _misused("--to goes with --loads") if to else ended(lambda: _show(rule, last, work_dir, json))

    return call(app, argv)


def _show(rule: str | None, last: int, work: Path, as_json: bool) -> int:
    from daskae.run.history import as_document, rule_history, run_history

    if rule is None:
        runs = run_history(work, last)
        document, text = as_document(runs, None), _run_table(runs)
    else:
        lines = rule_history(work, rule, last)
        document, text = as_document(lines, rule), _rule_table(lines)
    say(json.dumps(document, indent=2) if as_json else text)
    return 0


def _misused(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 2


def _show_loads(url: str, last: int, as_json: bool) -> int:
    from daskae.load.history import load_history, loads_document

    lines = load_history(url, last)
    say(json.dumps(loads_document(lines, url), indent=2) if as_json else _load_table(lines))
    return 0


def _load_table(lines: "Sequence[LoadLine]") -> str:
    counts = ("inserted", "updated", "unchanged", "deleted", "rejected")
    head = ("load", "time", "status", "strategy", *counts, "tables", "message")
    rows = [
        (
            line.load_id[:8], line.ended_at.partition(".")[0], line.status, line.strategy,
            *(format_count(line.rows[name]) if name in line.rows else "-" for name in counts),
            _names(list(line.tables)), _printable(line.message),
        )
        for line in lines
    ]  # fmt: skip
    return _table(head, rows, "<<<<>>>>><<")


def _run_table(lines: "Sequence[RunLine]") -> str:
    head = ("run", "status", "read", "accepted", "rejected", "rules passed", "failed")
    rows = [
        (
            line.run_id, line.status, format_count(line.read), format_count(line.accepted), format_count(line.rejected),
            f"{line.rules - line.failed} of {line.rules}", _names(line.failed_rules),
        )
        for line in lines
    ]  # fmt: skip
    return _table(head, rows, "<<>>>><")


def _rule_table(lines: "Sequence[RuleLine]") -> str:
    head = ("run", "outcome", "severity", "checked", "affected", "share", "message")
    rows = [
        (
            line.run_id, line.outcome, line.severity, format_count(line.checked), format_count(line.affected),
            f"{line.share:.4%}", _printable(line.message),
        )
        for line in lines
    ]  # fmt: skip
    return _table(head, rows, "<<<>>><")


def _names(names: Sequence[str]) -> str:
    shown = [_printable(name) for name in names[:_MOST_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(f"{cell:{side}{width}}" for cell, width, side in zip(row, widths, sides, strict=True)).rstrip()
        for row in [head, *rows]
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
