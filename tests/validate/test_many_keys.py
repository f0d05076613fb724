"""Uniqueness over more keys than a task holds: exact, in memory that does not grow with the data."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support import ROOT, write_settings

INLINE = ("--cluster", "inline")
ROWS = 2_400_000
"""About 170 MB: three partitions and four buckets."""
TIMES = 4
EVERY = 1_000
"""Each row of such a number has the key of the row a hundred before it."""
GROWTH = 1.15
"""Most that the peak of one process may grow by; what is left is noise of the allocators."""


def write_orders(path: Path, rows: int) -> Path:
    number = pl.int_range(rows)
    key = pl.when((number % EVERY == 0) & (number > 0)).then(number - 100).otherwise(number)
    pl.select(
        order_id=pl.lit("ORDER-OF-A-SHOP-WITH-LONG-NUMBERS-") + key.cast(pl.String).str.zfill(12),
        customer_id=pl.lit("C") + (number % 50_000).cast(pl.String),
        order_date=pl.lit("2024-01-15"),
        amount=pl.lit("10.50"),
    ).write_csv(path)
    return path


def job(folder: Path, rows: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the command in a process of its own and return its manifest and events."""
    folder.mkdir()
    source = write_orders(folder / "orders.csv", rows)
    rule = {"rule": "unique", "name": "keys", "columns": ["order_id"], "on_failure": "warn"}
    settings = write_settings(folder / "s.toml", rule)
    command: list[str | Path] = [sys.executable, "-m", "jobs.customer_metrics", source, "--to", folder / "out"]
    subprocess.run(
        [*command, "--config", settings, "--work-dir", folder / "work", "--workers", "1", "--quiet", *INLINE],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    source.unlink()
    (run,) = (folder / "work" / "runs").glob("*-*")
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return json.loads((run / "manifest.json").read_text()), events


@pytest.mark.slow
def test_more_keys_take_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for rows in (ROWS, TIMES * ROWS):
        document, events = job(tmp_path / str(rows), rows)
        (rule,) = document["rules"]
        assert (rule["checked_rows"], rule["affected_rows"]) == (rows, (rows - 1) // EVERY)
        (projected,) = (event["projected_bytes"] for event in events if "projected_bytes" in event)
        assert document["peak_memory_bytes"] < projected
        tasks = [event for event in events if event.get("stage") == "unique" and "peak_bytes" in event]
        peaks.append((max(event["peak_bytes"] for event in tasks), document["peak_memory_bytes"]))
    assert all(more < GROWTH * few for few, more in zip(*peaks, strict=True)), peaks
