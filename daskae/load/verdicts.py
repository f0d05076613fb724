"""From what a check finds to what becomes of the load: the same for every target that runs checks."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daskae.errors import GateError
from daskae.load.audits import LoadCheck, Verdict
from daskae.load.base import Load
from daskae.load.failures import mask_secrets
from daskae.load.rejects import writing

_KEPT_ROWS = 1000


@dataclass(frozen=True)
class Found:
    """What one check found; nothing where all is well."""

    message: str = ""
    rows: int = 0
    kept: Sequence[Mapping[str, Any]] = ()
    """The first of the rows."""


def answer(
    check: LoadCheck, count: Callable[[], int], first: Callable[[int], tuple[Sequence[str], Sequence[Sequence[Any]]]]
) -> Found:
    """Look at the rows of a query as the check expects them.

    Parameters
    ----------
    check : LoadCheck
        The check.
    count : callable
        Counts the rows.
    first : callable
        Returns the names of the columns, and the first rows, not more than the number it is given.
    """
    if check.expect == "true":
        _, rows = first(2)
        good = len(rows) == 1 and len(rows[0]) == 1 and rows[0][0] in (True, 1)
        shown = ", ".join(str(tuple(row)) for row in rows) or "nothing"
        return Found("" if good else f"{shown} instead of a single true")
    number = count()
    if not number:
        return Found()
    names, rows = first(_KEPT_ROWS)
    kept = [dict(zip(names, row, strict=True)) for row in rows]
    return Found(f"{number} {'row' if number == 1 else 'rows'}, where none is allowed", number, kept)


def decide(
    load: Load, checks: Sequence[LoadCheck], at: str, judge: Callable[[LoadCheck], Found]
) -> list[Verdict]:  # fmt: skip
    """Run the checks of one moment, and keep the rows they find beside those that are left out.

    Raises
    ------
    GateError
        Naming the checks that block.
    """
    verdicts: list[Verdict] = []
    files: list[str] = []
    for number, check in enumerate(checks, 1):
        if check.at == at:
            found = judge(check)
            verdicts.append(Verdict(check, mask_secrets(found.message), found.rows))
            file = _keep(load, check, number, found.kept)
            files += [file] if file and check.on_failure == "block" else []
    if blocking := [verdict for verdict in verdicts if verdict.message and verdict.check.on_failure == "block"]:
        look = f"look at {', '.join(files)}" if files else "mend the input or the check"
        raise GateError(
            f"a check of the load refuses the publish: {', '.join(verdict.check.name for verdict in blocking)}",
            "[[load.checks]]",
            "; ".join(verdict.said for verdict in blocking),
            hint=f"the target is unchanged; {look}",
        )
    return verdicts


def _keep(load: Load, check: LoadCheck, number: int, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write the rows that a check found as JSON lines; return the file."""
    if load.rejects is None or not rows:
        return ""
    name = check.name if check.name.isidentifier() else str(number)
    path: Path = load.rejects / f"check-{name}.jsonl"
    lines = (json.dumps(row, ensure_ascii=False, default=str) for row in rows)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)
