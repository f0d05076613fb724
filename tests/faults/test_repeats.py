"""Functions of a person's own that do not give the same again are found out and named."""

import itertools
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import psutil
import pytest

from daskae.aggregate import FrameMetric
from daskae.config import load_settings
from daskae.errors import DaskaeError
from daskae.repeats import require_same_values
from daskae.run.job import run_job
from daskae.transform.registry import register
from daskae.transform.steps import Step
from daskae.validate import RowRule
from tests.engine.clusters import Cluster
from tests.fault_log import fault
from tests.support import ROOT, read_table, until

from .checker import numbered_orders
from .jobs import PATIENCE

COUNTER = itertools.count()


@register("faults_lots", adds={"lot": "float"})
def lots(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.Series("lot", [random.random() for _ in range(table.height)], pl.Float64))


@register("faults_counter", adds={"n": "integer"})
def counter(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.Series("n", [next(COUNTER) for _ in range(table.height)], pl.Int64))


@register("faults_share", adds={"share": "float"})
def share(table: pl.DataFrame) -> pl.DataFrame:
    amount = pl.col("amount").cast(pl.Float64)
    return table.with_columns((amount / amount.sum()).alias("share"))


@register("faults_codes", adds={"code": "integer"})
def codes(table: pl.DataFrame) -> pl.DataFrame:
    """Number the customers in the order of a set."""
    names = table["customer_id"].fill_null("").to_list()
    numbers = {name: number for number, name in enumerate(set(names))}
    return table.with_columns(pl.Series("code", [numbers[name] for name in names], pl.Int64))


@register("faults_honest", adds={"twice": "float"})
def honest(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns((pl.col("amount").cast(pl.Float64) * 2).sqrt().alias("twice"))


def start(tmp_path: Path, **own: Any) -> Any:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "orders.csv"
    path.write_bytes(numbered_orders(600))
    settings = load_settings(
        {"inputs": [str(path)], "to": f"{tmp_path}/out/", "work_dir": tmp_path / "work", "cluster_name": "inline",
         "money": {"scale": 0}, "validation": {"check_determinism": own.pop("check", True)}}, None,
    )  # fmt: skip
    return run_job(settings, **own)


@pytest.mark.parametrize(
    ("name", "column"),
    [("faults_lots", "lot"), ("faults_counter", "n"), ("faults_share", "share"), ("faults_codes", "code")],
)
def test_a_step_that_gives_other_values_is_named(name: str, column: str, tmp_path: Path) -> None:
    fault("unstable function", f"a step, {name.removeprefix('faults_')}")
    with pytest.raises(DaskaeError, match=rf"other values when it is called again(.|\n)*step {name}(.|\n)*{column}"):
        start(tmp_path, steps=[Step(function=name)])
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("customer_metrics/*"))


def test_a_rule_that_gives_other_verdicts_is_named(tmp_path: Path) -> None:
    rule = RowRule("coin", lambda frame: pd.Series([random.random() < 0.5 for _ in range(len(frame))]), frame=True)
    fault("unstable function", "a rule, by chance")
    with pytest.raises(DaskaeError, match=r"other values when it is called again(.|\n)*rule coin"):
        start(tmp_path, rules=[rule])


def test_a_rule_that_goes_by_the_order_of_a_set_is_named(tmp_path: Path) -> None:
    def is_among_the_first(frame: pd.DataFrame) -> pd.Series:
        return frame["customer_id"].isin(list(set(frame["customer_id"]))[:10])

    fault("unstable function", "a rule, by the order of a set")
    with pytest.raises(DaskaeError, match=r"other values when it is called again(.|\n)*rule early"):
        start(tmp_path, rules=[RowRule("early", is_among_the_first, frame=True)])


SCRIPT = """
import polars as pl

from daskae.transform.registry import register
from daskae.transform.steps import Step
from jobs.customer_metrics import main


@register("any_name", adds={"customer_id": "text"})
def any_name(table):
    names = [next(iter({f"{name}-{i}" for i in range(9)})) for name in table["order_id"].to_list()]
    return table.with_columns(pl.Series("customer_id", names, pl.String))


@register("codes", adds={"code": "integer"})
def codes(table):
    names = table["order_id"].to_list()
    numbers = {name: number for number, name in enumerate(set(names))}
    return table.with_columns(pl.Series("code", [numbers[name] for name in names], pl.Int64))


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[2:], steps=[Step(function=sys.argv[1])]))
"""


def run_script(tmp_path: Path, name: str, target: str, *flags: str, **environment: str) -> tuple[int, str]:
    """Run a person's script with one of its functions; exit code and errors."""
    script = start_script(tmp_path, name, target, *flags, **environment)
    errors = script.communicate()[1]
    return script.returncode, errors


def start_script(tmp_path: Path, name: str, target: str, *flags: str, **environment: str) -> subprocess.Popen[str]:
    """Start a person's script with one of its functions."""
    script, orders = tmp_path / "script.py", tmp_path / "orders.csv"
    script.write_text(SCRIPT)
    rows = [f"O{i},C{i},2024-01-05,1" for i in range(600)]
    if not orders.exists():
        orders.write_text("\n".join(["order_id,customer_id,order_date,amount", *rows]) + "\n")
    argv = [name, str(orders), "--to", f"{tmp_path}/{target}/", "--work-dir", f"{tmp_path}/work-{target}", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, str(script), *argv, "--quiet"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_a_metric_that_gives_other_values_is_named(tmp_path: Path) -> None:
    metric = FrameMetric("luck", lambda orders: orders.groupby("customer_id").size() * random.random(), kind="float")
    fault("unstable function", "a metric, by chance")
    with pytest.raises(DaskaeError, match=r"other values when it is called again(.|\n)*metric luck"):
        start(tmp_path, metrics=[metric])


def test_honest_functions_and_those_asked_to_pass_do(tmp_path: Path) -> None:
    start(tmp_path, steps=[Step(function="faults_honest")])
    start(tmp_path / "other", steps=[Step(function="faults_lots")], check=False)


def test_a_difference_in_the_last_digits_of_a_float_is_none() -> None:
    require_same_values(pl.DataFrame({"x": [0.1 + 0.2, float("nan")]}), pl.DataFrame({"x": [0.3, float("nan")]}), "it")
    require_same_values(pl.DataFrame({"x": [1.5, None]}), pl.DataFrame({"x": [1.5]}), "it")
    with pytest.raises(DaskaeError, match="column x"):
        require_same_values(pl.DataFrame({"x": [0.1, None]}), pl.DataFrame({"x": [0.1, float("nan")]}), "it")


@pytest.mark.slow
@pytest.mark.dask
def test_workers_that_hash_otherwise_name_it_too(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster", workers=0) as cluster:
        for seed in ("1", "2"):
            cluster.worker(f"w{seed}", PYTHONHASHSEED=seed)
        fault("unstable function", "a step, by the hashes of two workers", "worker")
        code, errors = run_script(tmp_path, "codes", "out", "--cluster", str(cluster.file))
    assert code == 1
    assert "other values when it is called again" in errors
    assert "step codes" in errors


@pytest.mark.slow
def test_what_is_the_same_within_a_process_is_not_seen(tmp_path: Path) -> None:
    """The order of a set of texts is, so nothing tells that two processes would make different rows of it."""
    found = []
    for seed in ("1", "2"):
        code, errors = run_script(tmp_path, "any_name", seed, "--cluster", "inline", PYTHONHASHSEED=seed)
        assert code == 0, errors
        found.append(read_table(tmp_path / seed / "customer_metrics")["customer_id"].to_pylist())
    assert len(found[0]) == len(found[1]) == 600
    assert found[0] != found[1]


@pytest.mark.slow
@pytest.mark.parametrize("check", ["true", "false"])
def test_two_attempts_of_a_part_with_other_results_are_told(check: str, tmp_path: Path) -> None:
    """The second takes the work of the first over while that is stopped, as after a pause of the machine."""
    setting = {"DASKAE_VALIDATION__CHECK_DETERMINISM": check}
    stop = {**setting, "DASKAE_STOP_AT": "exchange.before_commit"}
    fault("unstable function", "a step, by the hashes of two drivers", "driver")
    first = start_script(tmp_path, "any_name", "out", "--cluster", "inline", PYTHONHASHSEED="1", **stop)
    until(lambda: psutil.Process(first.pid).status() == psutil.STATUS_STOPPED, "the stop")
    code, errors = run_script(tmp_path, "any_name", "out", "--cluster", "inline", PYTHONHASHSEED="2", **setting)
    assert code == 0, errors
    first.send_signal(signal.SIGCONT)
    errors = first.communicate(timeout=PATIENCE)[1]
    if check == "true":
        assert first.returncode == 1
        assert "a task gave another result when it was run again" in errors
        assert "the order of a set" in errors
    else:
        assert first.returncode == 0, errors
