"""What the scheduler knows of tasks and workers."""

from collections.abc import Iterator
from typing import Any

import distributed
import pytest

from daskae.engine.plugins import LEFT, QUESTION, ClusterWatch, TaskWatch
from tests.support import until

BLOCK = 100 << 20


def hold(nbytes: int) -> int:
    """A task with a peak."""
    return len(b"x" * nbytes)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster of one worker that somebody else has started."""
    places = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, memory_limit=1 << 30, **places) as cluster,
        distributed.Client(cluster) as client,
    ):
        for _ in range(2):  # by name, once
            client.register_plugin(ClusterWatch())
            client.register_plugin(TaskWatch())
        yield client


def report(client: Any, since: int) -> Any:
    return client.sync(getattr(client.scheduler, QUESTION), since=since)


@pytest.mark.dask
def test_the_true_peak_of_a_task_is_kept(client: Any) -> None:
    client.submit(hold, 1, pure=False).result()
    # What a task took is told after its result.
    until(lambda: report(client, -1)["peak"], "the peak of the first task")
    before = report(client, -1)
    assert (*before["losses"], *before["short"]) == ()
    assert before["threads"] == 1
    assert client.submit(hold, BLOCK).result() == BLOCK
    until(lambda: report(client, 0)["peak"] > before["peak"], "the peak of the second task")
    assert BLOCK < report(client, 0)["peak"] < before["peak"] + BLOCK + (10 << 20)


@pytest.mark.dask
def test_a_task_that_fails_is_measured_too(client: Any) -> None:
    with pytest.raises(OverflowError, match="cannot fit"):
        client.submit(hold, 1 << 70).result()
    assert client.submit(hold, 3).result() == 3


@pytest.mark.dask
def test_a_worker_that_leaves_is_not_lost(client: Any) -> None:
    (address,) = client.scheduler_info()["workers"]
    # The last worker may not go while it holds a result; that nobody wants it any more is told with a delay.
    until(lambda: not any(client.has_what().values()), "the results to be forgotten")
    assert list(client.retire_workers([address], close_workers=True)) == [address]
    losses = until(lambda: report(client, 0)["losses"], "the loss to be old enough")
    assert [(loss["worker"], loss["reason"]) for loss in losses] == [(address, LEFT)]
