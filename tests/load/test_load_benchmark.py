"""The benchmark of loads: every contender ends in the same rows, a row too few is seen, absent ones are skipped."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from benchmarks.load import main
from benchmarks.loaders import methods
from benchmarks.loaders.customers import Truth, generate_customers
from benchmarks.loaders.databases import Target
from benchmarks.loaders.methods import Ready, Task, timed
from benchmarks.loaders.report import render
from benchmarks.loaders.rounds import Loaded, Loader, Rounds, line_up
from daskae.load.sql.sqlite.session import connect

ROWS = 300
NEEDED = {"dask": "dask.dataframe", "adbc": "adbc_driver_manager", "copy_floor": "psycopg"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("rows")
    return folder, generate_customers(folder, ROWS)


@pytest.fixture
def postgresql_target(postgresql_url: str) -> Iterator[Target]:
    """A database of its own, as its schema is dropped."""
    name = f"daskae_benchmark_{os.getpid()}"
    url = sa.make_url(postgresql_url).set(drivername="postgresql+psycopg", database=name)
    with closing(psycopg.connect(postgresql_url, autocommit=True)) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield Target("postgresql", url.render_as_string(hide_password=False))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def run_alone(name: str, target: Target, rows: tuple[Path, Truth]) -> None:
    pytest.importorskip(NEEDED.get(name, "sqlalchemy"))
    target.empty()
    ready: Ready = vars(methods)[name](Task(target.url, rows[0], ROWS))
    assert timed(ready)["seconds"] > 0
    assert target.read() == rows[1], name


@pytest.mark.parametrize("name", ["pandas", "sqlalchemy", "executemany_floor", "executemany_wal_floor"])
def test_rows_come_into_sqlite(name: str, rows: tuple[Path, Truth], tmp_path: Path) -> None:
    run_alone(name, Target("sqlite", f"sqlite:///{tmp_path / 'a.db'}"), rows)


def test_rows_come_into_postgresql(postgresql_target: Target, rows: tuple[Path, Truth]) -> None:
    for name in ("pandas", "sqlalchemy", "copy_floor"):
        run_alone(name, postgresql_target, rows)


def test_daskae_tells_where_its_time_goes(tmp_path: Path) -> None:
    rounds = Rounds(Target("sqlite", f"sqlite:///{tmp_path / 'target.db'}"), tmp_path, ROWS, ROWS, quiet=True)
    (loaded,) = rounds.run(line_up("sqlite", [])[1:2], 1)
    assert (loaded.loader.name, loaded.error, loaded.wrong) == ("daskae_replace", "", "")
    assert 0 < loaded.steps["serialise and copy"] < loaded.seconds
    assert loaded.steps.keys() >= {"serialise alone", "index", "merge", "check", "commit"}


@pytest.mark.slow
def test_daskae_beside_the_floors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "told.json"
    options = ["--rows", f"{ROWS}", "--databases", "sqlite", "--rounds", "1", "--quiet", "--peers", "pandas"]
    assert main([*options, "--work", str(tmp_path / "work"), "--json", str(told)]) == 0
    text = capsys.readouterr().out
    assert text.count("| exact |") == 6
    assert "- daskae_upsert, seconds: " in text
    runs: list[dict[str, Any]] = json.loads(told.read_text())
    assert [run["loader"]["name"] for run in runs][:2] == ["daskae", "daskae_replace"]
    assert {run["found"]["rows"] for run in runs} == {ROWS}
    assert all(run["steps"]["serialise and copy"] > 0 for run in runs[:3])


@pytest.mark.slow
def test_all_contenders(postgresql_target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rows", "200", "--rounds", "1", "--quiet", "--url", postgresql_target.url]
    assert main([*options, "--work", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.count("| exact |") + text.count("skipped: ") == 10 + 11


def test_a_missing_cent_and_an_absent_package_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "target.db"
    rounds = Rounds(Target("sqlite", f"sqlite:///{path}"), tmp_path, ROWS, ROWS, quiet=True)
    floor, absent = Loader("executemany_floor", "sqlite3"), Loader("pandas", "no_such_package")
    exact, skipped = rounds.run([floor, absent], 1)
    assert (exact.wrong, skipped.error) == ("", "skipped: no_such_package is not installed")
    with connect(path, 1) as connection:
        connection.exec_driver_sql("UPDATE customer_metrics SET total_revenue = total_revenue + 0.01 WHERE rowid = 1")
    assert exact.found is not None
    assert rounds.target.read() == replace(exact.found, revenue=exact.found.revenue + Decimal("0.01"))
    text = render("sqlite", [replace(exact, wrong="holds something else"), skipped])
    assert "holds something else |" in text
    assert "| pandas | 300 |  |  |  |  |  | skipped" in text


def test_ratios_are_of_the_same_round() -> None:
    ours, other = Loader("daskae", "daskae"), Loader("adbc", "adbc")
    turns = [(ours, 0, 1.0), (other, 0, 2.0), (ours, 1, 10.0), (other, 1, 20.0)]
    text = render("sqlite", [Loaded(loader, number, 100, seconds) for loader, number, seconds in turns])
    assert "| adbc | 100 | 28 | 50 | 0.500 |" in text


def test_unknown_peers_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no peer 'spark'; choose from adbc, dlt"):
        line_up("sqlite", ["spark"])
    assert main(["--peers", "spark", "--quiet"]) == 2
