"""Law 7: measured peak <= projected <= allowed, and the peak does not grow with the input."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from daskae.aggregate.aggregation import Metric
from daskae.config import load_settings
from daskae.errors import PlanError
from daskae.pipeline import plan_run
from daskae.run.job import make_context
from daskae.run.memory import measure
from daskae.run.plan import Plan
from tests.laws.limited import (
    BULKY_ROW,
    PAGE_CACHE,
    memory_group,
    run_limited,
    write_bulky,
    write_often,
    write_packed,
    write_small,
)
from tests.support import EXACT_DUPLICATE, REPEATED_ORDER, orders_csv, run, write_settings

ALLOWED = 400_000_000
TIGHT = 400_000_000


def test_every_operation_keeps_below_its_projection_and_that_below_the_limit(tmp_path: Path) -> None:
    inputs = write_small(tmp_path / "in", 100_000, ["O1,C1,tomorrow,1\n"] * 500 + ["O1,C7919,2024-01-01,1.25\n"] * 9)
    config = write_settings(tmp_path / "rules.toml", EXACT_DUPLICATE, REPEATED_ORDER)
    flags = ["--config", str(config), "--block-size", "512KiB", "--memory-limit", str(ALLOWED)]
    done = run_limited(inputs, tmp_path, *flags)
    assert set(done.peaks) == {"map", "unique", "reduce", "finalize", "quarantine"}
    assert all(peak <= done.projected for peaks in done.peaks.values() for peak in peaks)
    assert done.projected <= ALLOWED
    assert done.document["mended"] == []


LARGE = [pytest.param(times, marks=[pytest.mark.slow, pytest.mark.timeout(1200)]) for times in (2, 10)]


@pytest.mark.parametrize("times", LARGE)
def test_the_peak_does_not_grow_with_the_input(times: int, tmp_path: Path) -> None:
    """The baseline is an input as large as the limit, so that every stage holds what it may."""
    once = write_bulky(tmp_path / "once", TIGHT, 2)
    many = write_bulky(tmp_path / "many", times * TIGHT, 2 * times)
    flags = ["--memory-limit", str(TIGHT)]
    before = run_limited(once, tmp_path / "a", *flags)
    with memory_group(TIGHT + PAGE_CACHE) as group:
        done = run_limited(many, tmp_path / "b", *flags, group=group)
    assert done.document["rows"]["read"] > 0.95 * times * TIGHT / BULKY_ROW
    assert done.peak <= min(TIGHT, 1.15 * before.peak)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_times_the_limit(tmp_path: Path) -> None:
    """40 GB of text, 67 million orders."""
    inputs = write_often(tmp_path / "in", 100 * TIGHT, 100)
    with memory_group(TIGHT + PAGE_CACHE) as group:
        done = run_limited(inputs, tmp_path / "run", "--memory-limit", str(TIGHT), group=group)
    assert done.document["rows"]["read"] > 95 * TIGHT / BULKY_ROW
    assert done.peak <= min(TIGHT, done.projected)
    assert done.document["mended"] == []


ALL_BAD = [("tomorrow", False), ("2024-01-05", True)]


@pytest.mark.slow
@pytest.mark.parametrize(("day", "repeats"), ALL_BAD, ids=["rejected at once", "rejected as duplicates"])
def test_a_compressed_file_whose_rows_are_all_rejected(day: str, repeats: bool, tmp_path: Path) -> None:
    """It is one partition whatever its size, a few customers have all of it, and one key has a fiftieth of it."""
    inputs = write_packed(tmp_path / "in", 3_000_000, day, 50 if repeats else 3_000_000)
    config = write_settings(tmp_path / "rules.toml", EXACT_DUPLICATE, REPEATED_ORDER)
    done = run_limited(inputs, tmp_path, "--config", str(config), "--memory-limit", str(TIGHT))
    assert done.document["rows"]["rejected"] == 3_000_000 - (50 if repeats else 0)
    assert done.peak <= min(TIGHT, done.projected)
    assert done.document["mended"] == []


@pytest.mark.parametrize("engine", ["processes", pytest.param("local", marks=[pytest.mark.dask, pytest.mark.slow])])
def test_worker_processes_keep_below_their_limit(engine: str, tmp_path: Path) -> None:
    inputs = write_small(tmp_path / "in", 200_000)
    config = write_settings(tmp_path / "rules.toml", EXACT_DUPLICATE, REPEATED_ORDER)
    flags = ["--config", str(config), "--block-size", "512KiB", "--memory-limit", str(ALLOWED)]
    done = run_limited(inputs, tmp_path, *flags, engine=engine, workers=2)
    assert set(done.peaks) == {"map", "unique", "reduce", "finalize", "quarantine"} - {"quarantine"}
    assert all(peak <= done.projected for peaks in done.peaks.values() for peak in peaks)
    assert done.projected <= (0.9 if engine == "local" else 1) * ALLOWED
    assert not [event for event in done.events if event["event"] in ("WorkerLost", "TaskRepeated")]


def test_skew_costs_less_than_a_third_more(tmp_path: Path) -> None:
    rows = 150_000
    even = write_small(tmp_path / "even", rows)
    skewed = tmp_path / "skewed"
    skewed.mkdir()
    frame = pl.read_csv(even / "orders.csv", infer_schema=False)
    big = pl.when(pl.int_range(pl.len()) % 10 < 3).then(pl.lit("BIG")).otherwise("customer_id")
    frame.with_columns(big.alias("customer_id")).write_csv(skewed / "orders.csv")
    flags = ["--block-size", "1MiB", "--memory-limit", str(ALLOWED)]
    peaks = [run_limited(inputs, tmp_path / inputs.name / "run", *flags).peak for inputs in (even, skewed)]
    assert peaks[1] <= 1.3 * peaks[0]


def planned(inputs: Path, folder: Path, metrics: Sequence[Metric] = (), **flags: object) -> Plan:
    settings = load_settings(
        {"inputs": [str(inputs)], "work_dir": folder / "work", "cluster_name": "inline", "workers": 1, **flags}, None
    )
    return plan_run(make_context(settings, metrics))


def test_what_does_not_fit_is_refused_with_all_terms_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_bytes(orders_csv(100))
    with pytest.raises(
        PlanError,
        match=r"more memory than a worker has\n  where:   largest term: the process with its libraries, measured\n"
        r"  got:     .* = the process with its libraries, measured .*; rows of a bucket .*\n  allowed: 95.4 MiB",
    ):
        run(tmp_path / "orders.csv", tmp_path, memory_limit="100MB")
    assert not list((tmp_path / "work").glob("maps/*"))


def test_the_projection_follows_the_real_columns(tmp_path: Path) -> None:
    """Short fields become many more bytes as cells than long ones do."""
    rows = range(40_000)
    narrow, wide = tmp_path / "narrow.csv", tmp_path / "wide.csv"
    head = "order_id,customer_id,order_date,amount"
    narrow.write_text(f"{head},note\n" + "".join(f"O{i},C1,2024-01-01,1,{'n' * 60}\n" for i in rows))
    names = ",".join(f"c{i}" for i in range(30))
    wide.write_text(f"{head},{names}\n" + "".join(f"O{i},C1,2024-01-01,1{',' * 30}\n" for i in rows))
    plans = [planned(path, tmp_path, rules=[EXACT_DUPLICATE]) for path in (narrow, wide)]
    found = [measure(plan.source, plan.spec) for plan in plans]
    assert found[1].cells > 4 * found[0].cells
    assert found[1].kept < 1 < found[1].cells


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_goes_to_the_exchange_is_projected(tmp_path: Path, kind: str) -> None:
    """Each row of Parquet is worth many more bytes than are stored of it."""
    inputs = write_small(tmp_path / "in", 200_000)
    if kind == "parquet":
        frame = pl.read_csv(inputs / "orders.csv", infer_schema=False)
        (inputs / "orders.csv").unlink()
        frame.write_parquet(inputs / "orders.parquet", row_group_size=50_000)
    projected = planned(inputs, tmp_path, rules=[EXACT_DUPLICATE]).projection.total
    run(inputs, tmp_path, rules=[EXACT_DUPLICATE])
    files = sum(path.stat().st_size for path in tmp_path.glob("work/maps/*/*/rows-*.arrow"))
    assert 0.75 * files <= projected <= 1.5 * files  # a task may hold twice a bucket, for skew


def test_a_dry_run_names_the_terms(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_bytes(orders_csv(100))
    plan = planned(tmp_path / "orders.csv", tmp_path)
    assert plan.projected_bytes == sum(term.nbytes for term in plan.memory)
    assert plan.most_bucket_bytes(1 << 20) > 0
