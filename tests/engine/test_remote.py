"""A scheduler somewhere else: what is checked before the first task, and code that its workers do not have."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars
import pytest

import daskae.units
import tests.support
from daskae.config import ClusterSettings
from daskae.engine.base import Needs
from daskae.engine.create import create_engine
from daskae.engine.parcel import is_own
from daskae.engine.probe import PACKAGES, require_memory, require_same_versions
from daskae.errors import EngineError, PlanError, WorkersUnavailableError
from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.read.discover import find_files, scan_files
from daskae.read.reachable import MOST, look_at_sources, some_sources
from tests.engine.clusters import Cluster
from tests.engine.test_engines import values
from tests.support import ROOT, assert_same_tables, fork_script, orders_csv, read_tables

pytestmark = pytest.mark.dask


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers with 600 MB each."""
    with Cluster(tmp_path_factory.mktemp("cluster"), workers=2, memory="600MB") as started:
        yield started


def settings(**values: Any) -> ClusterSettings:
    return ClusterSettings(start_timeout="60s", **values)


def enter(cluster: Cluster, needs: Needs) -> None:
    with create_engine(cluster.address, settings(), needs=needs) as engine:
        assert values(engine.run(len, ["task"])) == {0: 4}


def test_workers_that_see_everything_are_taken(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    needs = Needs(400 << 20, tmp_path / "work", look_at_sources, sources(tmp_path / "in"))
    enter(cluster, needs)
    assert list((tmp_path / "work").iterdir()) == []


def sources(folder: Path) -> tuple[Segment, ...]:
    (folder / "a.csv").write_bytes(orders_csv(5))
    return some_sources(scan_files(find_files([str(folder)]), Dialect(), 1 << 20, None, 1))


def test_a_worker_without_the_work_directory_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    # Below /proc/self every process sees a folder of its own, as hosts without a shared file system do.
    folder = Path("/proc/self/fd") / str(os.open(tmp_path, os.O_RDONLY))
    with pytest.raises(
        EngineError, match=r"a worker does not see the work directory\n  where:   worker (.|\n)*next: .*--work-dir"
    ):
        enter(cluster, Needs(0, folder))


def test_a_worker_without_the_input_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    (seen,) = sources(tmp_path)
    gone = replace(seen, path=str(tmp_path / "elsewhere.csv"))
    with pytest.raises(EngineError, match=r"a worker does not see the input\n.*worker(.|\n)*elsewhere.csv"):
        enter(cluster, Needs(0, tmp_path / "work", look_at_sources, (gone,)))
    other = replace(seen, identity="1-2-3")
    with pytest.raises(EngineError, match=r"a worker does not see the input\n(.|\n)*not the one that was planned"):
        enter(cluster, Needs(0, tmp_path / "work", look_at_sources, (other,)))


def test_a_worker_with_too_little_memory_is_refused(cluster: Cluster) -> None:
    with pytest.raises(
        PlanError,
        match=r"more memory than a worker has\n(.|\n)*90% of its limit are 515.0 MiB, for 1 task",
    ):
        enter(cluster, Needs(600 << 20))


@pytest.mark.parametrize(("limit", "threads", "fits"), [(450, 4, True), (450, 5, False), (0, 1, True)])
def test_memory_is_shared_by_the_threads_of_a_worker(limit: int, threads: int, fits: bool) -> None:
    workers = {"tcp://a:1": {"name": "one", "memory_limit": limit, "nthreads": threads}}
    if fits:
        require_memory(workers, 100)
    else:
        with pytest.raises(PlanError, match="worker one at tcp://a:1"):
            require_memory(workers, 100)


@pytest.mark.parametrize("name", PACKAGES)
def test_other_versions_are_refused(name: str) -> None:
    same: dict[str, str | None] = dict.fromkeys(PACKAGES, "1.0")
    found_there = dict(same)
    versions = {"client": {"packages": same}, "workers": {"tcp://a:1": {"packages": found_there}}}
    require_same_versions(versions, {})
    for found, text in (("0.9", "0.9"), (None, "not installed")):
        found_there[name] = found
        with pytest.raises(
            EngineError, match=rf"another version than the driver\n.*{name} on worker tcp://a:1\n.*{text}"
        ):
            require_same_versions(versions, {})


def test_no_worker_in_time_is_told(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path, workers=0) as empty,
        pytest.raises(WorkersUnavailableError, match=r"no worker came(.|\n)*start_timeout = 1s") as raised,
        create_engine(empty.address, ClusterSettings(start_timeout="1s")) as engine,
    ):
        values(engine.run(len, ["task"]))
    assert raised.value.exit_code == 75


def test_a_sample_of_many_sources_is_looked_at(tmp_path: Path) -> None:
    (one,) = sources(tmp_path)
    many = [replace(one, path=f"{i}") for i in range(10 * MOST + 3)]
    assert MOST // 2 < len(some_sources(many)) <= MOST
    assert some_sources([replace(one, kind="sql")]) == ()


def test_code_outside_of_installed_packages_travels_along() -> None:
    assert [is_own(module) for module in (json, polars, daskae.units, tests.support)] == [False, False, False, True]


SCRIPT = """
import polars as pl

import helpers
from daskae.aggregate import FrameMetric, metric
from daskae.transform.registry import register
from daskae.transform.steps import Step
from daskae.validate import RowRule
from jobs.customer_metrics import main


@register("shout", frame=True)
def shout(frame):
    frame["amount"] = helpers.double(frame["amount"])
    return frame


rules = [RowRule("odd", lambda orders: orders["amount"] < helpers.MOST, frame=True)]
largest = metric("largest_order", pl.col("amount").max(), combine="max", kind="money")
weekend = FrameMetric("weekend_orders", helpers.weekend, kind="integer")
if __name__ == "__main__":
    raise SystemExit(main(metrics=[largest, weekend], rules=rules, steps=[Step(function="shout")]))
"""
HELPERS = """
MOST = 170


def double(values):
    return values * 2


def weekend(orders):
    return (orders["order_date"].dt.dayofweek >= 5).groupby(orders["customer_id"]).sum()
"""


def test_a_script_with_a_module_that_workers_do_not_have(cluster: Cluster, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (tmp_path / "in").mkdir()
    mine.mkdir()
    (mine / "script.py").write_text(SCRIPT)
    (mine / "helpers.py").write_text(HELPERS)
    (tmp_path / "in" / "a.csv").write_bytes(orders_csv(300))
    calm_argv, remote_argv = (
        [str(tmp_path / "in"), "--to", f"{tmp_path}/{name}/out/", "--work-dir", f"{tmp_path}/{name}/work",
         "--cluster", engine, "--block-size", "4KiB", "--quiet"]
        for name, engine in (("calm", "inline"), ("remote", cluster.address))
    )  # fmt: skip
    assert fork_script(mine / "script.py", calm_argv)[0] == 0
    command = [sys.executable, str(mine / "script.py"), *remote_argv]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path).returncode == 0
    calm, remote = (read_tables(tmp_path / name / "out") for name in ("calm", "remote"))
    assert {"largest_order", "weekend_orders"} <= set(remote["customer_metrics"].column_names)
    assert_same_tables(remote, calm)
