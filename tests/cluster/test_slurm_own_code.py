"""Rules, steps and metrics from a plain folder, under Slurm: nodes have them on no path, and the result is the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.jobs import SCRIPTS, SMALL
from tests.cluster.slurm import Slurm
from tests.faults.checker import fingerprint
from tests.support import assert_same_tables, orders_csv, read_tables, write_settings

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(900)]
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


rules = [RowRule("odd", helpers.is_small, frame=True)]
largest = metric("largest_order", pl.col("amount").max(), combine="max", kind="money")
weekend = FrameMetric("weekend_orders", helpers.weekend, kind="integer")
if __name__ == "__main__":
    raise SystemExit(main(metrics=[largest, weekend], rules=rules, steps=[Step(function="shout")]))
"""
HELPERS = """
import json
import os
import sys

from rates import MOST


def double(values):
    return values * 2


def is_small(orders):
    with open(f"{os.environ['SEEN']}/{os.getpid()}", "w") as file:
        json.dump({"program": sys.argv[0], "path": [os.getcwd(), *sys.path]}, file)
    return orders["amount"] < MOST


def weekend(orders):
    return (orders["order_date"].dt.dayofweek >= 5).groupby(orders["customer_id"]).sum()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to run in, beside that of the script, the settings, and the input."""
    mine = tmp_path / "mine"
    for path in (mine, tmp_path / "in", tmp_path / "seen", tmp_path / "here"):
        path.mkdir()
    (mine / "script.py").write_text(SCRIPT)
    (mine / "helpers.py").write_text(HELPERS)
    (mine / "rates.py").write_text("MOST = 170\n")
    (tmp_path / "in" / "a.csv").write_bytes(orders_csv(400))
    jobs = {"jobs": 2, "memory": "1200MB", "walltime": "00:10:00", "interface": "lo"}
    write_settings(mine / "slurm.toml", cluster={"start_timeout": "240s"}, **{"cluster.slurm": jobs})
    return tmp_path


def arguments(folder: Path, name: str) -> list[str]:
    places = ["--to", f"{folder}/{name}/out/", "--work-dir", f"{folder}/{name}/work"]
    return [str(folder / "in"), *places, "--block-size", "4KiB", "--quiet"]


def run(folder: Path, environment: dict[str, str], *more: str, **variables: str) -> None:
    """Run the script, from another folder than its own."""
    done = subprocess.run(
        [sys.executable, str(folder / "mine" / "script.py"), *more], cwd=folder / "here",
        env={**environment, **variables}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("way", ["jobqueue", "job.sbatch"])
def test_a_script_and_its_modules_travel_to_the_nodes(way: str, slurm: Slurm, folder: Path) -> None:
    script, seen = folder / "mine" / "script.py", folder / "seen"
    run(folder, slurm.environment, *arguments(folder, "calm"), "--cluster", "inline", SEEN=str(folder / "here"))
    if way == "jobqueue":
        config = ("--cluster", "slurm", "--config", str(folder / "mine" / "slurm.toml"))
        run(folder, slurm.environment, *arguments(folder, "slurm"), *config, SEEN=str(seen))
    else:
        variables = {"PYTHON": sys.executable, "JOB": str(script), "INTERFACE": "lo", "SEEN": str(seen)}
        batch = str(SCRIPTS / "job.sbatch")
        number = slurm.submit(*SMALL, batch, *arguments(folder, "slurm"), cwd=folder / "here", **variables)
        assert slurm.wait(number) == "COMPLETED", (folder / "here" / f"daskae-{number}.out").read_text()
    workers = [item for path in seen.iterdir() if (item := json.loads(path.read_text()))["program"] != str(script)]
    assert workers
    assert not [item for item in workers if str(script.parent) in item["path"]]
    found, calm = (read_tables(folder / name / "out") for name in ("slurm", "calm"))
    assert {"largest_order", "weekend_orders"} <= set(found["customer_metrics"].column_names)
    assert_same_tables(found, calm)
    assert fingerprint(found) == fingerprint(calm)
