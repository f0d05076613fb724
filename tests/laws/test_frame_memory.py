"""Metrics on a DataFrame see each customer whole: one who does not fit is refused before he is read, in plain terms."""

import json
from pathlib import Path

import polars as pl
import pytest

from daskae.aggregate.aggregation import FrameMetric
from tests.laws.limited import events_of, peaks_of, projected_by, write_small
from tests.laws.test_memory import planned
from tests.support import fork_script

SCRIPT = """
import sys
from daskae.aggregate.aggregation import FrameMetric
from jobs.customer_metrics import main

def spread(orders):
    return orders.groupby("customer_id")["amount"].nunique()

sys.exit(main(metrics=[FrameMetric("spread", spread, "integer")]))
"""
SECRET = "ana@example.com"
LIMIT = 430_000_000


def write_orders(folder: Path, rows: int, of_one: int) -> Path:
    """Write orders of many customers, and ``of_one`` of one more."""
    inputs = write_small(folder, rows)
    frame = pl.read_csv(inputs / "orders.csv", infer_schema=False).with_row_index()
    customer = pl.when(pl.col("index") < of_one).then(pl.lit(SECRET)).otherwise("customer_id").alias("customer_id")
    frame.with_columns(customer).drop("index").write_csv(inputs / "orders.csv")
    return inputs


def run_script(inputs: Path, folder: Path, *flags: str) -> tuple[int, str, str]:
    (folder / "job.py").write_text(SCRIPT)
    argv = [str(inputs), "--to", f"{folder}/out/", "--work-dir", f"{folder}/work", "--cluster", "inline"]
    return fork_script(folder / "job.py", [*argv, "--workers", "1", "--block-size", "512KiB", "--json", *flags])


def test_a_customer_who_does_not_fit_is_refused_with_all_terms(tmp_path: Path) -> None:
    inputs = write_orders(tmp_path / "in", 700_000, 600_000)
    code, _, said = run_script(inputs, tmp_path, "--memory-limit", str(LIMIT))
    assert code == 1
    assert "metrics on a DataFrame need all orders of a customer at once, and one customer has too many" in said
    assert "where:   metrics spread; customers of slots [0:256]" in said
    for term in ("the process as it is", "600,000 lines of the customer while they are grouped", "as a DataFrame"):
        assert term in said
    assert "allowed: 410.1 MiB" in said
    assert "raise --memory-limit" in said
    assert SECRET not in said
    (run_dir,) = tmp_path.glob("work/runs/*")
    assert not [event for event in events_of(run_dir) if event["event"] == "TaskRepeated"], "trying again is of no use"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_customers_who_fit_are_taken_some_at_a_time_below_the_limit(tmp_path: Path) -> None:
    """All together they would not fit."""
    inputs = write_orders(tmp_path / "in", 700_000, 70_000)
    code, output, said = run_script(inputs, tmp_path, "--memory-limit", str(LIMIT))
    assert code == 0, said
    document = json.loads(output)
    events = events_of(document["run_dir"])
    assert max(max(peaks) for peaks in peaks_of(events).values()) <= projected_by(events) <= LIMIT
    assert document["mended"] == []


def test_the_projection_has_terms_for_frames(tmp_path: Path) -> None:
    inputs = write_small(tmp_path / "in", 400_000)
    metrics = [FrameMetric("spread", len, "integer")]
    plain, framed = (planned(inputs, tmp_path, some, block_size="512KiB") for some in ([], metrics))
    assert [term.name for term in framed.memory if "DataFrame" in term.name] == [
        "orders of a bucket as a DataFrame, 1 at once",
        "pandas, for metrics on a DataFrame",
    ]
    assert not [term for term in plain.memory if "DataFrame" in term.name]
    limit = framed.projected_bytes - (32 << 20)
    plain, framed = (planned(inputs, tmp_path, some, block_size="512KiB", memory_limit=limit) for some in ([], metrics))
    assert framed.projected_bytes <= limit
    assert framed.most_bucket_bytes(1 << 30) < plain.most_bucket_bytes(1 << 30)
