"""The fault log: lines of JSON, one for each run of the tests and one for each fault; and the table made of them."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.fault_log import CHECKS, KINDS

SCHEMA_VERSION = 1
PACKAGES = ("daskae", "dask", "distributed", "pyarrow", "polars", "pandas", "numpy", "pytest")
Line = dict[str, Any]


class NoFaultLogError(ValueError):
    """A file that is something else, or was written by another version."""


def read_log(path: Path) -> list[Line]:
    """Read a fault log; that of a file that is not there, or has nothing in it, is empty."""
    lines: list[Line] = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else [], 1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or line.get("record") not in ("run", "fault"):
            raise NoFaultLogError(f"{path}, line {number}: this is no fault log")
        if line["record"] == "run" and line["schema_version"] != SCHEMA_VERSION:
            raise NoFaultLogError(f"{path}: schema_version {line['schema_version']}, not {SCHEMA_VERSION}")
        lines.append(line)
    return lines


def add_to_log(path: Path, lines: Iterable[Line]) -> None:
    """Add lines to a fault log, which is made if it is not there."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)


def describe_machine(root: Path) -> Line:
    """Say what was tested, and on what."""
    return {
        "commit": _commit(root),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def summarize(lines: Sequence[Line]) -> list[str]:
    """Return a table: how many faults of each kind there were, and what became of them."""
    faults = [line for line in lines if line["record"] == "fault"]
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in faults:
        groups.setdefault((line["kind"], line["process"]), []).append(line)
    order = sorted(groups, key=lambda key: (KINDS.index(key[0]) if key[0] in KINDS else len(KINDS), key))
    head = ["fault", "of", "places", "seeds", "injected", "survived", "failed", *CHECKS]
    rows = [[*key, *_counts(groups[key])] for key in order]
    rows.append(["all", "", *_counts(faults)])
    table = [head, *([str(cell) if cell != 0 else "." for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    return [_aligned(row, widths) for row in table] + _explain(lines)


def _counts(faults: Sequence[Line]) -> list[int]:
    injected = sum(line["count"] for line in faults)
    survived = sum(line["count"] for line in faults if line["verdict"] == "survived")
    places = len({(line["kind"], line["process"], line["where"], line["target"]) for line in faults})
    seeds = len({line["seed"] for line in faults} - {None})
    checked = [sum(line["count"] for line in faults if name in line["checks"]) for name in CHECKS]
    return [places, seeds, injected, survived, injected - survived, *checked]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
    return "  ".join(cells).rstrip()


def _explain(lines: Sequence[Line]) -> list[str]:
    runs = [line for line in lines if line["record"] == "run"]
    tested = sorted({f"commit {run['commit']}, Python {run['python']}, {run['platform']}" for run in runs})
    tests = len({(line["run"], line["test"]) for line in lines if line["record"] == "fault"})
    return [
        *(f"{name}: {text}" for name, text in CHECKS.items()),
        f"{len(runs)} run(s) of the tests, of which {tests} made faults; {'; '.join(tested)}",
    ]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit(root: Path) -> str | None:
    """Return the commit that is checked out, with a ``+`` where files differ from it; None without git."""
    said = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain"]):
        try:
            done = subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        said.append(done.stdout.strip())
    return f"{said[0]}{'+' if said[1] else ''}"
