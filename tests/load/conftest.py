"""Databases for the tests: a SQLite file, and a schema of a PostgreSQL server that is started once."""

import os
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import fsspec
import pytest

from .databases import Database, Folder, Target, schema_of_its_own
from .server import postgresql_server

_URL = os.environ.get("DASKAE_TEST_POSTGRES_URL")
_numbers = count()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of a database that the tests may fill: one that the environment names, else a server of their own."""
    if _URL:
        yield _URL
        return
    with postgresql_server() as server:
        yield server.url


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Database]:
    with schema_of_its_own(postgresql_url, f"daskae_test_{os.getpid()}_{next(_numbers)}") as database:
        yield database


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    path = tmp_path / "target" / "metrics.db"
    path.parent.mkdir()
    return Database("sqlite", f"sqlite:///{path}", f"sqlite:///{path}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each of the databases in turn."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "target" / "out"))


@pytest.fixture
def memory() -> Iterator[Folder]:
    """Files where nothing can be linked or renamed, as on an object store."""
    url = f"memory://{uuid.uuid4().hex}/out"
    yield Folder(url, "memory")
    files, root = fsspec.url_to_fs(url)
    if files.exists(root):
        files.rm(root, recursive=True)


@pytest.fixture(params=["sqlite", "postgresql", "folder", "memory"])
def target(request: pytest.FixtureRequest) -> Target:
    """Each kind of target in turn."""
    found: Target = request.getfixturevalue(request.param)
    return found
