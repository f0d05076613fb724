"""Partitions that need too much memory or kill their worker: cut, run alone, named; the tables stay the same."""

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from daskae.config import load_settings
from daskae.errors import DaskaeError, MemoryLimitError, TaskKilledError
from daskae.events import Event, StageStarted, TaskDone, TaskRepeated, WorkerLost
from daskae.run.job import run_job
from daskae.summary import RunSummary
from daskae.transform.registry import register
from tests.engine.clusters import until_told
from tests.fault_log import fault, strike
from tests.support import EXACT_DUPLICATE, REPEATED_ORDER, assert_same_tables, orders_csv, read_quarantine, read_tables

ROWS = 60
COLUMNS = ["order_id", "customer_id", "order_date", "amount", "quantity"]


@register("test_fragile", reads=["order_id"])
def fragile(table: pl.DataFrame, control: str = "") -> pl.DataFrame:
    """A function that has no room for many rows, or for some; what it does is in a file, so that it stays the same."""
    orders = json.loads(Path(control).read_text()) if control else {}
    names = set(table["order_id"].to_list())
    if table.height > orders.get("most", table.height) or names & set(orders.get("too large", [])):
        fault("too little memory", "in a task, for so many rows or for some", "task")
        raise MemoryError
    if names & set(orders.get("wrong", [])):
        raise ValueError("stop here")
    if names & set(orders.get("deadly", [])):
        until_told()
        strike(os.getpid(), signal.SIGKILL, "in a task, for some rows", "worker")
    return table


@dataclass
class Scene:
    """One job over one folder of orders, and what its function is told to do."""

    folder: Path
    inputs: Path
    events: list[Event]

    def run(self, name: str, **orders: int | Sequence[str]) -> RunSummary:
        """Run it with a work directory and a target of its own."""
        control = self.folder / "control.json"
        control.write_text(json.dumps(orders))
        flags = {
            "inputs": [str(self.inputs)], "work_dir": self.folder / name / "work", "to": f"{self.folder}/{name}/out/",
            "workers": 1, "cluster_name": "inline", "block_size": 1 << 20, "rules": [EXACT_DUPLICATE, REPEATED_ORDER],
            "steps": [{"function": "test_fragile", "parameters": {"control": str(control)}}],
            **({"cluster_name": "local", "workers": 2, "memory_limit": "1GB"} if name == "dask" else {}),
        }  # fmt: skip
        self.events.clear()
        return run_job(load_settings(flags, None), (), [self.events.append]).summary

    def assert_same(self, name: str, summary: RunSummary, calm: RunSummary) -> None:
        """Compare a run with the calm one."""
        assert summary.rows == calm.rows
        assert summary.load_id == calm.load_id
        assert_same_tables(read_tables(self.folder / name / "out"), read_tables(self.folder / "calm" / "out"))
        assert read_quarantine(summary.quarantine) == read_quarantine(calm.quarantine)

    @property
    def mapped(self) -> int:
        """Partitions that the last run mapped."""
        return sum(isinstance(event, TaskDone) and event.stage == "map" for event in self.events)

    @property
    def repeated(self) -> list[TaskRepeated]:
        return [event for event in self.events if isinstance(event, TaskRepeated)]


@pytest.fixture(params=["csv", pytest.param("parquet", marks=pytest.mark.slow)])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    inputs = tmp_path / "orders"
    inputs.mkdir()
    for i in range(3):  # packed into one partition
        data = orders_csv(ROWS // 3, first=15 * i)
        if request.param == "csv":
            (inputs / f"{i}.csv").write_bytes(data)
        else:
            options = pyarrow.csv.ParseOptions(newlines_in_values=True)
            texts = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pyarrow.string()))
            table = pyarrow.csv.read_csv(pyarrow.BufferReader(data), parse_options=options, convert_options=texts)
            pq.write_table(table, inputs / f"{i}.parquet", row_group_size=7)
    return Scene(tmp_path, inputs, [])


def test_what_is_too_large_is_cut_until_it_fits(scene: Scene) -> None:
    calm = scene.run("calm")
    assert scene.mapped == 1
    found = scene.run("cut", most=12)
    scene.assert_same("cut", found, calm)
    assert scene.mapped >= ROWS // 12
    assert all(event.pieces == 2 for event in scene.repeated)
    assert found.mended[0].startswith("map ")
    assert "is cut into 2 and run alone: a task needs more memory" in found.mended[0]


def test_pieces_are_found_again(scene: Scene) -> None:
    scene.run("cut", most=12)
    mapped = scene.mapped
    again = scene.run("cut", most=12)
    assert (scene.mapped, again.reused_partitions, again.already_published) == (0, mapped, True)


def test_a_run_that_was_stopped_goes_on_with_the_pieces(scene: Scene) -> None:
    calm = scene.run("calm")
    with pytest.raises(DaskaeError, match="stop here"):
        scene.run("cut", most=12, wrong=["O40"])
    done = scene.mapped
    assert done > 0
    found = scene.run("cut", most=12)
    scene.assert_same("cut", found, calm)
    assert found.reused_partitions == done
    whole = scene.run("cut")
    assert whole.already_published
    assert scene.mapped == 0


def test_a_touched_file_keeps_its_pieces(scene: Scene) -> None:
    scene.run("cut", most=12)
    for path in scene.inputs.iterdir():
        os.utime(path, (1, 1))
    scene.run("cut", most=12)
    assert scene.mapped == 0


def test_a_new_file_beside_pieces_is_all_that_is_mapped(scene: Scene) -> None:
    scene.run("cut", most=12)
    (scene.inputs / "9.csv").write_bytes(orders_csv(5, first=500))
    found = scene.run("cut", most=12)
    assert scene.mapped == 1
    assert found.rows.read == ROWS + 5


def test_what_cannot_be_cut_is_named_and_the_others_are_done(scene: Scene) -> None:
    with pytest.raises(MemoryLimitError, match=r"cannot be cut smaller\n(.|\n)*raise --memory-limit") as raised:
        scene.run("cut", **{"too large": ["O13"]})
    assert "0." in raised.value.where
    assert "[" in raised.value.where
    done = scene.mapped
    scene.run("cut")
    (started,) = [event for event in scene.events if isinstance(event, StageStarted) and event.stage == "map"]
    assert (started.tasks, started.reused) == (scene.mapped, done)
    assert scene.mapped <= 2


@pytest.mark.slow
@pytest.mark.dask
@pytest.mark.parametrize("scene", ["csv"], indirect=True)
def test_a_deadly_part_is_named_and_the_others_are_done(scene: Scene) -> None:
    calm = scene.run("calm")
    (scene.inputs / "9.csv").write_bytes(orders_csv(5, first=500))
    with pytest.raises(TaskKilledError, match=r"died, 2 times while nothing else ran\n(.|\n)*9.csv \[\d+:\d+\]"):
        scene.run("dask", deadly=["O501"])
    losses = [event for event in scene.events if isinstance(event, WorkerLost)]
    assert {event.reason for event in losses} == {"died"}
    assert all("map_partition" in event.tasks[0] for event in losses)
    assert "0.csv" not in str(scene.repeated[-1].task)
    (scene.inputs / "9.csv").unlink()
    found = scene.run("dask")
    scene.assert_same("dask", found, calm)
