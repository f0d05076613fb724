"""A task that hangs is not answered with silence."""

import json
import threading
from pathlib import Path

import polars as pl
import pytest

from daskae.config import load_settings
from daskae.events import Event, StillRunning
from daskae.run.job import run_job
from daskae.transform.registry import register
from daskae.transform.steps import Step
from tests.fault_log import fault

from .checker import numbered_orders

HEARD = threading.Event()


@register("faults_wait_until_heard", adds={})
def wait_until_heard(table: pl.DataFrame) -> pl.DataFrame:
    fault("hanging task", "until it is heard of", "task")
    assert HEARD.wait(60), "no word in a minute"
    return table


def listen(event: Event) -> None:
    if isinstance(event, StillRunning) and event.stage == "map":
        HEARD.set()


@pytest.mark.timeout(90)
def test_a_hanging_task_is_named_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(numbered_orders(20))
    settings = load_settings(
        {"inputs": [str(path)], "to": f"{tmp_path}/out/", "work_dir": tmp_path / "work", "cluster_name": "inline",
         "workers": 1, "money": {"scale": 0}, "cluster": {"heartbeat": "0.1s"}}, None,
    )  # fmt: skip
    HEARD.clear()
    summary = run_job(settings, listeners=[listen], steps=[Step(function="faults_wait_until_heard")]).summary
    folder = Path(summary.run_dir)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    still = [event for event in events if event["event"] == "StillRunning" and event["stage"] == "map"]
    assert still[0]["tasks"] == [f"orders.csv [0:{path.stat().st_size}]"]
    assert "map: nothing has ended for 1 s; waiting for orders.csv [0:" in (folder / "run.log").read_text()
