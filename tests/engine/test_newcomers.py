"""Workers that come while a run is under way: those that do not see its files are sent away, and nothing is lost."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from daskae.config import ClusterSettings
from daskae.engine.base import Needs
from daskae.engine.create import create_engine
from daskae.events import Event, Warned
from tests.engine.clusters import Cluster

pytestmark = pytest.mark.dask


def elsewhere(folder: Path) -> list[str]:
    """Words in front of a command that sees an empty folder here, as a host without the shared file system does."""
    hide = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh"]
    if subprocess.run([*hide, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces cannot be made here")
    return hide


def wait_for(item: tuple[int, Path]) -> int:
    """Tasks of which the first lasts until there is a file."""
    number, path = item
    end = time.monotonic() + 60
    while number == 0 and not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return os.getpid()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes mount namespaces")
def test_a_worker_without_the_work_directory_is_sent_away(tmp_path: Path) -> None:
    work, events = tmp_path / "work", list[Event]()
    work.mkdir()
    hide = elsewhere(work)

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Warned) and "is sent away" in event.message:
            (tmp_path / "go on").touch()

    with Cluster(tmp_path, workers=1) as cluster:
        settings = ClusterSettings(start_timeout="60s")
        with create_engine(cluster.address, settings, needs=Needs(0, work), emit=emit) as engine:
            (pid,) = (outcome.value for outcome in engine.run(wait_for, [(1, tmp_path)]))
            late = cluster.worker("late", before=hide)
            found = [outcome.value for outcome in engine.run(wait_for, [(i, tmp_path / "go on") for i in range(6)])]
            assert found == [pid] * 6
            late.wait(60)
    (warned,) = [event.message for event in events if isinstance(event, Warned)]
    assert "is sent away" in warned
    assert "work: No such file or directory" in warned
