"""Rejected rows and their way back: corrected ones end in the tables as if they had been right the first time."""

import contextlib
import csv
import gzip
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from daskae.aggregate import metric
from daskae.faults import NOTES_VARIABLE
from daskae.read.dialect import Dialect
from daskae.read.record_text import is_one_record
from daskae.validate import RowRule
from jobs.quarantine import main
from tests.fault_log import armed
from tests.laws.orders import GOOD, HEADER_LINE, MALFORMED, ROWS, headers, records, whole_runs
from tests.read.test_patch import mended
from tests.support import (
    EXACT_DUPLICATE,
    POSITIVE_QUANTITY,
    REPEATED_ORDER,
    ROOT,
    SMALL_AMOUNT,
    Run,
    assert_same_tables,
    call_main,
    read_tables,
    run,
    write_settings,
)

PLAIN = Dialect()
RULES = [POSITIVE_QUANTITY, EXACT_DUPLICATE, REPEATED_ORDER, SMALL_AMOUNT]
Files = Mapping[str, bytes]
Corrections = dict[tuple[str, int], str]

DIRTY = b"""order_id,customer_id,order_date,amount,note
1,A,2024-01-05,10.00,first
2,A,2024-02-30,30.50,no such day
3,B,2024-02-10
4,C,2024-03-01,7,"two
lines"
4,C,2024-03-01,oops,again
"""
FIXED = {2: "2,A,2024-02-28,30.50,no such day", 3: '3,B,2024-02-10,5,"a ""b"", c"', 5: "5,C,2024-03-01,8,again"}


def quarantine(*argv: object, **options: Any) -> tuple[int, str, str]:
    """Run the command in this process: exit code, stdout, stderr."""
    out, told = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(told):
        code = main([str(item) for item in argv], **options)
    return code, out.getvalue(), told.getvalue()


def write(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_corrected(path: Path, work: Path, corrections: Corrections, *options: object) -> Path:
    """Export all rejected rows of the latest run and correct some."""
    code, _, told = quarantine("show", "--out", path, "--work-dir", work, *options)
    assert code == 0, told
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["_raw"] = corrections.get((row["_file"], row["_row_number"]), row["_raw"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def without_offset(found: Run) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "byte_offset"} for row in found.quarantine]


ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "plain": ("", bytes, ".csv"),
    "gzip": ("", gzip.compress, ".csv.gz"),
    "latin-1": ("latin-1", bytes, ".csv"),
    "utf-16": ("utf-16", bytes, ".csv"),
}


@given(st.data())
@whole_runs(3)
def test_replayed_rows_are_as_if_they_had_been_right(data: st.DataObject) -> None:
    variant = data.draw(st.sampled_from(sorted(ENCODINGS)))
    encoding, pack, ending = ENCODINGS[variant]
    texts = {}
    for i in range(data.draw(st.integers(1, 3))):
        header = HEADER_LINE + b"\n" if encoding else data.draw(headers())
        texts[f"orders-{i}{ending}"] = header + b"".join(data.draw(records(ROWS | MALFORMED)))
    if encoding:  # what this encoding cannot say becomes something else that it can
        texts = {
            name: text.decode("utf-8", "replace").encode(encoding, "replace").decode(encoding).encode()
            for name, text in texts.items()
        }

    def packed(files: Files) -> Files:
        return {name: pack(text.decode().encode(encoding) if encoding else text) for name, text in files.items()}

    flags: dict[str, Any] = {"rules": RULES, "input": {"encoding": encoding} if encoding else {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = write(folder / "in", packed(texts))
        before = run(inputs, folder, block_size=data.draw(st.sampled_from([64, 333, 1 << 20])), **flags)
        event(f"{variant}, {'some' if before.quarantine else 'no'} rejects")
        if not before.quarantine:
            return
        right = GOOD.map(b",".join)
        good = (right | right | right | ROWS).map(lambda text: text.decode("utf-8", "replace"))
        good = good.filter(lambda text: is_one_record(text, PLAIN))
        corrections = {(row["file"], row["row_number"]): data.draw(good) for row in before.quarantine}
        corrections = {
            key: text.encode(encoding, "replace").decode(encoding) if encoding else text
            for key, text in corrections.items()
        }
        path = write_corrected(folder / "rejects.jsonl", folder / "work", corrections)
        fixed = {
            name: mended(text, {row: new for (file, row), new in corrections.items() if file == name}, PLAIN)
            for name, text in texts.items()
        }
        expected = run(write(folder / "mended", packed(fixed)), folder / "other", **flags)
        assert_replayed(path, folder, expected)
        # Any later run takes the corrections, however it cuts the files and whatever it finds in the work directory.
        later = run(inputs, folder, block_size=100, fresh=True, **flags)
        assert later.summary.rows == expected.summary.rows
        assert_same_tables(later.tables, expected.tables)
        assert without_offset(later) == without_offset(expected)


def assert_replayed(path: Path, folder: Path, expected: Run) -> None:
    """Replay twice, and compare with a run over the mended files."""
    unchanged = 0
    for attempt in range(2):
        code, out, told = quarantine("replay", path, "--json", "--quiet", "--work-dir", folder / "work")
        if "no row is corrected" in told:
            return
        document = json.loads(out)
        assert code == (0 if expected.tables else 4), told
        rows = expected.summary.rows
        assert (document["rows"]["read"], document["rows"]["rejected"]) == (rows.read, rows.rejected)
        if expected.tables:
            assert_same_tables(read_tables(folder / "out"), expected.tables)
            assert document["already_published"] == (attempt == 1)
        if attempt:
            assert document["corrected_rows"] == unchanged
            assert " 0 are new" in told
        unchanged = document["corrected_rows"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with dirty orders and one run over them, for tests that only look."""
    folder = tmp_path_factory.mktemp("made")
    with contextlib.chdir(folder):
        Path("orders.csv").write_bytes(DIRTY)
        assert call_main(["orders.csv", "--quiet", "--json"])[0] == 0
    return folder


@pytest.fixture
def there(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that tests only look at."""
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with dirty orders and one run over them, work directory and target where the defaults are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_bytes(DIRTY)
    code, _ = call_main(["orders.csv", "--quiet", "--json"])
    assert code == 0
    return tmp_path


def customers(database: str = "customer_metrics.db") -> dict[str, str]:
    with closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute("SELECT customer_id, total_revenue FROM customer_metrics"))


def run_id() -> str:
    return str(json.loads(quarantine("list", "--json")[1])["runs"][-1]["run_id"])


def corrected_csv(path: Path = Path("rejects.csv"), rows: Mapping[int, str] = FIXED) -> Path:
    """Export, and correct ``_raw`` as a person does in an editor of tables."""
    assert quarantine("show", "--out", path)[0] == 0
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    for row in found:
        row["_raw"] = rows.get(int(row["_row_number"]), row["_raw"])
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(found)
    return path


def test_the_quarantine_holds_severity_and_run(there: Path) -> None:
    folder = there / ".daskae" / "runs" / run_id() / "quarantine"
    (row, *_) = pq.read_table(folder).to_pylist()
    assert duckdb.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True).aggregate(
        "run_id, count(*)"
    ).fetchall() == [(run_id(), 3)]
    assert row == {
        "file": "orders.csv", "row_number": 2, "byte_offset": DIRTY.index(b"2,A"), "reason": "unparsable_date",
        "reasons": ["unparsable_date"], "severity": "error", "column": "order_date", "value": "2024-02-30",
        "raw": "2,A,2024-02-30,30.50,no such day", "run_id": run_id(),
    }  # fmt: skip


def test_runs_that_share_a_quarantine_have_each_their_id(here: Path) -> None:
    first = run_id()
    assert call_main(["orders.csv", "--quiet", "--json"])[0] == 0
    second = run_id()
    assert first != second
    ids = {pq.read_table(path)["run_id"][0].as_py() for path in here.glob(".daskae/runs/*/quarantine")}
    assert ids == {first, second}


def test_the_severity_is_that_of_the_first_broken_rule(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_bytes(b"order_id,customer_id,order_date,amount\n1,A,2024-01-05,1\n2,B,2024-01-05,9\n")
    for severity in ("warning", "info"):
        rule = {"rule": "range", "name": "large", "column": "amount", "max": 5, "severity": severity}
        found = run(tmp_path / "o.csv", tmp_path, rules=[rule])
        assert [row["severity"] for row in found.quarantine] == [severity]


def test_list_names_runs_and_reasons(there: Path) -> None:
    code, out, _ = quarantine("list")
    assert code == 0
    assert run_id() in out
    assert "3 rejected" in out
    for reason in ("unparsable_date", "wrong_field_count", "unparsable_number"):
        assert reason in out
    document = json.loads(quarantine("list", "--json")[1])
    assert document["runs"][0]["by_reason"] == {"unparsable_date": 1, "unparsable_number": 1, "wrong_field_count": 1}
    assert document["corrections"] == {}


def test_list_of_nothing_says_so(tmp_path: Path) -> None:
    code, out, told = quarantine("list", "--work-dir", tmp_path)
    assert (code, out) == (0, "")
    assert "no run" in told


def test_show_prints_place_reasons_and_raw_text(there: Path) -> None:
    code, out, _ = quarantine("show")
    assert code == 0
    assert "orders.csv, row 3, byte" in out
    assert "wrong_field_count" in out
    assert "2,A,2024-02-30,30.50,no such day" in out
    code, out, _ = quarantine("show", run_id()[:10], "--reason", "unparsable_number", "--json")
    (row,) = map(json.loads, out.splitlines())
    assert (row["file"], row["row_number"], row["raw"]) == ("orders.csv", 5, "4,C,2024-03-01,oops,again")
    assert quarantine("show", "--limit", 1)[1].count("orders.csv, row") == 1
    assert quarantine("show", "--file", "other.csv")[1] == ""


def test_show_hides_what_would_move_the_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("o.csv").write_bytes(b"customer_id,order_date,amount\nA,2024-01-01,1\nA,\x1b[2Jx,1\n")
    assert call_main(["o.csv", "--quiet"])[0] == 0
    assert "\x1b" not in quarantine("show")[1]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_format_comes_back_as_it_went(there: Path, ending: str) -> None:
    path = there / f"rejects.{ending}"
    for options in ([], ["--columns"]):
        assert quarantine("show", "--out", path, *options)[0] == 0
        code, _, told = quarantine("replay", path)
        assert code == 2
        assert "no row is corrected" in told


def test_a_csv_corrected_by_hand_is_replayed(here: Path) -> None:
    assert customers() == {"A": "10.0000", "C": "7.0000"} or set(customers()) == {"A", "C"}
    code, out, told = quarantine("replay", corrected_csv(), "--quiet", "--json")
    assert code == 0, told
    assert "3 corrected rows, of which 3 are new" in told
    document = json.loads(out)
    assert document["corrected_rows"] == 3
    assert document["rows"] == {"read": 5, "accepted": 5, "rejected": 0, "rejected_by_rule": {}} or (
        document["rows"]["rejected"] == 0
    )
    (here / "mended.csv").write_bytes(mended(DIRTY, FIXED, PLAIN))
    assert call_main(["mended.csv", "--quiet", "--to", "sqlite:///mended.db", "--work-dir", "other"])[0] == 0
    assert customers() == customers("mended.db")
    assert set(customers()) == {"A", "B", "C"}
    assert json.loads(quarantine("list", "--json")[1])["corrections"] == {"orders.csv": 3}


def test_columns_are_corrected_one_by_one(here: Path) -> None:
    path = here / "rejects.jsonl"
    assert quarantine("show", "--out", path, "--columns")[0] == 0
    rows = {row["_row_number"]: row for row in map(json.loads, path.read_text().splitlines())}
    assert rows[2]["_raw"] == ""
    assert rows[2]["order_date"] == "2024-02-30"
    assert rows[3]["_raw"] == "3,B,2024-02-10"  # it has not as many fields as there are columns
    assert rows[3]["order_date"] == ""
    rows[2]["order_date"] = "2024-02-28"
    rows[3].update(order_id="3", customer_id="B", order_date="2024-02-10", amount="5", note='a "b", c')
    path.write_text("".join(json.dumps(rows[number]) + "\n" for number in (2, 3)))
    code, out, told = quarantine("replay", path, "--quiet", "--json")
    assert code == 0, told
    document = json.loads(out)
    assert (document["corrected_rows"], document["rows"]["rejected"]) == (2, 1)


def test_what_is_still_wrong_is_rejected_with_its_new_text_and_its_old_place(here: Path) -> None:
    first = json.loads(quarantine("show", "--json")[1].splitlines()[0])
    assert quarantine("replay", corrected_csv(rows={2: "2,A,2024-02-31,30.50,x"}), "--quiet")[0] == 0
    row = json.loads(quarantine("show", "--json")[1].splitlines()[0])
    assert row["raw"] == "2,A,2024-02-31,30.50,x"
    assert [row[name] for name in ("file", "row_number", "byte_offset")] == [
        first[name] for name in ("file", "row_number", "byte_offset")
    ]
    # Corrected once more, the later text counts.
    code, out, _ = quarantine("replay", corrected_csv(rows=FIXED), "--quiet", "--json")
    assert code == 0
    assert json.loads(out)["rows"]["rejected"] == 0


def test_a_corrected_row_that_is_a_duplicate_shows_its_corrected_text(tmp_path: Path) -> None:
    """Duplicates are found after the pass that reads, so their text is fetched once more."""
    data = b"order_id,customer_id,order_date,amount\n1,A,2024-01-05,bad\n1,A,2024-01-05,1\n2,B,2024-01-05,1\n"
    (tmp_path / "o.csv").write_bytes(data)
    run(tmp_path / "o.csv", tmp_path, rules=[EXACT_DUPLICATE])
    path = write_corrected(tmp_path / "r.jsonl", tmp_path / "work", {("o.csv", 1): "2,B,2024-01-05,1"})
    assert quarantine("replay", path, "--quiet", "--work-dir", tmp_path / "work")[0] == 0
    rows = [json.loads(line) for line in quarantine("show", "--json", "--work-dir", tmp_path / "work")[1].splitlines()]
    # The corrected row comes first now, so the third is its copy.
    assert [(row["row_number"], row["reason"], row["raw"]) for row in rows] == [
        (3, "exact_duplicate", "2,B,2024-01-05,1")
    ]
    path = write_corrected(tmp_path / "r.jsonl", tmp_path / "work", {("o.csv", 3): "1,A,2024-01-05,1"})
    assert quarantine("replay", path, "--quiet", "--work-dir", tmp_path / "work")[0] == 0
    rows = [json.loads(line) for line in quarantine("show", "--json", "--work-dir", tmp_path / "work")[1].splitlines()]
    assert [(row["row_number"], row["reason"], row["raw"], row["byte_offset"]) for row in rows] == [
        (3, "exact_duplicate", "1,A,2024-01-05,1", data.index(b"2,B"))
    ]


def test_corrections_of_a_parquet_source(tmp_path: Path) -> None:
    table = pa.table(
        {
            "order_id": ["1", "2", "3"], "customer_id": ["A", None, "C"],
            "order_date": pa.array([19_000, 19_001, None], pa.date32()), "amount": [1.5, 2.5, 3.5],
        }
    )  # fmt: skip
    right = table.set_column(1, "customer_id", pa.array(["A", "B", "C"]))
    right = right.set_column(2, "order_date", pa.array([19_000, 19_001, 19_002], pa.date32()))
    (tmp_path / "in").mkdir()
    (tmp_path / "right").mkdir()
    pq.write_table(table, tmp_path / "in" / "o.parquet", row_group_size=1)
    pq.write_table(right, tmp_path / "right" / "o.parquet", row_group_size=3)
    run(tmp_path / "in", tmp_path, block_size=10)
    path, work = tmp_path / "r.jsonl", tmp_path / "work"
    assert quarantine("show", "--out", path, "--columns", "--work-dir", work)[0] == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["amount"] for row in rows] == ["2.5", "3.5"]
    rows[0]["customer_id"], rows[1]["order_date"] = "B", "2022-01-10"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, told = quarantine("replay", path, "--quiet", "--json", "--work-dir", work)
    assert code == 0, told
    assert json.loads(out)["corrected_rows"] == 2
    expected = run(tmp_path / "right", tmp_path / "other")
    assert_same_tables(read_tables(tmp_path / "out"), expected.tables)
    for block_size in (10, 1 << 20):
        assert_same_tables(run(tmp_path / "in", tmp_path, block_size=block_size).tables, expected.tables)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"order_date": "2024-02-30"}', "does not fit its column"),
        ('{"other": 1}', "a column that the source has not"), ("[1]", "not valid JSON"), ("{", "not valid JSON"),
    ],
)  # fmt: skip
def test_wrong_corrections_of_a_parquet_source(tmp_path: Path, text: str, message: str) -> None:
    table = pa.table({"customer_id": ["A", None], "order_date": pa.array([1, 2], pa.date32()), "amount": [1, 2]})
    pq.write_table(table, tmp_path / "o.parquet")
    run(tmp_path / "o.parquet", tmp_path)
    path = write_corrected(tmp_path / "r.jsonl", tmp_path / "work", {("o.parquet", 2): text})
    code, _, told = quarantine("replay", path, "--work-dir", tmp_path / "work")
    assert code == 2
    assert message in told


def test_a_file_that_grows_keeps_its_corrections(here: Path) -> None:
    assert quarantine("replay", corrected_csv(), "--quiet")[0] == 0
    with Path("orders.csv").open("ab") as file:
        file.write(b"6,D,2024-04-01,1,more\n")
    code, text = call_main(["orders.csv", "--quiet", "--json"])
    document = json.loads(text)
    assert (code, document["corrected_rows"], document["rows"]["rejected"]) == (0, 3, 0)
    assert set(customers()) == {"A", "B", "C", "D"}


def test_corrections_of_a_changed_file_are_reported_and_not_applied(here: Path) -> None:
    path = corrected_csv()
    assert quarantine("replay", path, "--quiet")[0] == 0
    Path("orders.csv").write_bytes(DIRTY.replace(b"first", b"FIRST"))
    plan = call_main(["orders.csv", "--dry-run"])[1]
    assert "corrections of orders.csv are not applied, 3 rows: it has changed" in plan
    code, text = call_main(["orders.csv", "--quiet", "--json"])
    document = json.loads(text)
    assert (code, document["corrected_rows"], document["rows"]["rejected"]) == (0, 0, 3)
    assert "corrections of orders.csv are not applied" in (Path(document["run_dir"]) / "events.jsonl").read_text()
    code, _, told = quarantine("replay", path)
    assert code == 1
    assert "a source is not what it was" in told


def test_corrections_of_a_file_that_is_gone_are_reported(here: Path) -> None:
    path = corrected_csv()
    assert quarantine("replay", path, "--quiet")[0] == 0
    Path("other.csv").write_bytes(DIRTY)
    document = json.loads(call_main(["other.csv", "--quiet", "--json"])[1])
    assert document["corrected_rows"] == 0
    assert "it is not in the input" in (Path(document["run_dir"]) / "events.jsonl").read_text()
    Path("orders.csv").unlink()
    code, _, told = quarantine("replay", path)
    assert code == 1
    assert "orders.csv" in told


def test_a_dry_run_counts_corrections_and_writes_nothing(here: Path) -> None:
    assert quarantine("replay", corrected_csv(), "--no-run")[0] == 0
    before = sorted(path.as_posix() for path in here.rglob("*"))
    assert json.loads(call_main(["orders.csv", "--dry-run", "--json"])[1])["corrected_rows"] == 3
    assert "corrected   3 rows" in call_main(["orders.csv", "--dry-run"])[1]
    assert sorted(path.as_posix() for path in here.rglob("*")) == before


def test_without_a_run_corrections_wait_for_the_next(here: Path) -> None:
    before = customers()
    code, _, told = quarantine("replay", corrected_csv(), "--no-run")
    assert code == 0
    assert "3 corrected rows" in told
    assert customers() == before
    assert json.loads(call_main(["orders.csv", "--quiet", "--json"])[1])["corrected_rows"] == 3


def test_forgotten_corrections_are_gone(here: Path) -> None:
    assert quarantine("replay", corrected_csv(), "--quiet")[0] == 0
    after = customers()
    code, _, told = quarantine("forget", "orders.csv")
    assert code == 0
    assert "3 corrections are forgotten" in told
    assert json.loads(call_main(["orders.csv", "--quiet", "--json"])[1])["rows"]["rejected"] == 3
    assert customers() != after
    assert quarantine("forget", "--all")[0] == 0


def test_settings_of_the_run_are_repeated_from_anywhere(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = {"rule": "range", "name": "large", "column": "price", "max": "50", "on_failure": "reject_row"}
    config = write_settings(
        here / "s.toml",
        rule,
        money={"scale": 2},
        metrics={"margin": "0.5"},
        columns={"customer_id": "customer_id", "order_date": "order_date", "amount": "amount", "price": "amount * 2"},
    )
    assert call_main(["orders.csv", "--config", str(config), "--as-of", "2024-12-31", "--to", "out", "--quiet"])[0] == 0
    path = corrected_csv(here / "rejects.csv", FIXED | {2: "2,A,2024-02-28,25.00,x"})
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    code, out, told = quarantine("replay", path, "--quiet", "--json", "--work-dir", here / ".daskae")
    assert code == 0, told
    document = json.loads(out)
    assert document["rows"]["rejected"] == 0
    assert document["as_of"] == "2024-12-31"
    assert read_tables(here / "out")["customer_metrics"].num_rows == 3


def test_a_day_in_a_rule_is_repeated_as_it_was(here: Path) -> None:
    Path("s.toml").write_text('[[rules]]\nrule = "range"\ncolumn = "order_date"\nmin = 2024-01-02\n')
    assert call_main(["orders.csv", "--config", "s.toml", "--quiet"])[0] == 0
    code, out, told = quarantine("replay", corrected_csv(), "--quiet", "--json")
    assert code == 0, told
    assert json.loads(out)["rows"]["rejected"] == 0


def test_other_flags_beat_those_of_the_run(here: Path) -> None:
    before = customers()
    code, out, told = quarantine("replay", corrected_csv(), "--to", "sqlite:///new.db", "--quiet", "--json")
    assert code == 0, told
    assert "new.db" in json.loads(out)["tables"]["customer_metrics"]["target"]
    assert customers() == before
    assert set(customers("new.db")) == {"A", "B", "C"}


def test_an_appended_load_is_not_appended_again(here: Path) -> None:
    assert call_main(["orders.csv", "--strategy", "append", "--to", "sqlite:///a.db", "--quiet"])[0] == 0
    path = corrected_csv()
    code, _, told = quarantine("replay", path)
    assert code == 2
    assert "--strategy replace" in told
    assert json.loads(quarantine("list", "--json")[1])["corrections"] == {}
    assert quarantine("replay", path, "--strategy", "replace", "--quiet")[0] == 0
    assert set(customers("a.db")) == {"A", "B", "C"}


def test_metrics_of_ones_own_are_asked_for(here: Path) -> None:
    lines = metric("line_total", pl.len(), combine="sum", kind="integer")
    assert call_main(["orders.csv", "--quiet"], metrics=[lines])[0] == 0
    path = corrected_csv()
    code, _, told = quarantine("replay", path)
    assert code == 2
    assert "line_total" in told
    assert "--no-run" in told
    assert quarantine("replay", path, "--quiet", metrics=[lines])[0] == 0


def test_rules_of_ones_own_are_asked_for(here: Path) -> None:
    rule = RowRule("small", check=pl.col("amount") < 100)
    assert call_main(["orders.csv", "--quiet"], rules=[rule])[0] == 0
    path = corrected_csv()
    code, _, told = quarantine("replay", path)
    assert code == 2
    assert "small" in told
    assert quarantine("replay", path, "--quiet", rules=[rule])[0] == 0
    assert set(customers()) == {"A", "B", "C"}


def test_the_summary_says_how_many_rows_are_corrected(here: Path) -> None:
    code, out, _ = quarantine("replay", corrected_csv(), "--quiet")
    assert code == 0
    assert re.search(r"corrected +3 +60", out)


def test_what_a_killed_run_left_is_not_the_latest(here: Path) -> None:
    latest = run_id()
    killed = here / ".daskae" / "runs" / "29991231T000000-000000"
    shutil.copytree(here / ".daskae" / "runs" / latest / "quarantine", killed / "quarantine")
    os.utime(killed, (4e9, 4e9))
    runs = json.loads(quarantine("list", "--json")[1])["runs"]
    assert [(run["run_id"], run["status"], run["rejected"]) for run in runs] == [
        (latest, "done", 3),
        (killed.name, "unfinished", 3),
    ]
    assert quarantine("show", "--json")[1].count(latest) == 3
    assert quarantine("show", killed.name, "--json")[1].count(killed.name) == 3


def test_rows_of_a_database_are_refused(tmp_path: Path) -> None:
    database = tmp_path / "shop.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE orders (customer_id TEXT, order_date TEXT, amount TEXT)")
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", [("A", "2024-01-01", "1"), ("B", "never", "2")])
    config = write_settings(tmp_path / "s.toml", input={"table": "orders"})
    argv = [f"sqlite:///{database}", "--to", f"{tmp_path}/out", "--work-dir", f"{tmp_path}/work", "--quiet"]
    assert call_main([*argv, "--config", str(config)])[0] == 0
    row = {"customer_id": "B", "order_date": "2024-01-01", "amount": "2"}
    path = write_corrected(tmp_path / "r.jsonl", tmp_path / "work", {("orders", 2): json.dumps(row)})
    code, _, told = quarantine("replay", path, "--work-dir", tmp_path / "work")
    assert code == 2
    assert "correct it in the database" in told


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


PLACE = {"_file": "orders.csv", "_row_number": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines({**PLACE, "_raw": "2,A,2024-01-01,1,x\n3,B,2024-01-01,2,y"}), "not exactly one record"),
        (lines({**PLACE, "_raw": '2,A,"2024-01-01,1,x'}), "not exactly one record"),
        (lines({**PLACE, "_raw": " "}), "is empty"),
        (lines({**PLACE, "_raw": "2,A,2024-01-01,1,x", "order_id": "2"}), "both _raw and the columns"),
        (lines({**PLACE, "order_id": "2"}), "the columns are not those of the source"),
        (lines({**PLACE, "price": "2"}), "'price' is no column of it"),
        (lines({"_file": "orders.csv", "_row_number": 1, "_raw": "x"}), "not in the quarantine of this run"),
        (lines({"_file": "other.csv", "_row_number": 2, "_raw": "x"}), "not in the quarantine of this run"),
        (lines({**PLACE, "_raw": "x"}, {**PLACE, "_raw": "y"}), "two rows correct one record"),
        (lines({"_row_number": 2, "_raw": "x"}), "does not say which record"),
        (lines({"_file": "orders.csv", "_row_number": "two", "_raw": "x"}), "not a number"),
        (lines({**PLACE, "_raw": "x", "_run_id": "nothing"}), "no run of this id"),
        ("[1]\n", "not a JSON object"),
        ("{\n", "not valid jsonl"),
        ("", "no row is corrected"),
    ],
)
def test_wrong_corrections_are_named_and_nothing_is_kept(there: Path, content: str, message: str) -> None:
    path = there / "wrong.jsonl"
    path.write_text(content)
    code, _, told = quarantine("replay", path)
    assert code == 2
    assert message in told
    assert "Traceback" not in told
    assert json.loads(quarantine("list", "--json")[1])["corrections"] == {}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["replay", "none.csv"], "no such file"),
        (["replay", "none.txt"], "format of the file"),
        (["replay"], ""),
        (["replay", "none.csv", "--strategy", "twice"], ""),
        (["show", "20000101"], "no run of this id"),
        (["show", "--limit", "-1"], "negative"),
        (["show", "--out", "x.xlsx"], "format of the file"),
        (["show", "--columns"], "without --out"),
        (["show", "--work-dir", "nowhere"], "no run here has rejected rows"),
        (["forget"], "name the files, or all"),
        (["forget", "orders.csv", "--all"], "name the files, or all"),
        (["forget", "orders.csv"], "has no corrections"),
        (["mend"], ""),
    ],
)
def test_wrong_use_ends_with_2(there: Path, argv: list[str], message: str) -> None:
    code, _, told = quarantine(*argv)
    assert code == 2
    assert message in told
    assert "Traceback" not in told


def test_a_csv_with_a_torn_line_is_refused(there: Path) -> None:
    path = corrected_csv()
    path.write_text(path.read_text() + "x,y\n")
    code, _, told = quarantine("replay", path)
    assert code == 2
    assert "not as many fields as the header" in told


def test_damaged_corrections_are_named(here: Path) -> None:
    assert quarantine("replay", corrected_csv(), "--no-run")[0] == 0
    kept = here / ".daskae" / "corrections" / "corrections.json"
    kept.write_bytes(b"PAR1")
    for code, told in ((call_main(["orders.csv", "--quiet"])[0], ""), quarantine("list")[::2]):
        assert code == 1
        assert not told or "cannot be read" in told


def test_what_tasks_read_of_corrections_is_made_again(here: Path) -> None:
    assert quarantine("replay", corrected_csv(), "--quiet")[0] == 0
    expected = customers()
    for path in here.glob(".daskae/patches/*/*.parquet"):
        path.write_bytes(b"PAR1")
    shutil.rmtree(here / ".daskae" / "maps")
    assert call_main(["orders.csv", "--quiet"])[0] == 0
    assert customers() == expected


@pytest.mark.parametrize("point", ["corrections.before_rename", "corrections.stored", "exchange.after_commit"])
def test_a_killed_replay_is_done_by_the_same_command(here: Path, point: str) -> None:
    path = corrected_csv()
    argv = [sys.executable, "-m", "jobs.quarantine", "replay", str(path), "--quiet"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "DASKAE_CRASH_AT": point}
    environment |= {name: os.environ[name] for name in (NOTES_VARIABLE,) if name in os.environ}
    armed("replay")
    killed = subprocess.run(argv, env=environment, capture_output=True, timeout=180, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert set(customers()) == {"A", "C"}
    assert quarantine("replay", path, "--quiet")[0] == 0
    assert set(customers()) == {"A", "B", "C"}


@pytest.mark.dask
def test_workers_read_corrections_too(tmp_path: Path) -> None:
    files = {f"o{i}.csv": DIRTY for i in range(3)}
    inputs = write(tmp_path / "in", files)
    run(inputs, tmp_path, block_size=40)
    corrections = {(name, row): text for name in files for row, text in FIXED.items()}
    path = write_corrected(tmp_path / "r.jsonl", tmp_path / "work", corrections)
    expected = run(
        write(tmp_path / "mended", {n: mended(d, FIXED, PLAIN) for n, d in files.items()}), tmp_path / "other"
    )
    flags: list[object] = ["--cluster", "local", "--workers", 2, "--work-dir", tmp_path / "work"]
    code, out, told = quarantine("replay", path, "--json", "--quiet", *flags)
    assert code == 0, told
    assert json.loads(out)["corrected_rows"] == 9
    assert_same_tables(read_tables(tmp_path / "out"), expected.tables)


def test_help_is_quick_to_import() -> None:
    code = "import sys, jobs.quarantine as q; q.main(['replay', '--help']); sys.exit(any(n in sys.modules for n in ("
    done = subprocess.run(
        [sys.executable, "-c", code + "'polars', 'pyarrow', 'dask', 'pydantic')))"],
        cwd=ROOT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--no-run" in done.stdout
