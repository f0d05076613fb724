"""What earlier runs left of their rules: outcomes over time, read from the manifests in the work directory."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daskae.errors import InputError


@dataclass(frozen=True)
class RunLine:
    """One run in the overview."""

    run_id: str
    status: str
    read: int
    accepted: int
    rejected: int
    rules: int
    failed: int
    """Rules that did not pass."""
    pass_rate: float
    failed_rules: tuple[str, ...]


@dataclass(frozen=True)
class RuleLine:
    """One rule in one run."""

    run_id: str
    status: str
    """Of the run."""
    outcome: str
    """``passed``, ``failed``, ``error`` or ``skipped``."""
    severity: str
    checked: int
    affected: int
    share: float
    message: str
    seconds: float


def run_history(work: Path, last: int = 0) -> list[RunLine]:
    """Return the runs of a work directory, newest last.

    Parameters
    ----------
    work : Path
    last : int
        How many; all for 0.

    Raises
    ------
    InputError
        If there is no run.
    """
    return [_run_line(manifest) for manifest in _found(work, last)]


def rule_history(work: Path, rule: str, last: int = 0) -> list[RuleLine]:
    """Return how a rule went in each run that had it, newest last.

    Raises
    ------
    InputError
        If there is no run, or none had the rule.
    """
    found_runs = _found(work, 0)
    found = [
        _rule_line(manifest, item) for manifest in found_runs for item in _rules(manifest) if item["rule_name"] == rule
    ]
    if not found:
        known = sorted({item["rule_name"] for manifest in found_runs for item in _rules(manifest)})
        near = difflib.get_close_matches(rule, known, 1)
        raise InputError(
            "no run had this rule", str(work), repr(rule), ", ".join(known),
            f"did you mean {near[0]!r}?" if near else "",
        )  # fmt: skip
    return found[-last:] if last else found


def as_document(lines: Sequence[RunLine | RuleLine], rule: str | None) -> dict[str, Any]:
    """Return a history as plain data."""
    return {"schema_version": 1, "rule": rule, "runs": [asdict(line) for line in lines]}


def _found(work: Path, last: int) -> list[Mapping[str, Any]]:
    found = list(manifests(work))
    if not found:
        raise InputError("no run in this work directory", str(work), hint="name it by --work-dir")
    return found[-last:] if last else found


def manifests(work: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the manifests of a work directory, oldest first; a run that is not finished has none that can be read."""
    for path in sorted((work / "runs").glob("*/manifest.json"), key=_moment):
        try:
            manifest = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(manifest, dict) and "run_id" in manifest and "rows" in manifest:
            yield manifest


def _moment(path: Path) -> tuple[str, int]:
    """Order runs by the second they began in, as their names say, and within it by the time they ended."""
    try:
        return path.parent.name.partition("-")[0], path.stat().st_mtime_ns
    except OSError:
        return path.parent.name.partition("-")[0], 0


def _rules(manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    rules: Sequence[Mapping[str, Any]] = manifest.get("rules") or ()
    return rules


def _run_line(manifest: Mapping[str, Any]) -> RunLine:
    rows, rules = manifest["rows"], [rule for rule in _rules(manifest) if rule.get("status") != "skipped"]
    failed = tuple(rule["rule_name"] for rule in rules if not rule["passed"])
    rate = (len(rules) - len(failed)) / len(rules) if rules else 1.0
    return RunLine(
        manifest["run_id"], manifest["status"], rows["read"], rows["accepted"], rows["rejected"], len(rules),
        len(failed), round(rate, 6), failed,
    )  # fmt: skip


def _rule_line(manifest: Mapping[str, Any], rule: Mapping[str, Any]) -> RuleLine:
    checked, affected = rule["checked_rows"], rule["affected_rows"]
    outcome = rule.get("status") or ("passed" if rule["passed"] else "failed")
    return RuleLine(
        manifest["run_id"], manifest["status"], outcome, rule["severity"], checked, affected,
        round(affected / checked, 9) if checked else 0.0, rule["message"], rule.get("seconds", 0.0),
    )  # fmt: skip
