"""A Slurm for each test that wants one."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.cluster.jobs import Job
from tests.cluster.slurm import Slurm, munge, why_not


@pytest.fixture(scope="module")
def authentication() -> Iterator[None]:
    if reason := why_not():
        pytest.skip(reason)
    with munge():
        yield


@pytest.fixture
def slurm(authentication: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    # Not in tmp_path: slurmd's sockets stand below it, and the name of a socket must be short.
    with Slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """Tables of a run that nothing disturbs, in one process."""
    return Job(tmp_path_factory.mktemp("calm")).go_on()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)
