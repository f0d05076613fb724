"""Databases for the tests: files, and databases of servers that are started once."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from .databases import Database, database_of_its_own, schema_of_its_own
from .mariadb_server import mariadb_server, why_not
from .server import postgresql_server

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
        yield f"{server}/postgres"


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
            yield server


@pytest.fixture
def mariadb(mariadb_url: str) -> Iterator[Database]:
    with database_of_its_own(mariadb_url, f"daskae_test_{os.getpid()}_{next(_numbers)}") as database:
        yield database


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


# Long tests over every database: a few of them run by default on these, all of them in CI.
_OTHERS = ("mariadb", "duckdb", "portable")
_LONG = ("test_job", "test_faults")
_QUICK = ("append-uncommitted", "merge-deleted:2", "brings_new_customers", "polling_reader", "another_publisher")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long tests on databases beside the first two as slow."""
    for item in items:
        long = Path(item.path).stem in _LONG and any(f"[{name}" in item.name for name in _OTHERS)
        if Path(__file__).parent in item.path.parents and long and not any(name in item.name for name in _QUICK):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb", "duckdb", "portable"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each of the databases in turn."""
    found: Database = request.getfixturevalue(request.param)
    return found
