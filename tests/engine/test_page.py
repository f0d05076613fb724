"""The page on the dashboard: there when asked for, on loopback, with the figures of the run."""

import os
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from daskae.config import load_settings
from daskae.engine.base import INLINE, LOCAL
from daskae.engine.create import create_engine
from daskae.engine.page import PATH, describe_snapshot, describe_way
from daskae.events import Event, Noted, StageDone, StageStarted, TaskDone
from daskae.monitor.board import Board
from daskae.run.job import run_job
from tests.support import orders_csv

GIB = 1 << 30


class Spectator:
    """Listener that looks at the page when the map stage has ended, while the cluster is still there."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.status, self.texts = 0, ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.notes.append(event.message)
        if isinstance(event, StageDone) and event.stage == "reduce":
            port = urlsplit(self.notes[0].split()[1].rstrip(",")).port
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{PATH}", timeout=30) as answer:
                self.status = answer.status
            self.texts = page_texts(port)


def page_texts(port: int | None) -> str:
    """All texts that a browser would show."""
    from bokeh.client import pull_session
    from bokeh.models import Div

    session = pull_session(url=f"http://127.0.0.1:{port}{PATH}")
    try:
        return " ".join(str(item.text) for item in session.document.select({"type": Div}))
    finally:
        session.close()


@pytest.mark.slow
@pytest.mark.dask
def test_the_page_shows_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(orders_csv(2000))
    spectator = Spectator()
    flags: dict[str, Any] = {"inputs": [str(tmp_path / "a.csv")], "to": f"{tmp_path}/out/", "workers": 2}
    flags |= {"work_dir": tmp_path / "work", "cluster_name": "local", "block_size": "16KiB"}
    summary = run_job(load_settings({**flags, "cluster": {"dashboard": True}}, None), listeners=[spectator]).summary
    assert len(spectator.notes) == 1
    assert spectator.notes[0].startswith("dashboard: http://127.0.0.1:")
    assert spectator.status == 200
    assert summary.run_id in spectator.texts
    assert f"<th align='left'>rejected rows</th><td>{summary.rows.rejected}</td>" in spectator.texts
    assert "measured at most" in spectator.texts
    assert "MiB projected" in spectator.texts


@pytest.mark.dask
def test_there_is_no_page_unless_asked_for() -> None:
    settings = load_settings({}, None).cluster
    for name in (INLINE, LOCAL):
        with create_engine(name, settings, 1, GIB) as engine:
            assert engine.show() is None


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        ("tcp://127.0.0.1:1", {}, None),
        ("tcp://127.0.0.1:1", {"SSH_CONNECTION": "a"}, os.uname().nodename),
        ("tls://10.1.2.3:1", {"SLURM_JOB_ID": "7"}, "10.1.2.3"),
        ("tls://10.1.2.3:1", {}, "10.1.2.3"),
    ],
)
def test_the_way_to_the_page(address: str, environment: dict[str, str], expected: str | None) -> None:
    text = describe_way("http://127.0.0.1:4567/status", address, environment)
    assert text.startswith("dashboard: http://127.0.0.1:4567/daskae")
    if expected is None:
        assert "ssh" not in text
    else:
        assert "ssh -L 4567:127.0.0.1:4567 " in text
        assert text.endswith(f"@{expected}")


def test_what_is_shown_is_escaped() -> None:
    assert "no run has reported" in describe_snapshot(None)
    snapshot: dict[str, Any] = dict.fromkeys(("done", "tasks", "reused", "rows", "rate", "rejected"), 1)
    snapshot |= {"run_id": "<b>", "stage": "map", "peak_bytes": 3 << 20, "projected_bytes": 5 << 20, "elapsed": 4.0}
    text = describe_snapshot(snapshot)
    assert "&lt;b&gt;" in text
    assert "3.0 MiB measured at most, 5.0 MiB projected" in text


def test_snapshots_are_few_and_count_rejects() -> None:
    now = [0.0]
    sent: list[dict[str, Any]] = []
    board = Board(sent.append, "run", 10, lambda: now[0])
    board(StageStarted("map", 300))
    for _ in range(300):
        now[0] += 0.01
        board(TaskDone("map", "a", 10, 100, 7, 0.1, 2))
    board(StageDone("map", 3.0))
    assert 3 <= len(sent) <= 6
    assert sent[-1] == {
        "run_id": "run", "stage": "map", "done": 300, "tasks": 300, "reused": 0, "rows": 3000,
        "rate": pytest.approx(1000), "rejected": 600, "peak_bytes": 7, "projected_bytes": 10,
        "elapsed": pytest.approx(3),
    }  # fmt: skip


def test_a_spectator_that_is_gone_does_not_matter() -> None:
    def gone(_: dict[str, Any]) -> None:
        raise OSError("gone")

    board = Board(gone, "run", 10)
    board(StageStarted("map", 3))
    board(StageDone("map", 3.0))
