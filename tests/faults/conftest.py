"""One calm run for all modules."""

from pathlib import Path

import pytest

from .jobs import Calm, Job, run_calmly


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    return run_calmly(tmp_path_factory.mktemp("calm"))


@pytest.fixture
def job(calm: Calm, tmp_path: Path) -> Job:
    return Job(calm.inputs, calm.config, tmp_path / "job")
