"""Functions of a person's own that do not give the same again are found out and named."""

import itertools
import random
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from daskae.aggregate import FrameMetric
from daskae.config import load_settings
from daskae.errors import DaskaeError
from daskae.repeats import require_same_values
from daskae.run.job import run_job
from daskae.transform.registry import register
from daskae.transform.steps import Step
from daskae.validate import RowRule

from .checker import numbered_orders

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
    ("name", "column"), [("faults_lots", "lot"), ("faults_counter", "n"), ("faults_share", "share")]
)
def test_a_step_that_gives_other_values_is_named(name: str, column: str, tmp_path: Path) -> None:
    with pytest.raises(DaskaeError, match=rf"other values when it is called again(.|\n)*step {name}(.|\n)*{column}"):
        start(tmp_path, steps=[Step(function=name)])
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("customer_metrics/*"))


def test_a_rule_that_gives_other_verdicts_is_named(tmp_path: Path) -> None:
    rule = RowRule("coin", lambda frame: pd.Series([random.random() < 0.5 for _ in range(len(frame))]), frame=True)
    with pytest.raises(DaskaeError, match=r"other values when it is called again(.|\n)*rule coin"):
        start(tmp_path, rules=[rule])


def test_a_metric_that_gives_other_values_is_named(tmp_path: Path) -> None:
    metric = FrameMetric("luck", lambda orders: orders.groupby("customer_id").size() * random.random(), kind="float")
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
