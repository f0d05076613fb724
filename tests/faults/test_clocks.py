"""Wall clocks that are wrong or jump: the result is the same, ids stay apart, and nothing is waited for by them."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fault_log import fault
from tests.support import ROOT, read_quarantine, read_table, until, write_settings

from .checker import fingerprint
from .jobs import Calm, Job

# Where the time of day is looked at: for people, for what is older than a day, for the end of a batch job. Loads note
# when they were.
LOOK_AT_THE_CLOCK = {
    "daskae/events.py",
    "daskae/read/discover.py",
    "daskae/run/context.py",
    "daskae/run/deadline.py",
    "daskae/run/sweep.py",
}


# Where a process crashes, its threads say where they were.
FAKE = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONFAULTHANDLER": "1"}
# Libfaketime reads its settings once. If it does at each look at the clock, it reads the environment while other
# threads, as those that start Dask's workers, write to it, and the process crashes now and then.
STEADY = {**FAKE, "FAKETIME_CACHE_DURATION": "1000000"}
needs_faketime = pytest.mark.skipif(
    shutil.which("faketime") is None, reason="there is no faketime command (Debian: faketime)"
)


def test_waits_and_orders_do_not_use_the_time_of_day() -> None:
    found = set()
    for path in sorted((ROOT / "daskae").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "datetime.now", "date.today"):
                found.add(str(path.relative_to(ROOT)))
    assert {name for name in found if not name.startswith("daskae/load/")} == LOOK_AT_THE_CLOCK


def run_at(job: Job, clock: str, **environment: str) -> dict[str, Any]:
    """Run a job whose clock is wrong; the monotonic clock goes on as it does."""
    fault("false clock", f"{clock} {environment.get('TZ', '')}".rstrip(), f"driver ({job.engine})")
    return run_with(job, ["faketime", "-f", clock], **STEADY, **environment)


def run_with(job: Job, before: Sequence[str] = (), **environment: str) -> dict[str, Any]:
    """Run a job in a process of its own that has a zone and a clock from its start on."""
    job.folder.mkdir(exist_ok=True)
    command = [*before, sys.executable, "-m", "jobs.customer_metrics", *job.argv]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.mark.slow
@needs_faketime
def test_a_clock_that_jumps_between_runs(calm: Calm, job: Job) -> None:
    ids = set()
    for clock in ("+1d", "-400d x20"):
        document = run_at(job, clock)
        calm.assert_equal(job, document)
        ids.add(document["run_id"])
    assert len(ids) == len(list((job.folder / "work" / "runs").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.dask
@needs_faketime
@pytest.mark.parametrize("clock", ["-1d", "+1d x5"])
def test_worker_processes_whose_clock_is_wrong(clock: str, calm: Calm, job: Job) -> None:
    job = replace(job, engine="local", block="1KiB")
    calm.assert_equal(job, run_at(job, clock))


@pytest.mark.slow
@needs_faketime
@pytest.mark.parametrize(
    ("zone", "begin"),
    [("Europe/Berlin", "@2024-03-31 01:30:00"), ("Europe/Berlin", "@2023-10-29 01:30:00"),
     ("America/New_York", "@2024-03-10 01:30:00"), ("Australia/Lord_Howe", "@2024-04-07 01:10:00")],
)  # fmt: skip
def test_clocks_are_changed_for_summer_during_the_run(zone: str, begin: str, calm: Calm, job: Job) -> None:
    """An hour takes a second, so the change comes in the middle."""
    calm.assert_equal(job, run_at(job, f"{begin} x3600", TZ=zone))


@pytest.mark.slow
@needs_faketime
@pytest.mark.parametrize(("first", "then"), [("+0", "-1d"), ("+0", "+1d"), ("+400d", "-400d")])
@pytest.mark.parametrize("point", ["exchange.after_commit:2", "turn.published", "report.before_manifest"])
def test_a_clock_that_jumps_during_the_run(first: str, then: str, point: str, calm: Calm, job: Job) -> None:
    library = subprocess.run(
        ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    clock = job.folder.parent / "clock"
    clock.write_text(first)
    job.folder.mkdir()
    environment = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1", **FAKE}
    with (job.folder / "stdout.json").open("wb") as output:
        command = [sys.executable, "-m", "jobs.customer_metrics", *job.argv]
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=output,
            env={**os.environ, **environment, "DASKAE_STOP_AT": point},
        )  # fmt: skip
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED, f"the stop at {point}")
    clock.write_text(then)
    fault("clock jump", f"from {first} to {then} at {point}", "driver")
    psutil.Process(child.pid).resume()
    assert child.wait(120) == 0
    calm.assert_equal(job, job.document())
    assert all(seconds >= 0 for seconds in job.document()["seconds"].values())


# Local times that a zone skips or has twice, the ends of days and years, and times of other zones.
TIMES = ["2023-03-26 02:30:00", "2023-10-29 02:30:00", "2023-03-12 02:30:00", "2023-01-01 00:00:00",
         "2022-12-31 23:59:59", "2023-03-26T02:30:00+02:00", "2023-10-29T02:30:00Z", "2023-06-30T23:30:00-10:00",
         "1970-01-01 00:00:00", "1900-01-01 00:00:01", "2023-02-29 10:00:00"]  # fmt: skip


def write_times(folder: Path, kind: str) -> None:
    """Make orders at difficult times, as texts or as what a Parquet file has for them."""
    folder.mkdir()
    if kind == "csv":
        rows = [f"O{i},C{i % 4},{time},{i + 1}.50" for i, time in enumerate(TIMES)]
        (folder / "orders.csv").write_text("\n".join(["order_id,customer_id,order_date,amount", *rows]) + "\n")
        return
    times = pa.array([datetime.fromisoformat(time).replace(tzinfo=None) for time in TIMES[:-1]], pa.timestamp("us"))
    columns = {
        "order_id": [f"O{i}" for i in range(len(times))],
        "customer_id": [f"C{i % 4}" for i in range(len(times))],
    }
    table = pa.table({**columns, "amount": [i + 1 for i in range(len(times))]})
    pq.write_table(table.append_column("order_date", times), folder / "naive.parquet")
    zoned = times.cast(pa.timestamp("us", "America/New_York"))
    pq.write_table(table.append_column("order_date", zoned), folder / "zoned.parquet")


ZONES = ["Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns", "Asia/Kolkata", ":/etc/localtime", "nonsense/zone"]


@pytest.mark.parametrize(
    ("kind", "target"),
    [("csv", "out/"), pytest.param("csv", "metrics.db", marks=pytest.mark.slow),
     pytest.param("parquet", "out/", marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_zone_of_the_process_does_not_matter(kind: str, target: str, tmp_path: Path) -> None:
    write_times(tmp_path / "in", kind)
    config = write_settings(tmp_path / "settings.toml", input={"timezone": "Europe/Berlin"})
    found: list[Any] = []
    for zone in ["UTC", *(ZONES[:1] if (kind, target) == ("csv", "out/") else ZONES)]:
        job = Job(tmp_path / "in", config, tmp_path / f"job-{len(found)}", target=target)
        began = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        document = run_with(job, TZ=zone)
        assert document["rows"]["accepted"] > 5
        rejected = read_quarantine(document["quarantine"]) if document["quarantine"] else []
        tables: Any = fingerprint(job.tables()) if target == "out/" else job.rows()
        found.append((document["rows"], document["kpis"], document["load_id"], rejected, tables))
        if target == "out/":
            (loaded,) = set(read_table(job.folder / "out" / "kpis")["_loaded_at"].to_pylist())
            assert began <= loaded <= datetime.now(UTC).replace(tzinfo=None), "times of loads are in UTC"
    assert all(one == found[0] for one in found)
