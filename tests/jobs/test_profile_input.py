"""The command as a person uses it: profile, look, and run the job with what was suggested."""

import csv
import json
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobs import customer_metrics, generate_orders, profile_input


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, rows: list[list[str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def retail(rows: int = 60) -> list[list[str]]:
    head = ["InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]
    body = [
        [str(536365 + i // 3), f"{20000 + i % 7}A", str(i % 5 - 1), f"12/{i % 28 + 1}/2010 8:{i:02d}", f"{i % 9}.25",
         "" if i % 10 == 0 else f"{17850 + i % 8}.0", ["France", "EIRE"][i % 2]]
        for i in range(rows)
    ]  # fmt: skip
    return [head, *body]


def rules_of(folder: Path) -> list[dict[str, Any]]:
    return list(tomllib.loads((folder / "settings.toml").read_text())["rules"])


def test_profile_then_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "retail.csv", retail())
    assert profile_input.main(["retail.csv", "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "60 rows in 1 file" in text
    assert "InvoiceDate  datetime (%m/%d/%Y %H:%M)" in text
    assert "amount <- Quantity * UnitPrice" in text
    assert "profile/settings.toml" in text
    document = json.loads((here / "profile" / "profile.json").read_text())
    columns = {item["name"]: item for item in document["columns"]}
    assert columns["CustomerID"]["nulls"] == 6
    assert columns["Quantity"]["type"] == "integer"
    settings = tomllib.loads((here / "profile" / "settings.toml").read_text())
    assert settings["columns"]["order_date"] == {"column": "InvoiceDate", "format": "%m/%d/%Y %H:%M"}
    assert "6 of 60 rows have none and will be rejected" in (here / "profile" / "settings.toml").read_text()
    code = customer_metrics.main(["retail.csv", "--config", "profile/settings.toml", "--quiet", "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert (code, summary["rows"]["rejected"]) == (0, 6)
    assert len(rules_of(here / "profile")) > 8


def test_generated_orders_run_with_what_is_suggested(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate_orders.main(["--rows", "20000", "--out", "orders", "--quiet", "--workers", "1"]) == 0
    assert profile_input.main(["orders", "--quiet", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 20_000
    assert {"wrong_field_count", "invalid_encoding", "repeated_header"} <= set(document["broken"])
    assert document["suggested"]["missing"] == {}
    assert document["written"] == ["profile/profile.json", "profile/settings.toml"]
    assert customer_metrics.main(["orders", "--config", "profile/settings.toml", "--quiet", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rows"]["accepted"] > 19_800


def test_another_delimiter_and_encoding(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["Kunde", "customer", "date", "amount"], *[["Müller", f"c{i}", "2024-01-05", "9.5"] for i in range(20)]]
    write(here / "a.csv", rows, ";", "cp1252")
    assert profile_input.main(["a.csv", "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "is that the delimiter? Set [input] delimiter = ';'" in " ".join(text.split())
    assert "no column could be told to be customer_id, which is required" in " ".join(text.split())
    assert profile_input.main(["a.csv", "--quiet", "--delimiter", ";", "--encoding", "cp1252"]) == 0
    settings = tomllib.loads((here / "profile" / "settings.toml").read_text())
    assert settings["input"] == {"delimiter": ";", "encoding": "cp1252"}
    assert "Müller" in (here / "profile" / "settings.toml").read_text()
    assert customer_metrics.main(["a.csv", "--config", "profile/settings.toml", "--quiet"]) == 0


def test_a_second_profile_reads_only_what_is_new(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(here / "1.csv", retail())
    assert profile_input.main(["1.csv", "--out", "one"]) == 0
    capfd.readouterr()
    assert profile_input.main(["1.csv", "--out", "two"]) == 0
    assert "1 reused" in capfd.readouterr().err
    assert (here / "one" / "profile.json").read_bytes() == (here / "two" / "profile.json").read_bytes()
    assert profile_input.main(["1.csv", "--out", "three", "--fresh"]) == 0
    assert (here / "one" / "profile.json").read_bytes() == (here / "three" / "profile.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "no input"),
        (["nowhere.csv"], 1, "nowhere.csv"),
        (["--delimiter", "\n", "a.csv"], 2, "delimiter"),
        (["a.csv", "--out", "a.csv"], 1, "the profile cannot be written"),
        (["--no-such"], 2, ""),
    ],
)
def test_errors(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str) -> None:
    write(here / "a.csv", retail())
    assert profile_input.main([*arguments, "--quiet"]) == code
    assert text in capsys.readouterr().err


def test_a_database_is_profiled_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(here / "shop.db")) as database, database:
        database.execute("CREATE TABLE sales (id INTEGER PRIMARY KEY, customer_id TEXT, order_date TEXT, amount REAL)")
        rows = [(f"c{i % 5}", f"2024-03-{i % 28 + 1:02d}", i / 4) for i in range(50)]
        database.executemany("INSERT INTO sales (customer_id, order_date, amount) VALUES (?, ?, ?)", rows)
    (here / "input.toml").write_text('[input]\ntable = "sales"\nkey = "id"\npartitions = 3\n')
    common = ["sqlite:///shop.db", "--quiet"]
    assert profile_input.main([*common, "--config", "input.toml", "--json"]) == 0
    columns = {item["name"]: item for item in json.loads(capsys.readouterr().out)["columns"]}
    assert (columns["amount"]["minimum"], columns["amount"]["maximum"]) == ("0", "12.25")
    assert customer_metrics.main([*common, "--config", "profile/settings.toml"]) == 0


@pytest.mark.dask
def test_workers_find_the_same(here: Path) -> None:
    write(here / "a.csv", retail(500))
    common = ["a.csv", "--quiet", "--block-size", "4KiB"]
    assert profile_input.main([*common, "--out", "inline", "--cluster", "inline", "--work-dir", "w1"]) == 0
    assert (
        profile_input.main([*common, "--out", "dask", "--cluster", "local", "--workers", "2", "--work-dir", "w2"]) == 0
    )
    for name in ("profile.json", "settings.toml"):
        assert (here / "inline" / name).read_bytes() == (here / "dask" / name).read_bytes()


def test_help_is_quick_to_import() -> None:
    code = "import sys, jobs.profile_input as p; p.main(['--help']); print([n for n in sys.modules if n in ("
    done = subprocess.run(
        [sys.executable, "-c", code + "'polars', 'pyarrow', 'pandas', 'dask')])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "profile.json" in done.stdout
    assert done.stdout.endswith("\n[]\n"), "the libraries that read files are imported only where they are needed"
