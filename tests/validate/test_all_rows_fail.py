"""What a run costs when every row breaks a rule, beside the same run over the same rows when none does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import HEADER, ROOT, write_settings

INLINE = ("--cluster", "inline")
ROWS = 400_000
FACTOR = 2.0
"""Most time and memory of a run in which all rows fail, by those of the clean one."""
ROUNDS = 3


def write_orders(path: Path) -> Path:
    lines = (f"O{i},C{i % 5000},2024-01-{i % 28 + 1:02d},{i % 90}.50,1,plain" for i in range(ROWS))
    path.write_text("\n".join([",".join(HEADER), *lines]) + "\n")
    return path


def job(source: Path, folder: Path, rule: dict[str, Any]) -> dict[str, Any]:
    """Run the command in a process of its own, from nothing, and return its document, or its manifest if refused."""
    folder.mkdir()
    settings = write_settings(folder / "s.toml", {"rule": "range", "name": "r", "column": "amount", **rule})
    command: list[str | Path] = [sys.executable, "-m", "jobs.customer_metrics", source, "--to", folder / "out"]
    done = subprocess.run(
        [*command, "--config", settings, "--work-dir", folder / "work", "--workers", "1", "--quiet", *INLINE],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, 4), done.stderr
    (manifest,) = (folder / "work" / "runs").glob("*/manifest.json")
    document: dict[str, Any] = json.loads(manifest.read_text())
    return document


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "rejected"), [({"max": -1, "on_failure": "warn"}, 0), ({"max": -1}, ROWS)], ids=["warn", "reject_row"]
)
def test_no_more_than_twice_the_time_and_memory(tmp_path: Path, broken: dict[str, Any], rejected: int) -> None:
    source = write_orders(tmp_path / "orders.csv")
    clean, failing = [], []
    for i in range(ROUNDS):  # in turn, so that a busy machine is busy for both
        clean.append(job(source, tmp_path / f"clean{i}", {**broken, "max": 1_000}))
        failing.append(job(source, tmp_path / f"failing{i}", broken))
    (rule,) = failing[0]["rules"]
    assert (rule["affected_rows"], len(rule["samples"])) == (ROWS, 5)
    assert (failing[0]["rows"]["rejected"], clean[0]["rows"]["rejected"]) == (rejected, 0)
    for measure in ("time", "memory"):
        least = [min(_cost(document, measure) for document in documents) for documents in (clean, failing)]
        assert least[1] < FACTOR * least[0], f"{measure}: {least}"


def _cost(document: dict[str, Any], measure: str) -> float:
    return float(document["seconds"]["total"] if measure == "time" else document["peak_memory_bytes"])
