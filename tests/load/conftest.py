"""Databases for the tests: files, and databases of servers that are started once."""

import os
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import fsspec
import pytest

from . import black_hole
from .databases import Database, Folder, Target, database_of_its_own, schema_of_its_own
from .mariadb_server import MariadbServer, mariadb_server, why_not
from .server import Server, postgresql_server
from .silent_scenes import Scene, silenced

_URL = os.environ.get("DASKAE_TEST_POSTGRES_URL")
_MARIADB_URL = os.environ.get("DASKAE_TEST_MARIADB_URL")
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


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    """The URL of a MariaDB server whose user may make databases: of the environment, else one of the tests' own."""
    if _MARIADB_URL:
        yield _MARIADB_URL
    elif reason := why_not():
        pytest.skip(reason)
    else:
        with mariadb_server() as server:
            yield server.url


@pytest.fixture
def mariadb(mariadb_url: str) -> Iterator[Database]:
    with database_of_its_own(mariadb_url, f"daskae_test_{os.getpid()}_{next(_numbers)}") as database:
        yield database


@pytest.fixture(scope="session")
def postgresql_here() -> Iterator[Server]:
    """A server that the tests may stop."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_here() -> Iterator[MariadbServer]:
    """A server that the tests may stop."""
    if reason := why_not():
        pytest.skip(reason)
    with mariadb_server() as server:
        yield server


@pytest.fixture(params=["postgresql", "mariadb"])
def server_here(request: pytest.FixtureRequest) -> Server | MariadbServer:
    """Each of the servers in turn."""
    found: Server | MariadbServer = request.getfixturevalue(f"{request.param}_here")
    return found


@pytest.fixture(params=["black hole", "silent proxy", "stopped server"])
def scene(request: pytest.FixtureRequest, server_here: Server | MariadbServer) -> Iterator[Scene]:
    """Each way of silence in turn, before each of the servers."""
    if request.param == "black hole" and (reason := black_hole.why_not()):
        pytest.skip(reason)
    with silenced(request.param, server_here) as made:
        yield made


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    path = tmp_path / "target" / "metrics.db"
    path.parent.mkdir()
    return Database("sqlite", f"sqlite:///{path}", f"sqlite:///{path}")


@pytest.fixture
def duckdb(tmp_path: Path) -> Database:
    path = tmp_path / "target" / "metrics.db"
    path.parent.mkdir()
    return Database("duckdb", f"duckdb:///{path}", f"duckdb:///{path}")


@pytest.fixture
def portable(tmp_path: Path) -> Database:
    """SQLite by nothing but what every database of SQLAlchemy has."""
    path = tmp_path / "target" / "metrics.db"
    path.parent.mkdir()
    return Database("portable", f"portable+sqlite:///{path}", f"sqlite:///{path}")


_FIRST, _OTHERS = ("sqlite", "postgresql"), ("mariadb", "duckdb", "portable")
# Written for the first two: they look into catalogues, or widen types, which the others do not.
_OF_TWO = ("test_drift", "test_what_hangs_on_a_table", "test_load_settings", "test_ways", "test_memory")
# By default the others run what the strategies do, and what is theirs alone; in CI they run everything.
_ALWAYS = ("test_strategies", "test_mariadb", "test_duckdb", "test_portable", "test_targets")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what takes a ``database`` on each of them in turn."""
    if "database" in metafunc.fixturenames:
        names = _FIRST if metafunc.module.__name__.rpartition(".")[2] in _OF_TWO else (*_FIRST, *_OTHERS)
        metafunc.parametrize("database", names, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark most tests on databases beside the first two as slow."""
    for item in items:
        if Path(__file__).parent not in item.path.parents or item.path.stem in _ALWAYS:
            continue
        if any(name in item.name.partition("[")[2].rstrip("]").split("-") for name in _OTHERS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
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


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest) -> Folder:
    """Each kind of target of Parquet files in turn."""
    found: Folder = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "duckdb", "portable", "folder", "memory"])
def target(request: pytest.FixtureRequest) -> Target:
    """Each kind of target in turn."""
    found: Target = request.getfixturevalue(request.param)
    return found
