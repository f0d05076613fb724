"""The benchmark harness: it measures whole process trees, its peers are right, and it sees a cent that is missing."""

import csv
import importlib
import json
import math
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from benchmarks import measure as measuring
from benchmarks.agreement import Totals, compare, read_totals
from benchmarks.contenders import Contender, line_up
from benchmarks.inputs import Dataset, generate, generate_extra, with_extra
from benchmarks.measure import measure
from benchmarks.peers.interface import COLUMNS, Result, Task
from benchmarks.session import Run, Session, compared, fastest, judge
from benchmarks.table import render
from tests.support import ROOT

MIB = 1 << 20
FAMILY = """
import subprocess, sys, time
held = bytearray(b"x" * {size})
code = '''
import time
held = bytearray(b"x" * {size})
end = time.process_time() + 0.4
while time.process_time() < end:
    pass
'''
subprocess.run([sys.executable, "-c", code], check=True)
print("done")
"""
ABANDON = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
import time; time.sleep({seconds})
"""
ROWS = [
    ("A1", "ann", "2024-01-31 23:59:59", "10.10", "1", "completed", "web", ""),
    ("A2", "bob", "2024-02-01 00:00:00", "0.1", "2", "completed", "web", 'says "hi", twice'),
    ("A3", "ann", "2024-03-01 12:00:00", "5.0005", "1", "completed", "web", "two\nlines"),
    ("A4", "ann", "2024-03-02 12:00:00", "7", "9", "completed", "web", ""),
    ("B1", "NA", "2022-12-31 08:00:00", "99999.99", "1", "completed", "app", ""),
    ("B2", "bob", "2024-02-28 10:00:00", "0.2", "1", "completed", "app", ""),
    ("B3", "eve", "2024-02-29 10:00:00", "3.33", "1", "completed", "app", ""),
]
DIRT = """\
order_id,customer_id,order_date,amount,quantity,status,channel,note
D1,,2024-01-01 00:00:00,1.00,1,completed,web,
D2,ann,2024-02-30 00:00:00,1.00,1,completed,web,
D3,ann,2024-01-01 00:00:00,"12,50",1,completed,web,
D4,ann,2024-01-01 00:00:00,12.34567,1,completed,web,
D5,ann,2024-01-01 00:00:00,1e400,1,completed,web,
D6,ann,2024-01-01 00:00:00,1.00,0,completed,web,
D7,ann,2024-01-01 00:00:00,1.00,1,completed,web
D8,ann,2024-01-01 00:00:00,1.00,1,completed,web,,
D9
D10,ann,2024-01-01 00:00:00,1.00,1,completed,"we"b,
D11,ann,2024-01-01 00:00:00,1.00,1,completed,web,caf\udcff
order_id,customer_id,order_date,amount,quantity,status,channel,note

A1,ann,2024-01-31 23:59:59,10.10,1,completed,web,
A1,ann,2024-01-31 23:59:59,10.11,1,completed,web,
"""
DIRT_BY_RULE = {
    "malformed_quoting": 1,
    "invalid_encoding": 1,
    "wrong_field_count": 3,
    "repeated_header": 1,
    "missing_customer_id": 1,
    "unparsable_date": 1,
    "unparsable_number": 3,
    "non_positive_quantity": 1,
    "exact_duplicate": 1,
    "duplicate_order_id": 1,
}


def write_orders(folder: Path) -> tuple[Path, ...]:
    """Write the clean rows as two files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "orders-0.csv", folder / "orders-1.csv"
    for path, prefix in zip(files, "AB", strict=True):
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *(row for row in ROWS if row[0][0] == prefix)])
    return files


def run_peer(name: str, files: tuple[Path, ...], out: Path) -> Result:
    """Run a peer in this process, or skip the test if its package is absent."""
    pytest.importorskip(name)
    run: Callable[[Task], Result] = importlib.import_module(f"benchmarks.peers.{name}").run
    return run(Task(files, out, cpus=2))


def expected_customers() -> dict[str, dict[str, Any]]:
    """Compute the customers of the clean rows in plain Python."""
    orders: dict[str, list[tuple[datetime, Decimal]]] = defaultdict(list)
    for row in ROWS:
        orders[row[1]].append((datetime.fromisoformat(row[2]), Decimal(row[3])))
    as_of = max(moment for own in orders.values() for moment, _ in own).date()
    result: dict[str, dict[str, Any]] = {}
    for customer, own in orders.items():
        first, last = min(own)[0], max(own)[0]
        result[customer] = {
            "order_count": len(own),
            "total_revenue": sum(amount for _, amount in own),
            "first_order_at": first,
            "last_order_at": last,
            "days_active": (last.date() - first.date()).days,
            "days_since_last_order": (as_of - last.date()).days,
            "is_churned": (as_of - last.date()).days > 365,
            "cohort_month": date(first.year, first.month, 1),
        }
    for source, score in (("order_count", "rfm_frequency"), ("total_revenue", "rfm_monetary")):
        values = [metrics[source] for metrics in result.values()]
        for metrics in result.values():
            metrics[score] = 1 + 5 * sum(other < metrics[source] for other in values) // len(values)
    return result


def expected_cells() -> dict[tuple[date, int], tuple[int, Decimal]]:
    """Compute active customers and revenue by cohort and period in plain Python, empty cells left out."""
    cohorts = {customer: metrics["cohort_month"] for customer, metrics in expected_customers().items()}
    active: dict[tuple[date, int], set[str]] = defaultdict(set)
    revenue: dict[tuple[date, int], Decimal] = defaultdict(Decimal)
    for row in ROWS:
        moment, cohort = datetime.fromisoformat(row[2]), cohorts[row[1]]
        cell = cohort, (moment.year - cohort.year) * 12 + moment.month - cohort.month
        active[cell].add(row[1])
        revenue[cell] += Decimal(row[3])
    return {cell: (len(customers), revenue[cell]) for cell, customers in active.items()}


@pytest.mark.parametrize("peer", ["duckdb", "polars", "pandas"])
def test_peer_agrees_with_plain_python(peer: str, tmp_path: Path) -> None:
    result = run_peer(peer, write_orders(tmp_path / "in"), tmp_path / "out")
    assert (result.accepted, dict(result.rejected_by_rule)) == (7, {})
    expected = expected_customers()
    rows = {row["customer_id"]: row for row in pl.read_parquet(tmp_path / "out/customer_metrics/*").to_dicts()}
    assert {key: {name: row[name] for name in expected["ann"]} for key, row in rows.items()} == expected
    spread = {row["customer_id"]: row["std_order_value"] for row in rows.values()}
    assert spread["ann"] == pytest.approx(statistics.stdev([10.10, 5.0005, 7.0]))
    assert spread["eve"] is None
    cells = pl.read_parquet(tmp_path / "out/cohort_metrics/*").to_dicts()
    got = {(row["cohort_month"], row["period_index"]): (row["active_customers"], row["revenue"]) for row in cells}
    assert {cell: value for cell, value in got.items() if value[0]} == expected_cells()
    # From December 2022, January 2024 and February 2024 to March 2024, the last month of the data.
    assert len(got) == 16 + 3 + 2


@pytest.mark.parametrize("peer", ["duckdb", "polars"])
def test_peer_tells_every_kind_of_dirt(peer: str, tmp_path: Path) -> None:
    files = write_orders(tmp_path / "in")
    dirty = files[0].with_name("orders-2.csv")
    dirty.write_bytes(DIRT.encode(errors="surrogateescape"))
    result = run_peer(peer, (*files, dirty), tmp_path / "out")
    assert (result.accepted, dict(result.rejected_by_rule)) == (7, DIRT_BY_RULE)
    assert pl.read_parquet(tmp_path / "out/rejected/*").height == sum(DIRT_BY_RULE.values())


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    """Give two output folders with the same tables."""
    files = write_orders(tmp_path / "in")
    run_peer("polars", files, tmp_path / "one")
    run_peer("polars", files, tmp_path / "two")
    return tmp_path / "one", tmp_path / "two"


def change(out: Path, table: str, *columns: pl.Expr) -> None:
    """Overwrite columns of an output table."""
    (path,) = (out / table).glob("*.parquet")
    pl.read_parquet(path).with_columns(*columns).write_parquet(path)


def test_equal_runs_agree_exactly(two_runs: tuple[Path, Path]) -> None:
    assert compare(*two_runs).exact
    assert read_totals(two_runs[0]) == Totals(4, 7, Decimal("100025.7205"))


def test_one_cent_is_seen(two_runs: tuple[Path, Path]) -> None:
    eve = pl.col("customer_id") == "eve"
    cent = pl.lit(Decimal("0.01")).cast(pl.Decimal(38, 4))
    revenue = pl.col("total_revenue")
    change(two_runs[1], "customer_metrics", pl.when(eve).then(revenue + cent).otherwise(revenue))
    agreement = compare(*two_runs)
    assert (agreement.customers, agreement.cells, agreement.further, agreement.exact) == (1, 0, {}, False)


def test_a_missing_customer_and_another_ratio_are_seen(two_runs: tuple[Path, Path]) -> None:
    (path,) = (two_runs[1] / "customer_metrics").glob("*.parquet")
    pl.read_parquet(path).filter(pl.col("customer_id") != "eve").drop("is_churned").write_parquet(path)
    change(two_runs[1], "customer_metrics", pl.col("std_order_value") * (1 + 1e-12))
    change(two_runs[1], "cohort_metrics", pl.col("retention") + 0.001)
    agreement = compare(*two_runs)
    assert (agreement.customers, agreement.cells) == (1, 0)
    assert agreement.further == {"retention": 21}
    assert agreement.missing == ("is_churned",)


def test_measure_sees_the_whole_tree(tmp_path: Path) -> None:
    measured = measure([sys.executable, "-c", FAMILY.format(size=64 * MIB)], tmp_path / "log")
    assert (measured.exit_code, measured.stdout, measured.stderr, measured.timed_out) == (0, "done\n", "", False)
    assert measured.cpu_seconds >= 0.4
    assert measured.wall_seconds >= 0.4
    assert 2 * 64 * MIB <= measured.peak_bytes < 2 * 64 * MIB + 100 * MIB


def test_measure_leaves_no_process_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "GRACE_SECONDS", 0.1)
    measured = measure([sys.executable, "-c", ABANDON.format(seconds=0.3)], tmp_path / "log")
    assert measured.exit_code == 0
    assert not is_running(int(measured.stdout))


def test_measure_kills_the_whole_tree_when_time_is_over(tmp_path: Path) -> None:
    measured = measure([sys.executable, "-c", ABANDON.format(seconds=60)], tmp_path / "log", timeout=3)
    assert measured.timed_out
    assert measured.exit_code != 0
    assert measured.wall_seconds < 50
    assert not is_running(int(measured.stdout))


def is_running(pid: int) -> bool:
    """Whether a process still does anything."""
    try:
        psutil.wait_procs([psutil.Process(pid)], timeout=60)
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_extra_rows_are_new_orders_and_go_again(format: str, tmp_path: Path) -> None:
    dataset = generate(tmp_path / "in", 300, format)
    with with_extra(dataset, generate_extra(dataset, tmp_path / "extra")) as larger:
        assert larger.rows == 400
        assert len(larger.files) == len(dataset.files) == 5
        result = run_peer("polars", tuple(larger.files), tmp_path / "out")
        assert read_totals(tmp_path / "out").revenue == larger.totals.revenue
        assert (result.accepted, dict(result.rejected_by_rule)) == (larger.totals.orders, larger.rejected_by_rule)
    assert len(dataset.files) == 4


def test_contenders_are_named_with_their_interpreters() -> None:
    assert [each.name for each in line_up(["duckdb", "dask.dataframe"])] == ["daskae", "duckdb", "dask_dataframe"]
    assert line_up(["duckdb"], ["duckdb=/opt/python"])[1].python == "/opt/python"
    with pytest.raises(ValueError, match="there is no peer 'sqlite'"):
        line_up(["sqlite"])
    with pytest.raises(ValueError, match="polars keeps to no limit"):
        line_up(["duckdb", "polars"], memory=600)
    ours, duckdb = (one.command(Path("in"), Path("out"), Path("work"), 2) for one in line_up(["duckdb"], memory=600))
    assert ours[ours.index("--memory-limit") + 1] == "600MiB"
    assert duckdb[-2:] == ["--memory", "600"]
    with pytest.raises(ValueError, match="'pyspark=/opt/python' names no interpreter"):
        line_up(["duckdb"], ["pyspark=/opt/python"])


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Give the clean rows as a data set."""
    files = write_orders(tmp_path / "in")
    totals = Totals(4, 7, Decimal("100025.7205"))
    return Dataset(files[0].parent, 7, sum(path.stat().st_size for path in files), "csv", totals, {})


def test_absent_and_failing_contenders_are_results_too(dataset: Dataset, tmp_path: Path) -> None:
    line = [Contender("polars", "polars"), Contender("absent", "no_such_package"), Contender("broken", "csv")]
    runs = Session(line, dataset, tmp_path / "work", quiet=True).run(["cold"])
    polars, absent, broken = runs
    assert (polars.error, polars.reference) == ("", "polars")
    assert polars.agreement is not None
    assert polars.agreement.exact
    assert absent.error == "skipped: no_such_package is not installed"
    assert "No module named benchmarks.peers.broken" in broken.error
    text = render(dataset, runs)
    assert "skipped: no_such_package" in text
    assert "failed: exit code 1" in text
    assert json.loads(json.dumps([run.as_json() for run in runs], default=str))[1]["contender"] == "absent"


def test_the_reference_is_who_comes_to_the_truth(dataset: Dataset, two_runs: tuple[Path, Path]) -> None:
    change(two_runs[0], "customer_metrics", pl.col("order_count") + 1)
    wrong, right = (Run(out.name, "cold", dataset, out, totals=read_totals(out)) for out in two_runs)
    first, second = judge([wrong, right])
    assert (first.reference, second.reference) == ("two", "two")
    assert first.agreement is not None
    assert first.agreement.customers == 4
    assert "differs from two in 4 customers and 0 cohort cells" in render(dataset, [first, second])
    assert "unreadable results" in compared(right, Run("none", "cold", dataset, Path("nowhere"))).error


def test_the_fastest_turn_is_shown(dataset: Dataset, tmp_path: Path) -> None:
    measured = measure([sys.executable, "-c", ""], tmp_path / "log")
    slow = Run("polars", "cold", dataset, tmp_path, measured=measured)
    assert fastest([Run("polars", "cold", dataset, tmp_path, error="failed"), slow, slow]) == [slow]
    assert Run("polars", "cold", dataset, tmp_path, measured=measured, error="failed").wall == math.inf


@pytest.mark.slow
def test_loads_are_compared_in_a_server_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.load", "--rows", "500", "--rounds", "1", "--peers", "adbc", "--quiet"]
    places = ["--work", str(tmp_path / "work"), "--json", str(tmp_path / "figures.json")]
    ended = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    runs = json.loads((tmp_path / "figures.json").read_text())
    ours = [run for run in runs if run["loader"]["name"].startswith("daskae")]
    assert len(ours) == 6
    assert not any(run["error"] or run["wrong"] for run in ours)
