"""The command as people use it: arguments in; an exit code, a document, tables and plain words out."""

import gc
import gzip
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daskae.aggregate import FrameMetric, metric
from daskae.load.base import METADATA_COLUMNS
from tests.fault_log import strike
from tests.support import ROOT, TABLES, call_main, orders_csv, read_tables, toml_value, write_settings

CUSTOMER_COLUMNS = [
    "customer_id", "order_count", "total_revenue", "avg_order_value", "std_order_value", "first_order_at",
    "last_order_at", "days_active", "avg_days_between_orders", "days_since_last_order", "is_churned", "cohort_month",
    "realized_ltv", "projected_ltv", "rfm_recency", "rfm_frequency", "rfm_monetary", "segment",
]  # fmt: skip
COLUMNS = {
    "customer_metrics": CUSTOMER_COLUMNS,
    "cohort_metrics": [
        "cohort_month", "period_index", "cohort_size", "active_customers", "retention", "rolling_active_customers",
        "rolling_retention", "revenue", "cumulative_revenue", "cumulative_ltv", "is_partial",
    ],
    "kpis": ["metric_name", "value", "unit", "as_of"],
    "validation_results": [
        "rule_name", "severity", "passed", "checked_rows", "affected_rows", "message", "details",
    ],
}  # fmt: skip
DOCUMENT_KEYS = {
    "run_id", "status", "rows", "tables", "kpis", "seconds", "peak_memory_bytes", "reused_partitions", "run_dir",
    "report",
}  # fmt: skip
HEAVY = ("dask", "distributed", "pandas", "polars", "pyarrow")

CLEAN = b"""order_id,customer_id,order_date,amount
1,A,2024-01-05,10.00
2,A,2024-02-05,30.50
3,B,2024-02-10,0.0001
4,C,2024-03-01,7
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where the defaults go too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_bytes(CLEAN)
    return tmp_path


def command(*argv: object, **options: Any) -> tuple[int, dict[str, Any]]:
    """Run in this process and return the exit code and the document; ``{}`` where there is none."""
    code, text = call_main([*map(str, argv), "--json", "--quiet"], **options)
    return code, json.loads(text) if text else {}


def rejected(document: dict[str, Any]) -> dict[str, int]:
    """Rejected rows by rule, rules that no row broke left out."""
    return {name: count for name, count in document["rows"]["rejected_by_rule"].items() if count}


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a database, as a user would."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(sql).fetchall()


def customers(database: Path = Path("customer_metrics.db")) -> dict[str, dict[str, Any]]:
    """The customer table by id."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        return {row["customer_id"]: dict(row) for row in connection.execute("SELECT * FROM customer_metrics")}


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below one, with content."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    """Run what should fail; return the exit code and what was said, which holds no traceback."""
    code, _ = call_main([*map(str, argv), "--quiet"])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return code, error


# --- the plain run


def test_a_run_without_any_settings(here: Path) -> None:
    code, document = command("orders.csv")
    assert code == 0
    assert document["status"] == "done"
    assert document["rows"]["read"] == document["rows"]["accepted"] == 4
    assert document["kpis"]["revenue"] == "47.5001"
    found = customers()
    assert sorted(found) == ["A", "B", "C"]
    assert found["A"]["order_count"] == 2
    assert found["A"]["first_order_at"] == "2024-01-05 00:00:00"
    assert found["A"]["cohort_month"] == "2024-01-01"
    assert Decimal(str(found["B"]["total_revenue"])) == Decimal("0.0001")
    assert query(Path("customer_metrics.db"), "SELECT sum(order_count) FROM customer_metrics") == [(4,)]


def test_order_amount_is_a_common_name_for_amount(here: Path) -> None:
    (here / "orders.csv").write_bytes(CLEAN.replace(b",amount", b",order_amount"))
    code, document = command("orders.csv")
    assert (code, document["kpis"]["revenue"]) == (0, "47.5001")


def test_the_document_is_all_there_is_on_stdout(here: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "jobs.customer_metrics", "orders.csv", "--json"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
    )  # fmt: skip
    document = json.loads(result.stdout)
    assert set(document) >= DOCUMENT_KEYS
    assert set(document["rows"]) == {"read", "accepted", "rejected", "rejected_by_rule"}
    assert set(document["tables"]) == set(TABLES)
    assert all(set(table) == {"rows", "target", "changes"} for table in document["tables"].values())
    assert document["seconds"].keys() >= {"map", "reduce", "publish", "total"}
    assert document["peak_memory_bytes"] > 1 << 20
    assert Path(document["report"]).read_text().startswith("<!doctype html")
    assert json.loads((Path(document["run_dir"]) / "manifest.json").read_text()) == document


def test_without_json_a_summary_for_people_is_printed(here: Path) -> None:
    code, text = call_main(["orders.csv", "--quiet"])
    assert code == 0
    assert "accepted" in text
    assert "customer_metrics" in text
    with pytest.raises(json.JSONDecodeError, match="Expecting value"):
        json.loads(text)


def test_verbose_shows_every_event_as_a_log_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call_main(["orders.csv", "-v"])[0] == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d INFO ", line) for line in lines)
    assert any("INFO map 1/1 orders.csv" in line for line in lines)
    assert "INFO run finished, done" in lines[-1]


def test_only_known_reasons_are_listed(here: Path) -> None:
    _, document = command("orders.csv")
    assert document["rows"]["rejected_by_rule"] == {}


def test_rows_that_break_the_contract_are_in_validation_results(here: Path) -> None:
    bad = b"5,A,someday,1\n6,,2024-01-01,1\n7,A,2024-01-01\n"
    (here / "orders.csv").write_bytes(CLEAN + bad)
    code, document = command("orders.csv")
    counts = {"wrong_field_count": 1, "missing_customer_id": 1, "unparsable_date": 1}
    assert code == 0
    assert rejected(document) == counts
    rows = query(Path("customer_metrics.db"), "SELECT rule_name, affected_rows FROM validation_results")
    assert dict(rows) == counts


# --- help, usage and settings


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_is_there_without_the_heavy_libraries(flag: str, tmp_path: Path) -> None:
    script = f"""
import json, sys
from jobs.customer_metrics import main
code = main([{flag!r}])
print(json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    *shown, last = result.stdout.splitlines()
    assert json.loads(last) == [0, []]
    assert any("--strategy" in line for line in shown) == (flag == "--help")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("orders", ["orders.csv", "orders.parquet"])
@pytest.mark.parametrize("target", ["sqlite:///out.db", "out/"])
def test_a_run_in_one_process_loads_neither_pandas_nor_dask(orders: str, target: str, here: Path) -> None:
    pl.read_csv("orders.csv", infer_schema=False).write_parquet("orders.parquet")
    script = f"""
import sys
from jobs.customer_metrics import main
code = main(["{orders}", "--quiet", "--to", {target!r}])
sys.exit(code or ", ".join({{"pandas", "dask", "distributed"}} & set(sys.modules)) or 0)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_a_callers_garbage_is_not_kept(here: Path) -> None:
    """The command freezes what it has loaded; in a process that is not its own that would be a leak."""
    before = gc.get_freeze_count()
    assert call_main(["orders.csv", "--to", "out/", "--quiet"])[0] == 0
    assert gc.isenabled()
    assert gc.get_freeze_count() <= before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("flags", [[], ["--json"], ["--dry-run"]])
def test_an_output_that_cannot_be_written_is_an_error_of_ours(flags: list[str], here: Path) -> None:
    command = [sys.executable, "-m", "jobs.customer_metrics", "orders.csv", "--to", "out/", "--quiet", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: the output cannot be written to stdout\n")
    assert (here / "out").exists() == (flags != ["--dry-run"])


def test_an_unknown_flag_names_the_nearest(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _ = call_main(["orders.csv", "--stratgy", "append"])
    said = capfd.readouterr()
    assert code == 2
    assert "--strategy" in said.err
    assert not said.out
    assert [path.name for path in here.iterdir()] == ["orders.csv"]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("[colums]\namount = 'a'\n", "columns"),
        ("[input]\ndelimeter = ';'\n", "delimiter"),
        ("[[rules]]\nrule = 'range'\ncolum = 'amount'\nmin = 1\n", "column"),
        ("[metrics]\nchurn_day = 3\n", "churn_days"),
    ],
)
def test_a_misspelt_key_names_the_nearest(text: str, near: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "settings.toml").write_text(text)
    code, error = refused(capsys, "orders.csv", "--config", "settings.toml")
    assert code == 2
    assert f"did you mean {near!r}" in error
    assert "settings.toml" in error


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--block-size", "lots"], "64MiB"),
        (["--workers", "0"], "workers"),
        (["--as-of", "yesterday"], "as_of"),
        (["--cluster", "moon"], "unknown cluster"),
        (["--to", "oracle://me:secret@host/db"], "a driver that is not installed"),
        (["--config", "nowhere.toml"], "no such settings file"),
        (["--strategy", "guess"], "replace"),
    ],
)
def test_wrong_values_are_usage_errors(
    argv: list[str], said: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _ = call_main(["orders.csv", *argv, "--quiet"])
    error = capfd.readouterr().err
    assert code == 2
    assert said in error
    assert "secret" not in error
    assert "Traceback" not in error


def test_no_input_is_a_usage_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys)[0] == 2


def test_flag_beats_environment_beats_file_beats_default(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def target(*argv: str) -> str:
        code, document = command("orders.csv", "--dry-run", *argv)
        assert code == 0
        return str(document["to"])

    assert target() == "sqlite:///customer_metrics.db"
    (here / "settings.toml").write_text('to = "from_file/"\n')
    assert target("--config", "settings.toml") == "from_file/"
    monkeypatch.setenv("DASKAE_TO", "from_environment/")
    assert target("--config", "settings.toml") == "from_environment/"
    assert target("--config", "settings.toml", "--to", "from_flag/") == "from_flag/"


def test_nested_settings_come_from_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKAE_MONEY__SCALE", "2")
    _, document = command("orders.csv")
    assert rejected(document) == {"unparsable_number": 1}
    (here / "settings.toml").write_text("[money]\nscale = 3\n")
    _, document = command("orders.csv", "--config", "settings.toml")
    assert rejected(document) == {"unparsable_number": 1}


@pytest.mark.parametrize(("name", "code"), [("inline", 0), ("moon", 2)])
def test_every_flag_has_its_variable(name: str, code: int, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKAE_CLUSTER", name)
    assert command("orders.csv")[0] == code


def test_a_broken_variable_is_a_settings_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKAE_RULES", "not json")
    assert command("orders.csv")[0] == 2


# --- exit codes and refusals


def test_rejected_rows_beyond_the_threshold_are_exit_3(here: Path) -> None:
    (here / "orders.csv").write_bytes(CLEAN + b"5,A,someday,1\n")
    config = write_settings(here / "settings.toml", quality={"max_rejected_share": 0.19})
    code, document = command("orders.csv", "--config", config)
    assert (code, document["status"]) == (3, "done_with_rejects")
    assert len(customers()) == 3
    config = write_settings(here / "settings.toml", quality={"max_rejected_share": 0.2})
    assert command("orders.csv", "--config", config)[0] == 0


def test_a_blocking_rule_is_exit_4_and_leaves_the_target(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("orders.csv")[0] == 0
    before = Path("customer_metrics.db").read_bytes()
    (here / "orders.csv").write_bytes(CLEAN + b"5,D,2024-01-01,-1\n")
    rule = {"rule": "range", "name": "paid", "column": "amount", "min": 0, "on_failure": "block_run"}
    code, document = command("orders.csv", "--config", write_settings(here / "strict.toml", rule))
    assert (code, document["status"]) == (4, "refused")
    assert document["rows"]["read"] == 5
    assert "rule paid" in document["message"]
    assert "rule paid" in capsys.readouterr().err
    assert Path("customer_metrics.db").read_bytes() == before
    within = write_settings(here / "loose.toml", {**rule, "max_share": 0.2})
    assert command("orders.csv", "--config", within)[0] == 0
    assert "D" in customers()


def test_completeness_blocks_the_run(here: Path) -> None:
    (here / "orders.csv").write_bytes(CLEAN.replace(b"3,B", b",B"))
    rule: dict[str, Any] = {"rule": "completeness", "column": "order_id"}
    assert command("orders.csv", "--config", write_settings(here / "a.toml", rule))[0] == 4
    assert command("orders.csv", "--config", write_settings(here / "b.toml", {**rule, "max_rows": 1}))[0] == 0


def test_not_one_row_accepted_is_exit_4(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "orders.csv").write_bytes(CLEAN.replace(b"2024", b"someday"))
    code, error = refused(capsys, "orders.csv")
    assert code == 4
    assert "not one row was accepted" in error
    assert "unparsable_date" in error
    assert "rejects:" in error
    assert not Path("customer_metrics.db").exists()


def test_a_file_with_a_header_alone(here: Path) -> None:
    (here / "orders.csv").write_bytes(CLEAN.splitlines(keepends=True)[0])
    code, document = command("orders.csv")
    assert (code, document["rows"]["read"]) == (0, 0)
    assert customers() == {}


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_signals_end_the_run_and_keep_what_is_done(number: signal.Signals, code: int, here: Path) -> None:
    (here / "orders.csv").write_bytes(orders_csv(2_000))
    argv = ["orders.csv", "--block-size", "512", "--workers", "1", "--json", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DASKAE_STOP_AT": "exchange.after_commit"}
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.customer_metrics", *argv],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        time.sleep(0.01)
    strike(process.pid, number, "in the middle of a task", "driver")
    process.send_signal(signal.SIGCONT)
    _, error = process.communicate(timeout=180)
    assert process.returncode == code
    assert "run the same command again" in error
    assert "Traceback" not in error
    done = len(list(here.glob(".daskae/maps/*/*/manifest.json")))
    manifest = json.loads(next(here.glob(".daskae/runs/*/manifest.json")).read_text())
    assert manifest["status"] == "interrupted"
    assert not Path("customer_metrics.db").exists()
    end, document = command(*argv[:-2])
    assert end == 0
    assert document["reused_partitions"] == done > 0


def test_a_traceback_shows_only_when_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "nowhere.csv")[0] == 1
    assert refused(capsys, "nowhere.csv", "-v")[0] == 1
    assert call_main(["nowhere.csv", "--quiet", "-vv"])[0] == 1
    assert "Traceback" in capsys.readouterr().err
    assert any("Traceback" in path.read_text() for path in here.glob(".daskae/runs/*/*") if path.is_file())


# --- inputs that cannot be read


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _blank_lines(path: Path) -> None:
    path.write_bytes(b"\n\n\n")


def _cut_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(orders_csv(2_000))[:-200])


def _no_gzip(path: Path) -> None:
    path.write_bytes(CLEAN)


def _cut_parquet(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)
    path.write_bytes(path.read_bytes()[:-10])


def _same_names(path: Path) -> None:
    path.write_bytes(b"order_id,customer_id,customer_id,order_date,amount\n")


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("bad.csv", None, "no such file"),
        ("bad.csv", _empty, "empty"),
        ("bad.csv", _blank_lines, "header"),
        ("bad.csv.gz", _cut_gzip, "ends too early|cannot be read"),
        ("bad.csv.gz", _empty, "empty"),
        ("bad.csv.gz", _no_gzip, "cannot be read"),
        ("bad.csv.zst", _no_gzip, "cannot be read"),
        ("bad.parquet", _cut_parquet, "not a readable Parquet file"),
        ("bad.parquet", _empty, "empty"),
        ("bad.csv", _same_names, "same name"),
    ],
)
def test_unreadable_inputs_are_named(
    name: str, make: Callable[[Path], None] | None, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("orders.csv")[0] == 0
    before = Path("customer_metrics.db").read_bytes()
    if make is not None:
        make(here / name)
    code, error = refused(capsys, "orders.csv", name)
    assert code == 1
    assert name in error
    assert re.search(said, error)
    assert Path("customer_metrics.db").read_bytes() == before


def test_a_missing_column_names_the_file_and_near_names(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "orders-2.csv").write_bytes(CLEAN.replace(b"customer_id", b"custmer_id"))
    code, error = refused(capsys, "orders.csv", "orders-2.csv")
    assert code in (1, 2)
    assert "orders-2.csv" in error
    assert "custmer_id" in error


def test_a_misspelt_column_in_the_settings_names_the_nearest(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"customer_id": "customer_id", "order_date": "order_date", "amount": {"column": "amout"}}
    code, error = refused(capsys, "orders.csv", "--config", write_settings(here / "s.toml", columns=columns))
    assert code == 2
    assert "did you mean 'amount'" in error


def test_a_folder_without_data_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "inbox").mkdir()
    (here / "inbox" / "_orders.csv").write_bytes(CLEAN)
    code, error = refused(capsys, "inbox")
    assert code == 1
    assert "inbox" in error


# --- dry runs


def test_a_dry_run_writes_nothing(here: Path) -> None:
    os.utime("orders.csv", (1_700_000_000, 1_700_000_000))  # of an old file a run keeps what its scan found
    before = snapshot(here)
    code, document = command("orders.csv", "--dry-run")
    assert code == 0
    assert document["dry_run"] is True
    assert document["partitions"] == 1
    code, text = call_main(["orders.csv", "--dry-run"])
    assert code == 0
    assert "nothing is written" in text
    assert snapshot(here) == before
    assert command("orders.csv")[0] == 0
    before = snapshot(here)
    assert [name for name in before if name.startswith(".daskae/scans/")]
    shutil.rmtree(here / ".daskae" / "scans")
    (here / ".daskae" / "scans").mkdir()
    before = snapshot(here)
    _, document = command("orders.csv", "--dry-run", "--to", "out/")
    assert document["reused_partitions"] == 1
    assert snapshot(here) == before


def test_a_dry_run_finds_what_would_stop_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(here)
    assert refused(capsys, "orders.csv", "--dry-run", "--to", "sqlite:///nowhere/metrics.db")[0] == 1
    assert refused(capsys, "orders.csv", "--dry-run", "--memory-limit", "1MB")[0] == 1
    assert refused(capsys, "nowhere.csv", "--dry-run")[0] == 1
    assert snapshot(here) == before


# --- targets


def test_sqlite_and_parquet_hold_the_same_tables(here: Path) -> None:
    (here / "orders.csv").write_bytes(orders_csv(80))
    rule = {"rule": "range", "name": "cheap", "column": "amount", "max": 80, "on_failure": "warn"}
    config = write_settings(here / "s.toml", rule)
    assert command("orders.csv", "--config", config)[0] == 0
    code, document = command("orders.csv", "--config", config, "--to", "out/")
    assert code == 0
    for name, columns in COLUMNS.items():
        table = pa.concat_tables(pq.read_table(path) for path in sorted((here / "out" / name).glob("*.parquet")))
        assert table.column_names == [*columns, *METADATA_COLUMNS]
        stored = query(Path("customer_metrics.db"), f"SELECT name FROM pragma_table_info('{name}')")
        assert [row[0] for row in stored] == [*columns, *METADATA_COLUMNS]
        (count,) = query(Path("customer_metrics.db"), f"SELECT count(*) FROM {name}")[0]
        assert count == table.num_rows == document["tables"][name]["rows"] > 0
        assert set(table["_source_rows"].to_pylist()) == {80}
    money = [row[0] for row in query(Path("customer_metrics.db"), "SELECT total_revenue FROM customer_metrics")]
    exact = read_tables(here / "out")["customer_metrics"]["total_revenue"].to_pylist()
    assert sorted(Decimal(str(value)) for value in money) == sorted(exact)


def test_a_kpi_is_what_the_tables_say(here: Path) -> None:
    (here / "orders.csv").write_bytes(orders_csv(200))
    _, document = command("orders.csv")
    kpis = dict(query(Path("customer_metrics.db"), "SELECT metric_name, value FROM kpis"))
    found = customers()
    assert kpis["customers"] == len(found)
    assert kpis["orders"] == sum(row["order_count"] for row in found.values())
    revenue = sum(Decimal(str(row["total_revenue"])) for row in found.values())
    assert Decimal(str(kpis["revenue"])) == revenue == Decimal(document["kpis"]["revenue"])
    assert kpis["average_order_value"] == pytest.approx(float(revenue) / kpis["orders"], abs=1e-9)


def test_the_same_input_appended_twice_is_there_once(here: Path) -> None:
    for again in (False, True):
        code, document = command("orders.csv", "--strategy", "append")
        assert code == 0
        assert document["already_published"] is again
    assert query(Path("customer_metrics.db"), "SELECT count(*) FROM customer_metrics") == [(3,)]
    (here / "orders.csv").write_bytes(CLEAN + b"5,D,2024-03-02,1\n")
    assert command("orders.csv", "--strategy", "append")[0] == 0
    assert query(Path("customer_metrics.db"), "SELECT count(*) FROM customer_metrics") == [(7,)]
    assert query(Path("customer_metrics.db"), "SELECT count(DISTINCT _load_id) FROM customer_metrics") == [(2,)]
    # Replacing takes all loads out.
    assert command("orders.csv", "--strategy", "replace")[0] == 0
    assert query(Path("customer_metrics.db"), "SELECT count(*) FROM customer_metrics") == [(4,)]


def test_as_of_decides_recency_and_churn(here: Path) -> None:
    _, document = command("orders.csv")
    assert document["as_of"] == "2024-03-01"
    assert [row["is_churned"] for row in customers().values()] == [0, 0, 0]
    code, document = command("orders.csv", "--as-of", "2025-02-05")
    found = customers()
    assert (code, document["as_of"]) == (0, "2025-02-05")
    # 366 days since A's last order is more than 365; B's 361 are not.
    assert [(found[name]["days_since_last_order"], found[name]["is_churned"]) for name in "AB"] == [(366, 1), (361, 0)]
    assert document["kpis"]["churned_customers"] == 1


# --- a user's own metrics


def test_own_metrics_are_columns(here: Path) -> None:
    largest = metric("largest_order", pl.col("amount").max(), combine="max", kind="money")
    small = metric("small_orders", (pl.col("amount") < 100_000).sum().cast(pl.Int64), combine="sum", kind="integer")
    middle = FrameMetric("median_order", lambda orders: orders.groupby("customer_id")["amount"].median(), "float")
    code, document = command("orders.csv", metrics=[largest, small, middle])
    assert (code, document["status"]) == (0, "done")
    found = customers()
    assert Decimal(str(found["A"]["largest_order"])) == Decimal("30.5")
    assert {name: row["small_orders"] for name, row in found.items()} == {"A": 0, "B": 1, "C": 1}
    assert found["A"]["median_order"] == pytest.approx(20.25)
    assert list(found["A"])[len(CUSTOMER_COLUMNS) :][:3] == ["largest_order", "small_orders", "median_order"]


def test_a_metric_over_a_free_column(here: Path) -> None:
    lines = CLEAN.splitlines()
    extra = [b"points", b"5", b"7", b"1", b"0"]
    (here / "orders.csv").write_bytes(b"\n".join(b",".join(pair) for pair in zip(lines, extra, strict=True)))
    names = {name: name for name in ("order_id", "customer_id", "order_date", "amount")}
    points = {"column": "points", "dtype": "integer"}
    config = write_settings(here / "s.toml", columns={**names, "points": points})
    total = metric("points", pl.col("points").sum(), combine="sum", kind="integer")
    assert command("orders.csv", "--config", config, metrics=[total])[0] == 0
    assert {name: row["points"] for name, row in customers().items()} == {"A": 12, "B": 1, "C": 0}


def test_a_metric_whose_name_is_taken_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = metric("order_count", pl.len(), combine="sum", kind="integer")
    assert command("orders.csv", metrics=[taken])[0] == 2
    assert "order_count" in capsys.readouterr().err


def test_a_metric_that_fails_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(orders: Any) -> Any:
        return orders["no such column"]

    assert command("orders.csv", metrics=[FrameMetric("broken", wrong)])[0] == 1
    error = capsys.readouterr().err
    assert "metric broken" in error
    assert "Traceback" not in error
    assert not Path("customer_metrics.db").exists()


# --- kinds of inputs


def expected_rows(here: Path) -> dict[str, dict[str, Any]]:
    """The customer table of the plain file, without metadata."""
    assert command("orders.csv", "--to", "sqlite:///plain.db")[0] == 0
    return without_metadata(customers(here / "plain.db"))


def without_metadata(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {k: v for k, v in row.items() if k not in METADATA_COLUMNS} for name, row in rows.items()}


@pytest.mark.parametrize("codec", [("gz", "gzip"), ("zst", "zstd")], ids=lambda codec: codec[0])
def test_compressed_inputs_give_the_same(codec: tuple[str, str], here: Path) -> None:
    (here / "orders.csv").write_bytes(orders_csv(300))
    expected = expected_rows(here)
    with pa.CompressedOutputStream(f"packed.csv.{codec[0]}", codec[1]) as sink:
        sink.write(orders_csv(300))
    assert command(f"packed.csv.{codec[0]}", "--block-size", "1KiB")[0] == 0
    assert without_metadata(customers()) == expected


def test_parquet_inputs_give_the_same(here: Path) -> None:
    expected = expected_rows(here)
    header, *lines = CLEAN.decode().splitlines()
    columns = list(zip(*(line.split(",") for line in lines), strict=True))
    typed = dict(zip(header.split(","), map(list, columns), strict=True))
    dates = pa.array(typed["order_date"]).cast(pa.date32())
    amounts = pa.array([Decimal(text) for text in typed["amount"]], pa.decimal128(12, 4))
    pq.write_table(pa.table({**typed, "order_date": dates, "amount": amounts}), "typed.parquet", row_group_size=2)
    pq.write_table(pa.table(typed), "texts.parquet")
    for name in ("typed.parquet", "texts.parquet"):
        assert command(name, "--block-size", "100")[0] == 0
        assert without_metadata(customers()) == expected


def test_a_folder_a_pattern_and_a_list_of_files_are_the_same(here: Path) -> None:
    (here / "in").mkdir()
    header, *lines = CLEAN.splitlines(keepends=True)
    for i, line in enumerate(lines):
        (here / "in" / f"{i}.csv").write_bytes(header + line)
    expected = expected_rows(here)
    for inputs in (["in"], ["in/*.csv"], [f"in/{i}.csv" for i in (3, 1, 0, 2)], ["in/", "in/2.csv"]):
        code, document = command(*inputs)
        assert (code, document["files"]) == (0, 4)
        assert without_metadata(customers()) == expected


def test_columns_separated_by_blanks_without_a_header(here: Path) -> None:
    rows = b" 00004 0001 19970101  2   29.33\r\n 00004 0001 19970118  2   29.73\r\n 00021 0002 19970101  3   63.34\r\n"
    (here / "log.txt").write_bytes(rows)
    names = ["customer_id", "sample", "order_date", "quantity", "amount"]
    date = {"column": "order_date", "format": "%Y%m%d"}
    config = write_settings(
        here / "s.toml",
        input={"delimiter": "whitespace", "header": names},
        columns={"customer_id": "customer_id", "order_date": date, "amount": "amount", "quantity": "quantity"},
    )
    code, document = command("log.txt", "--config", config, "--block-size", "64")
    assert (code, document["rows"]["read"], document["rows"]["rejected"]) == (0, 3, 0)
    found = customers()
    assert sorted(found) == ["00004", "00021"]
    assert (found["00004"]["order_count"], Decimal(str(found["00004"]["total_revenue"]))) == (2, Decimal("59.06"))
    assert found["00004"]["first_order_at"] == "1997-01-01 00:00:00"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
def test_other_encodings_by_setting(encoding: str, here: Path) -> None:
    text = CLEAN.decode().replace(",B,", ",Müller,") + '5,Müller,someday,"1\n2"\n'
    (here / "orders.csv").write_bytes(text.encode(encoding))
    config = write_settings(here / "s.toml", input={"encoding": encoding})
    code, document = command("orders.csv", "--config", config, "--block-size", "64")
    assert code == 0
    assert document["rows"]["read"] == 5
    assert "Müller" in customers()
    (kept,) = pq.read_table(document["quarantine"]).to_pylist()
    assert kept["raw"] == '5,Müller,someday,"1\n2"'
    assert kept["row_number"] == 5


def test_the_wrong_encoding_is_noticed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "orders.csv").write_bytes(CLEAN.decode().encode("utf-16"))
    code, error = refused(capsys, "orders.csv")
    assert code == 1
    assert "input.encoding" in error


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_database_table_as_input(partitions: int, here: Path) -> None:
    expected = expected_rows(here)
    with closing(sqlite3.connect("shop.db")) as shop, shop:
        shop.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, order_id, customer_id TEXT, order_date TEXT, amount)"
        )
        for line in CLEAN.decode().splitlines()[1:]:
            order, customer, day, amount = line.split(",")
            shop.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", (int(order), order, customer, day, amount))
        shop.execute("INSERT INTO orders VALUES (9, '9', NULL, '2024-01-01', '1')")
    source = {"table": "orders", "key": "id", "partitions": partitions}
    config = write_settings(here / "s.toml", input=source)
    code, document = command("sqlite:///shop.db", "--config", config)
    assert code == 0
    assert rejected(document) == {"missing_customer_id": 1}
    assert without_metadata(customers()) == expected


def test_a_database_without_a_table_name_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sqlite3.connect("shop.db").close()
    code, error = refused(capsys, "sqlite:///shop.db")
    assert code == 2
    assert "input.table" in error


def test_null_texts_and_other_dialects(here: Path) -> None:
    (here / "orders.csv").write_bytes(
        b"order_id;customer_id;order_date;amount\n1;'A;1';05.01.2024;1\n2;NULL;05.01.2024;1\n"
    )
    config = write_settings(
        here / "s.toml",
        input={"delimiter": ";", "quote": "'", "null_values": ["NULL"]},
        columns={
            "order_id": "order_id", "customer_id": "customer_id", "amount": "amount",
            "order_date": {"column": "order_date", "format": "%d.%m.%Y"},
        },
    )  # fmt: skip
    code, document = command("orders.csv", "--config", config)
    assert (code, rejected(document)) == (0, {"missing_customer_id": 1})
    assert list(customers()) == ["A;1"]


def test_toml_values_are_written_as_toml() -> None:
    value = {"column": "a b", "format": ["%d", 'x"y']}
    assert tomllib.loads(f"key = {toml_value(value)}") == {"key": value}
