"""The command that looks at a target, as a person calls it."""

import io
import json
import sqlite3
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from jobs.verify import main
from tests.support import call_main, orders_csv, write_settings


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_bytes(orders_csv(60))
    return tmp_path


def load(target: str, *flags: str) -> None:
    assert call_main(["orders.csv", "--to", target, "--cluster", "inline", "--quiet", *flags])[0] == 0


def verify(*argv: str) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = main(argv)
    return code, output.getvalue(), errors.getvalue()


@pytest.mark.parametrize("target", ["sqlite:///metrics.db", "duckdb:///metrics.duckdb", "out/"])
def test_a_run_and_a_look(target: str, here: Path) -> None:
    load(target)
    code, text, errors = verify("--to", target)
    assert (code, errors) == (0, "")
    lines = text.splitlines()
    assert lines[0].endswith(": 1 load")
    assert lines[-1] == "all as it was loaded"
    assert len(lines) == 6
    customers = next(line for line in lines if "customer_metrics" in line)
    assert " 7 rows, 18 columns, 8 of them added up" in customers
    assert customers.endswith(", 1 file: as loaded" if target == "out/" else "up: as loaded")


def test_what_differs_is_shown(here: Path) -> None:
    load("sqlite:///metrics.db")
    with closing(sqlite3.connect("metrics.db")) as database:
        database.execute("UPDATE customer_metrics SET total_revenue = total_revenue + 0.5 WHERE customer_id = 'C1'")
        database.execute("DELETE FROM kpis")
        database.commit()
    code, text, errors = verify("--to", "sqlite:///metrics.db")
    assert (code, errors) == (4, "")
    assert "differs: customer_metrics, load " in text
    assert ", sum of total_revenue\n  loaded  " in text
    assert "differs: kpis, load " in text
    assert text.splitlines()[-1].endswith("comparisons differ")
    code, text, _ = verify("--to", "sqlite:///metrics.db", "--json")
    document: dict[str, Any] = json.loads(text)
    assert (code, document["schema_version"], document["is_same"], document["loads"]) == (4, 1, False, 1)
    assert {item["table"] for item in document["differences"]} == {"customer_metrics", "kpis"}


def test_metadata_columns_of_the_settings(here: Path) -> None:
    config = write_settings(here / "shop.toml", load={"metadata": {"_load_id": "batch"}})
    load("sqlite:///metrics.db", "--config", str(config))
    assert verify("--to", "sqlite:///metrics.db", "--config", str(config))[0] == 0
    assert verify("--to", "sqlite:///metrics.db")[0] == 0


def test_what_is_not_compared_is_said(here: Path) -> None:
    load("sqlite:///metrics.db", "--strategy", "upsert")
    code, text, _ = verify("--to", "sqlite:///metrics.db")
    assert code == 0
    assert "  not compared: customer_metrics, load " in text
    assert text.splitlines()[-1] == "what was compared is as it was loaded"


def test_personal_keys_are_not_shown(here: Path) -> None:
    """Differences are counts, sums and checksums only."""
    load("out/")
    code, text, errors = verify("--to", "out/", "--json")
    assert code == 0
    assert "C1" not in text + errors


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["--to", "sqlite:///nothing.db"], 1, "nothing was ever loaded into this target"),
        (["--to", "out"], 1, "nothing was ever loaded into this target"),
        (["--to", "metrics.db"], 2, "looks like a database file"),
        (["--to", "nothing://user:secret@here"], 2, "this kind of target is not supported"),
        (["--to", "out/", "--config", "nothing.toml"], 2, "nothing.toml"),
    ],
)
def test_what_cannot_be_looked_at(argv: list[str], code: int, told: str, here: Path) -> None:
    found, text, errors = verify(*argv)
    assert (found, text) == (code, "")
    assert told in errors
    assert "Traceback" not in errors
    assert "secret" not in errors
    assert not (here / "nothing.db").exists()


def test_no_target_is_a_wrong_use(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "--to" in "".join(capsys.readouterr())
