"""The settings of a load, as a user gives them to the command: dry run, drift, metadata, checks, and the history."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from daskae.load.audits import LoadCheck
from daskae.load.sql.audit import CheckedTable
from jobs import history
from jobs.customer_metrics import main

from .databases import Database

HEAD = "order_id,customer_id,order_date,amount\n"
FIRST = HEAD + "1,C1,2024-01-05,10.50\n2,C1,2024-02-05,4.25\n3,C2,2024-01-07,7.00\n"
SECOND = HEAD + "4,C2,2024-03-01,7.00\n5,C3,2024-03-02,1.25\n"
CHECK = """
[[load.checks]]
name = "revenue_does_not_fall"
table = "customer_metrics"
sql = "SELECT sum(total_revenue) >= (SELECT coalesce(sum(total_revenue), 0) FROM {target}) FROM {staged}"
expect = "true"
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command over one text of orders; return its exit code and what it said."""

    def call(orders: str, settings: str = "", *flags: str, to: str = database.url, **own: Any) -> tuple[int, str, str]:
        (tmp_path / "orders.csv").write_text(orders)
        (tmp_path / "job.toml").write_text(settings)
        argv = [str(tmp_path / "orders.csv"), "--to", to, "--work-dir", str(tmp_path / "work"), "--quiet"]
        code = main([*argv, "--config", str(tmp_path / "job.toml"), *flags], **own)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def statements(text: str) -> list[str]:
    return [part.strip() for part in text.partition("-- statements")[2].partition("\n")[2].split(";\n") if part.strip()]


def test_a_dry_run_prints_the_ddl_that_would_be_run(run: Run, database: Database) -> None:
    code, text, _ = run(FIRST, "", "--dry-run")
    assert code == 0
    assert "customer_metrics: new" in text
    if database.name == "sqlite":
        assert not Path(database.url.removeprefix("sqlite:///")).exists()
    assert database.names() == set()
    database.run(*statements(text))
    code, text, _ = run(FIRST, "", "--dry-run")
    assert "customer_metrics: as it is" in text
    assert statements(text) == []
    assert run(FIRST)[0] == 0
    assert len(database.rows("customer_metrics")) == 2


def test_a_dry_run_says_what_would_change(run: Run, database: Database) -> None:
    assert run(FIRST)[0] == 0
    database.run(
        "ALTER TABLE customer_metrics DROP COLUMN segment", "ALTER TABLE customer_metrics ADD COLUMN mine TEXT",
        "ALTER TABLE _daskae_loads DROP COLUMN rows_flagged",
    )  # fmt: skip
    code, text, _ = run(SECOND, '[load.drift]\nsegment = "ignore"', "--dry-run", "--json", "--strategy", "append")
    assert code == 0
    changes = {change["table"]: change for change in json.loads(text)["changes"]}
    assert changes["customer_metrics"]["change"] == "alter"
    assert changes["customer_metrics"]["notes"] == [
        "column segment is not in the table: left out",
        "column mine is not in the result: new rows have none or its default",
    ]
    assert ["INDEX" in statement for statement in changes["customer_metrics"]["statements"]] == [True, True]
    assert changes["_daskae_loads"]["notes"] == ["column rows_flagged is added"]
    code, text, _ = run(SECOND, "", "--dry-run")
    (added,) = [statement for statement in statements(text) if "segment" in statement]
    assert added.startswith("ALTER TABLE")
    assert len(database.rows("customer_metrics")) == 2


def test_a_dry_run_into_files_has_no_ddl(run: Run, tmp_path: Path) -> None:
    code, text, _ = run(FIRST, "", "--dry-run", to=str(tmp_path / "out"))
    assert (code, "files are written; no table of a database" in text) == (0, True)
    assert json.loads(run(FIRST, "", "--dry-run", "--json", to=str(tmp_path / "out"))[1])["changes"] == []


def test_a_frozen_table_stops_the_run_before_any_work(run: Run, database: Database, tmp_path: Path) -> None:
    assert run(FIRST)[0] == 0
    database.run("ALTER TABLE customer_metrics DROP COLUMN segment")
    for flags in ([], ["--dry-run"]):
        code, _, said = run(SECOND, '[load]\non_drift = "freeze"', *flags)
        assert (code, "column segment is not in the table, and it is frozen" in said) == (1, True)
    code, text, _ = run(SECOND, '[load]\non_drift = "quarantine"', "--json")
    assert code == 0
    assert json.loads(text)["tables"]["customer_metrics"]["changes"]["rejected"] == 2
    (kept,) = tmp_path.glob("work/runs/*/left_out/customer_metrics-column_drift.parquet")
    assert kept.is_file()
    assert database.rows("customer_metrics") == []


def test_metadata_columns_are_chosen_and_named(run: Run, database: Database) -> None:
    assert run(FIRST, '[load]\nmetadata = ["_load_id"]')[0] == 0
    assert [name for name in database.rows("kpis", metadata=True)[0] if name.startswith("_")] == ["_load_id"]
    database.run(*(f"DROP TABLE {name}" for name in database.names() if name != "_daskae_loads"))
    assert run(FIRST, '[load.metadata]\n_load_id = "load"\n_source_rows = "rows read"')[0] == 0
    assert list(database.rows("kpis")[0])[-2:] == ["load", "rows read"]
    code, _, said = run(FIRST, '[load]\nmetadata = ["_loaded_at"]', "--strategy", "append")
    assert (code, "an append needs the column" in said) == (1, True)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ('[load]\non_drift = "evolv"', "load.on_drift"),
        ('[load.drift]\nnote = "never"', "load.drift.note"),
        ('[load]\nmetadata = ["_load"]', "load.metadata"),
        ('[[load.checks]]\nname = "x"\nsql = ""', "load.checks"),
        ('[[load.checks]]\nname = "x"\nsql = "SELECT 1"', "looks at no table"),
        ('[[load.checks]]\nname = "x"\nsql = "SELECT nope FROM {staged.kpis}"', "no query that the database can run"),
        ('[[load.checks]]\nname = "x"\nsql = "SELECT 1 FROM {staged}"', "not said which table is meant"),
    ],
)
def test_settings_that_are_wrong_are_named_before_the_run(settings: str, text: str, run: Run, tmp_path: Path) -> None:
    code, _, said = run(FIRST, settings)
    assert (code, text in said) == (2, True)
    assert not list(tmp_path.glob("work/maps/*"))


def test_a_check_refuses_the_publish_with_exit_code_4(run: Run, database: Database) -> None:
    assert run(FIRST, CHECK)[0] == 0
    before = database.rows("customer_metrics", metadata=True)
    code, text, said = run(SECOND, CHECK, "--json")
    assert code == 4
    assert "refuses the publish: revenue_does_not_fall" in said
    assert json.loads(text)["status"] == "refused"
    assert database.rows("customer_metrics", metadata=True) == before
    code, text, _ = run(SECOND, CHECK + 'on_failure = "warn"', "--json")
    assert (code, json.loads(text)["status"]) == (0, "done")
    assert len(database.rows("customer_metrics")) == 2


@pytest.mark.parametrize("files", [False, True])
def test_a_check_that_warns_is_told_like_a_rule(
    files: bool, run: Run, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = str(tmp_path / "out") if files else database.url
    warn = f'{CHECK}on_failure = "warn"'
    for orders, passed in ((FIRST, True), (SECOND, False)):
        code, text, _ = run(orders, warn, "--json", to=to)
        document = json.loads(text)
        (rule,) = [rule for rule in document["rules"] if rule["kind"] == "load_check"]
        assert (code, rule["rule_name"], rule["severity"]) == (0, "revenue_does_not_fall", "warning")
        assert (rule["passed"], rule["status"]) == (passed, "passed" if passed else "failed")
    assert re.fullmatch(r"\((False|0),\) instead of a single true", rule["message"])
    assert document["validation"]["warning_rules"] == ["revenue_does_not_fall"]
    assert json.loads((Path(document["run_dir"]) / "manifest.json").read_text())["rules"] == document["rules"]
    assert rule["message"] in Path(document["report"]).read_text()

    (rule,) = json.loads(run(SECOND, warn, "--json", to=to)[1])["rules"]
    assert (rule["status"], rule["passed"], rule["message"]) == ("skipped", True, "the target held this load already")

    (tmp_path / "orders.csv").write_text(HEAD + "1,C1,2024-01-05,0.50\n")
    places = ["--config", str(tmp_path / "job.toml"), "--work-dir", str(tmp_path / "work"), "--to", to]
    assert main([str(tmp_path / "orders.csv"), *places]) == 0
    told = capsys.readouterr().out
    assert "0 of 1 passed, 1 warning" in told
    assert re.search(r"✗ revenue_does_not_fall  warning: \((False|0),\) instead of a single true", told)


def test_a_check_in_python_sees_both_tables(run: Run, database: Database) -> None:
    def no_fewer(connection: sa.Connection, tables: Mapping[str, CheckedTable]) -> bool | str:
        found = tables["customer_metrics"]
        counts = [sa.select(sa.func.count()).select_from(table) for table in (found.staged, found.target)]
        new, old = (connection.execute(count).scalar_one() for count in counts)
        return new >= old or f"{old - new} customers fewer"

    check = LoadCheck("no_fewer", function=no_fewer)
    assert run(FIRST, "", checks=[check])[0] == 0
    code, _, said = run(HEAD + "1,C1,2024-01-05,10.50\n", "", checks=[check])
    assert (code, "no_fewer: 1 customers fewer" in said) == (4, True)
    assert len(database.rows("customer_metrics")) == 2
    assert "no_fewer" in run(FIRST, "", "--dry-run", checks=[check])[1]


def test_the_history_of_loads_is_told(run: Run, database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    assert history.main(["--loads", "--to", database.url]) == 1
    assert "nothing was ever loaded" in capsys.readouterr().err
    run(FIRST, CHECK)
    run(SECOND, CHECK)
    run(SECOND, "", "--strategy", "upsert")
    assert history.main(["--loads", "--to", database.url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "load", "time", "status", "strategy", "inserted", "updated", "unchanged", "deleted", "rejected", "tables",
        "message",
    ]  # fmt: skip
    assert [line.split()[3:5] for line in lines[1:]] == [
        ["published", "replace"], ["failed", "replace"], ["published", "upsert"]
    ]  # fmt: skip
    assert "revenue_does_not_fall" in lines[2]
    assert history.main(["--loads", "--to", database.url, "--last", "1", "--json"]) == 0
    text = capsys.readouterr().out
    (load,) = json.loads(text)["loads"]
    assert (load["strategy"], load["changes"]["customer_metrics"]["inserted"]) == ("upsert", 1)
    assert load["rows"]["inserted"] == sum(counts["inserted"] for counts in load["changes"].values())
    assert "sesame" not in text


@pytest.mark.parametrize("argv", [["rule", "--loads"], ["--to", "sqlite:///x.db"], ["--loads", "--to", "out/"]])
def test_a_history_that_cannot_be_meant(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert history.main(argv) == 2
    assert capsys.readouterr().err.startswith("error: ")
