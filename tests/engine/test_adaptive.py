"""Clusters that follow the work: what runs while workers are sent away is done once, and no work is lost."""

from pathlib import Path

import pytest

from daskae.config import ClusterSettings
from daskae.config.clusters import AdaptiveSettings
from daskae.engine.base import LOCAL
from daskae.engine.dask import DaskEngine
from tests.engine.test_clusters import GIB
from tests.engine.test_engines import values
from tests.engine.working import Work, notes, processes, work, workers
from tests.support import until


def adaptive(minimum: int, maximum: int) -> ClusterSettings:
    return ClusterSettings(adaptive=AdaptiveSettings(minimum=minimum, maximum=maximum))


@pytest.mark.slow
@pytest.mark.dask
def test_a_task_goes_on_while_the_other_workers_leave(tmp_path: Path) -> None:
    items = [Work(tmp_path, "long"), *(Work(tmp_path, f"short{i}", 0.3) for i in range(12))]
    with DaskEngine(LOCAL, adaptive(1, 3), None, GIB) as engine:
        outcomes = engine.run(work, items)
        found = [next(outcomes).value for _ in range(12)]
        assert "long" not in found
        until(lambda: len(workers(engine)) == 1, "workers without work to leave")
        items[0].let_go()
        found += [outcome.value for outcome in outcomes]
    assert sorted(found) == sorted(item.name for item in items)
    assert len(processes(tmp_path)) > 1
    assert set(notes(tmp_path, "begun").values()) == {1}
    assert set(notes(tmp_path, "done").values()) == {1}


@pytest.mark.slow
@pytest.mark.dask
def test_work_that_comes_in_waves(tmp_path: Path) -> None:
    # Between two waves workers leave; the next wave begins at any moment of that.
    with DaskEngine(LOCAL, adaptive(1, 3), None, GIB) as engine:
        for wave in range(8):
            items = [Work(tmp_path, f"{wave}-{i}", 0.2 if i else 3.5 + wave * 0.27) for i in range(6)]
            assert len(values(engine.run(work, items))) == 6
    assert len(processes(tmp_path)) > 3  # some have left, and others have come
    begun = notes(tmp_path, "begun")
    assert len(begun) == 48
    assert set(begun.values()) == {1}


@pytest.mark.dask
def test_a_worker_that_has_got_work_since_it_was_chosen_stays(tmp_path: Path) -> None:
    item = Work(tmp_path, "long")
    with DaskEngine(LOCAL, adaptive(2, 2), None, GIB) as engine:
        client = engine._client
        client.wait_for_workers(2, timeout=120)
        future = client.submit(work, item)
        until(lambda: notes(tmp_path, "begun"), "the task to begin")
        states = client.scheduler_info(n_workers=-1)["workers"]
        (busy,) = (states[address]["name"] for address, keys in client.processing().items() if keys)
        (idle,) = {state["name"] for state in states.values()} - {busy}
        cluster = client.cluster
        cluster.sync(cluster._adaptive.scale_down, [busy, idle])
        assert str(busy) in workers(engine)
        assert str(idle) not in workers(engine)
        item.let_go()
        assert future.result(timeout=120) == "long"
    assert notes(tmp_path, "begun") == notes(tmp_path, "done") == {"long": 1}


def test_there_is_always_a_worker() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        AdaptiveSettings(minimum=0, maximum=2)
