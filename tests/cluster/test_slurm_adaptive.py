"""Slurm jobs that follow the work: none is cancelled while one of its processes has something to do."""

from pathlib import Path

import pytest

from daskae.config import ClusterSettings
from daskae.config.clusters import AdaptiveSettings, SlurmSettings
from daskae.engine.base import SLURM, Needs
from daskae.engine.dask import DaskEngine
from tests.cluster.slurm import Slurm
from tests.engine.working import Work, notes, processes, work, workers

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(900)]
WORKER = "daskae-worker"


@pytest.mark.parametrize("each", [1, 2])
def test_jobs_end_while_a_task_of_another_goes_on(
    each: int, slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    settings = ClusterSettings(
        start_timeout="240s",
        adaptive=AdaptiveSettings(minimum=1, maximum=2 * each),
        slurm=SlurmSettings(processes=each, memory="1200MB", walltime="00:10:00", interface="lo"),
    )
    items = [Work(tmp_path, "long"), *(Work(tmp_path, f"short{i}", 1.0) for i in range(16))]
    with DaskEngine(SLURM, settings, needs=Needs(0, tmp_path / "work")) as engine:
        outcomes = engine.run(work, items)
        found = [next(outcomes).value for _ in range(16)]
        assert "long" not in found
        slurm.until(lambda: len(slurm.running(WORKER)) == 1, "the job without work to end")
        slurm.until(lambda: len(workers(engine)) == each, "its workers to leave")
        items[0].let_go()
        found += [outcome.value for outcome in outcomes]
        assert sorted(found) == sorted(item.name for item in items)
        assert len(processes(tmp_path)) == 2 * each
    assert set(notes(tmp_path, "begun").values()) == {1}
    assert set(notes(tmp_path, "done").values()) == {1}
    slurm.until(lambda: not slurm.call("squeue", "-h"), "an empty queue", 60)
