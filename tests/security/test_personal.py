"""Personal columns are hidden from all that people look at, and from the quarantine where that is asked for."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from daskae.config import load_settings
from daskae.errors import LoadError, SettingsError
from daskae.run.correction_file import without_formula
from daskae.run.job import run_job
from jobs.quarantine import main as quarantine
from tests.support import Run, run

PERSON = "zoe.canary@example.org"
RULES: list[dict[str, Any]] = [
    {"rule": "pattern", "column": "email", "pattern": "^[a-y]", "on_failure": "warn", "name": "no_z"},
    {"rule": "allowed_values", "column": "email", "values": ["nobody"], "name": "nobody_only", "on_failure": "warn"},
    {"rule": "unique", "columns": ["email"], "name": "one_each", "on_failure": "warn"},
    {"rule": "length", "column": "email", "max": 15, "name": "short_mail"},
    {"rule": "unique", "columns": "*", "name": "exact_duplicate"},
]
COLUMNS = {
    "order_id": "order_id", "customer_id": "customer_id", "order_date": "order_date", "amount": "amount",
    "email": {"column": "Mail", "dtype": "text"},
}  # fmt: skip


def start(folder: Path, **flags: Any) -> Run:
    folder.mkdir(exist_ok=True)
    rows = [f"O{i},C{i % 3},2023-01-0{i + 1},1.00,{'a' if i % 2 else PERSON}" for i in range(8)]
    rows += [f"O9,C1,soon,1.00,{PERSON}", f"O10,C1,2023-01-01,1.00,{PERSON},more", f'O11,C1,2023-01-01,1.0"0,{PERSON}']
    path = folder / "orders.csv"
    path.write_text("order_id,customer_id,order_date,amount,Mail\n" + "\n".join(rows) + "\n")
    return run(
        path, folder, rules=RULES, columns=COLUMNS, validation={"profile": "thorough"}, **flags
    )  # fmt: skip


def shown_to_people(found: Run, folder: Path) -> bytes:
    """Everything in the folder of a run but the quarantine, and the tables of results."""
    run_dir = Path(found.summary.run_dir)
    files = [path for path in run_dir.rglob("*") if path.is_file() and "quarantine" not in path.parts]
    texts = [path.read_bytes() for path in files]
    tables = json.dumps(found.tables["validation_results"].to_pylist(), default=str).encode()
    return b"\n".join([*texts, tables, json.dumps(found.summary.to_json(), default=str).encode()])


@pytest.mark.parametrize("name", ["email", "Mail"])
def test_a_masked_column_is_shown_nowhere(name: str, tmp_path: Path) -> None:
    open_run = start(tmp_path / "open")
    assert PERSON.encode() in shown_to_people(open_run, tmp_path)
    found = start(tmp_path / "masked", privacy={"mask": [name]})
    assert b"canary" not in shown_to_people(found, tmp_path)
    assert [rule.affected_rows for rule in found.summary.rules] == [
        rule.affected_rows for rule in open_run.summary.rules
    ]
    assert {sample["value"] for sample in found.rule("short_mail").samples} == {"***"}
    assert [row["raw"] for row in found.quarantine] == [row["raw"] for row in open_run.quarantine]


def test_a_column_may_say_itself_that_it_is_personal(tmp_path: Path) -> None:
    columns = {**COLUMNS, "email": {"column": "Mail", "dtype": "text", "personal": True}}
    folder = tmp_path / "in"
    start(folder)
    found = run(folder / "orders.csv", tmp_path, rules=RULES, columns=columns, validation={"profile": "thorough"})
    assert b"canary" not in shown_to_people(found, tmp_path)


def test_the_quarantine_is_masked_where_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_run = start(tmp_path)
    found = start(tmp_path, privacy={"mask": ["email"], "quarantine": "mask"})
    assert "canary" not in json.dumps(found.quarantine, default=str)
    by_row = {row["row_number"]: row["raw"] for row in found.quarantine}
    assert by_row[9] == "O9,C1,soon,1.00,***"
    assert by_row[10] == "***", "what cannot be split is hidden whole"
    assert [row["reasons"] for row in found.quarantine] == [row["reasons"] for row in open_run.quarantine]
    assert quarantine(["show", "--work-dir", str(tmp_path / "work")]) == 0
    assert "canary" not in capsys.readouterr().out


@pytest.mark.parametrize("to", ["out/", "metrics.db"])
@pytest.mark.parametrize("mask", [[], ["customer_id"]])
def test_an_error_of_keys_names_no_person(mask: list[str], to: str, tmp_path: Path) -> None:
    target = f"{tmp_path}/{to}" if to.endswith("/") else f"sqlite:///{tmp_path}/{to}"
    path = tmp_path / "orders.csv"
    for amount, strategy in ((1, "append"), (2, "append"), (3, "upsert")):
        path.write_text(f"order_id,customer_id,order_date,amount\nO1,{PERSON},2023-01-01,{amount}\n")
        flags = {"inputs": [str(path)], "to": target, "work_dir": tmp_path / "work", "strategy": strategy,
                 "privacy": {"mask": mask}, "cluster_name": "inline"}  # fmt: skip
        settings = load_settings(flags, None)
        if strategy == "append":
            run_job(settings)
    with pytest.raises(LoadError, match="several rows of a key") as raised:
        run_job(settings)
    seen = str(raised.value) + "".join(item.read_text() for item in (tmp_path / "work").rglob("*.log"))
    assert (PERSON in seen) == (not mask)


def test_a_misspelt_column_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"to be masked does not exist(.|\n)*emial(.|\n)*did you mean 'email'"):
        start(tmp_path, privacy={"mask": ["emial"]})


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"), ("\tx", "'\tx"), ("\rx", "'\rx"),
        ("  =1", "'  =1"), ("\u00a0=cmd|' /C calc'!A0", "'\u00a0=cmd|' /C calc'!A0"), ("%x", "'%x"), ("|x", "'|x"),
        ("fine\n=2", "fine\n'=2"), ("a=b", "a=b"), ("", ""), ("1.5", "1.5"), (7, 7), (None, None), (["=x"], ["'=x"]),
    ],
)  # fmt: skip
def test_what_a_spreadsheet_would_run(cell: Any, expected: Any) -> None:
    assert without_formula(cell) == expected


def test_an_export_for_spreadsheets(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("order_id,customer_id,order_date,amount\n=HYPERLINK(1),C1,soon,-5\nO2,C1,2023-01-01,1\n")
    run(path, tmp_path)
    raw = {}
    for flags in ((), ("--for-spreadsheet",)):
        out = tmp_path / "rejects.csv"
        assert quarantine(["show", "--out", str(out), "--work-dir", str(tmp_path / "work"), *flags]) == 0
        (row,) = csv.DictReader(io.StringIO(out.read_text()))
        raw[flags] = row["_raw"]
        assert row["_row_number"] == "1"
    assert raw == {(): "=HYPERLINK(1),C1,soon,-5", ("--for-spreadsheet",): "'=HYPERLINK(1),C1,soon,-5"}


def test_spreadsheets_open_csv_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["show", "--for-spreadsheet", "--out", str(tmp_path / "x.jsonl"), "--work-dir", str(tmp_path / "work")]
    assert quarantine(argv) == 2
    assert "only a CSV file is opened by a spreadsheet" in capsys.readouterr().err
