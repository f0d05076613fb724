"""Buckets reduced a part at a time give what they give at once, to the byte."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.aggregate.aggregation import FrameMetric, Metric, metric
from daskae.run.memory import Projection
from daskae.stages import large
from daskae.stages.giant import Giant
from daskae.stages.large import runs
from tests.laws.orders import ROWS, headers, records, whole_runs
from tests.support import EXACT_DUPLICATE, HEADER, REPEATED_ORDER, SMALL_AMOUNT, Run, assert_same, run

COLUMNS = {name: name for name in HEADER} | {"note": {"column": "note", "dtype": "text"}}
METRICS: list[Metric] = [
    metric("items", pl.col("quantity").sum(), combine="sum", kind="money"),
    metric("last_note", pl.col("note").max(), combine="max", kind="text"),
]
REPEATS_WARN = {**REPEATED_ORDER, "on_failure": "warn"}
RULES = st.sampled_from(
    [[], [EXACT_DUPLICATE], [EXACT_DUPLICATE, REPEATED_ORDER, SMALL_AMOUNT], [REPEATED_ORDER], [REPEATS_WARN]]
)


@contextmanager
def holding(nbytes: int) -> Iterator[None]:
    """Let reduce tasks hold no more than some bytes at once."""
    with patch.object(Projection, "most_bucket_bytes", lambda self, allowed: nbytes):
        yield


def write(folder: Path, data: bytes) -> Path:
    folder.mkdir()
    (folder / "orders.csv").write_bytes(data)
    return folder


def assert_equal(found: Run, expected: Run) -> None:
    assert_same(found, expected)
    assert found.summary.load_id == expected.summary.load_id
    assert [rule.affected_rows for rule in found.summary.rules] == [
        rule.affected_rows for rule in expected.summary.rules
    ]
    assert [rule.samples for rule in found.summary.rules] == [rule.samples for rule in expected.summary.rules]


@given(header=headers(), rows=records(ROWS), rules=RULES, nbytes=st.sampled_from([1, 50, 200, 1000]))
@whole_runs(5)
def test_what_is_held_at_once_does_not_show(
    header: bytes, rows: list[bytes], rules: list[dict[str, Any]], nbytes: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given: dict[str, Any] = {"rules": rules, "columns": COLUMNS, "metrics": METRICS, "block_size": 200}
        inputs = write(folder / "in", header + b"".join(rows))
        expected = run(inputs, folder / "whole", **given)
        with holding(nbytes):
            assert_equal(run(inputs, folder / "parts", **given), expected)


def skewed(rows: int) -> bytes:
    """Orders of which one customer has nearly a third, with lines, repeated rows and missing order ids."""
    numbers = np.random.default_rng(7)
    lines = [",".join(HEADER)]
    for i in range(rows):
        customer = "BIG" if numbers.random() < 0.3 else f"C{numbers.integers(200)}"
        order = "" if i % 50 == 0 else f"O{numbers.integers(rows // 2)}"
        day = f"20{20 + i % 4}-{i % 12 + 1:02d}-{i % 28 + 1:02d}"
        lines.append(f"{order},{customer},{day} 10:00:00,{i % 90}.{i % 100:02d},{i % 9},n{i % 5}")
        if i % 40 == 7:
            lines.append(lines[-1])
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize("rules", [[EXACT_DUPLICATE], [EXACT_DUPLICATE, REPEATED_ORDER]], ids=["lines", "orders"])
def test_a_customer_larger_than_memory(rules: list[dict[str, Any]], tmp_path: Path) -> None:
    inputs = write(tmp_path / "in", skewed(6000))
    dimension = tmp_path / "home.csv"
    dimension.write_text("id,country\nBIG,NL\nC1,DE\n")
    parameters = {"source": str(dimension), "on": "id", "broadcast_below": 1}
    given: dict[str, Any] = {
        "rules": rules, "columns": COLUMNS, "block_size": "32KiB", "steps": [
            {"function": "enrich", "name": "home", "parameters": parameters}
        ], "metrics": [*METRICS, metric("home", pl.col("country").max(), combine="max", kind="text")],
    }  # fmt: skip
    expected = run(inputs, tmp_path / "whole", **given)
    with holding(16 << 10), patch.object(large, "Giant", wraps=Giant) as giants:
        found = run(inputs, tmp_path / "parts", **given)
    assert [call.args[4] for call in giants.call_args_list] == ["BIG"]
    assert found.customer("BIG")["home"] == "NL"
    assert_equal(found, expected)
    steps = [(step.name, step.rows_in, step.rows_out, step.partitions) for step in found.summary.steps]
    assert steps == [(step.name, step.rows_in, step.rows_out, step.partitions) for step in expected.summary.steps]


def test_functions_on_frames_see_the_largest_customer_whole(tmp_path: Path) -> None:
    inputs = write(tmp_path / "in", skewed(1000))
    spread = FrameMetric("spread", lambda orders: orders.groupby("customer_id")["amount"].nunique(), "integer")
    expected = run(inputs, tmp_path / "whole", metrics=[spread])
    with holding(1 << 10):
        assert_equal(run(inputs, tmp_path / "parts", metrics=[spread]), expected)


@given(rows=st.lists(st.integers(0, 9), max_size=30), most=st.integers(1, 12))
def test_runs_hold_everything_once_and_no_more_than_they_may(rows: list[int], most: int) -> None:
    found = runs(np.array(rows, np.int64), most)
    assert sum(sum(rows[first:last]) for first, last in found) == sum(rows)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))
    for first, last in found:
        assert sum(rows[first:last]) <= most or sum(count > 0 for count in rows[first:last]) == 1
