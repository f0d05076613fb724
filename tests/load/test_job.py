"""The command with each strategy, into each database, as a user runs it."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.customer_metrics import main

from .databases import Database, Folder

ORDERS = "order_id,customer_id,order_date,amount\n"
FIRST = ORDERS + "1,C1,2024-01-05,10.50\n2,C1,2024-02-05,4.25\n3,C2,2024-01-07,7.00\n"
SECOND = ORDERS + "4,C2,2024-03-01,7.00\n5,C3,2024-03-02,1.25\n"


@pytest.fixture
def run(database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command over one text of orders; return its exit code, document and what it said."""

    def call(orders: str, strategy: str, settings: str = "") -> tuple[int, dict[str, Any], str]:
        (tmp_path / "orders.csv").write_text(orders)
        (tmp_path / "job.toml").write_text(settings)
        places = ["--config", str(tmp_path / "job.toml"), "--work-dir", str(tmp_path / "work"), "--to", database.url]
        code = main([str(tmp_path / "orders.csv"), *places, "--strategy", strategy, "--json", "--quiet"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {}, err

    return call


def revenue(database: Database) -> dict[str, str]:
    return {row["customer_id"]: str(row["total_revenue"]) for row in database.rows("customer_metrics")}


def test_an_upsert_brings_new_customers_and_changes_known_ones(run: Any, database: Database) -> None:
    assert run(FIRST, "replace")[0] == 0
    code, document, _ = run(SECOND, "upsert")
    assert code == 0
    assert revenue(database) == {"C1": "14.75", "C2": "7", "C3": "1.25"}
    assert document["tables"]["customer_metrics"]["rows"] == 2
    changes = document["tables"]["customer_metrics"]["changes"]
    assert (changes["inserted"], changes["updated"], changes["unchanged"]) == (1, 1, 0)
    assert "sesame" not in json.dumps(document)
    assert run(SECOND, "upsert")[1]["status"] == "done"
    assert len(database.ledger()) == 2


@pytest.mark.parametrize(("on_missing", "left"), [("keep", 3), ("delete", 2), ("flag", 3)])
def test_a_merge_does_with_missing_customers_as_the_settings_say(
    on_missing: str, left: int, run: Any, database: Database
) -> None:
    run(FIRST, "replace")
    assert run(SECOND, "merge", f'[load]\non_missing = "{on_missing}"')[0] == 0
    assert len(database.rows("customer_metrics")) == left
    if on_missing == "flag":
        active = {row["customer_id"]: row["_is_active"] for row in database.rows("customer_metrics")}
        assert active == {"C1": 0, "C2": 1, "C3": 1}


def test_update_columns_of_one_table_leave_the_others_free(run: Any, database: Database) -> None:
    run(FIRST, "replace")
    assert run(SECOND, "upsert", '[load]\nupdate_columns = ["order_count"]')[0] == 0
    counts = {
        row["customer_id"]: (row["order_count"], row["last_order_at"][:7]) for row in database.rows("customer_metrics")
    }
    assert counts["C2"] == (1, "2024-01")
    kpis = {row["metric_name"]: row["value"] for row in database.rows("kpis")}
    assert kpis["customers"] == 2


def test_a_setting_that_fits_no_table_is_said_before_the_run(run: Any, database: Database) -> None:
    code, _, said = run(FIRST, "upsert", '[load]\nonly_if_newer = "update_time"')
    assert code == 1
    assert "only_if_newer" in said
    assert "update_time" in said
    assert "customer_metrics" not in (database.names() if database.name == "postgresql" else set())


def into_files(tmp_path: Path, orders: str, strategy: str, settings: str = "") -> int:
    (tmp_path / "orders.csv").write_text(orders)
    (tmp_path / "job.toml").write_text(settings)
    places = ["--config", str(tmp_path / "job.toml"), "--to", str(tmp_path / "out"), "--work-dir", str(tmp_path / "w")]
    return main([str(tmp_path / "orders.csv"), *places, "--strategy", strategy, "--quiet", "--json"])


@pytest.mark.parametrize(
    "setting", ['partition_by = ["cohort_month"]', 'partition_by = { customer_metrics = ["cohort_month"] }']
)
def test_files_in_folders_take_all_strategies(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert into_files(tmp_path, FIRST, "replace", f"[load]\n{setting}") == 0
    capsys.readouterr()
    assert into_files(tmp_path, SECOND, "merge", f'[load]\n{setting}\non_missing = "delete"') == 0
    changes = json.loads(capsys.readouterr().out)["tables"]["customer_metrics"]["changes"]
    assert (changes["inserted"], changes["updated"], changes["deleted"]) == (1, 1, 1)
    out = Folder(str(tmp_path / "out"))
    assert {row["customer_id"]: row["cohort_month"] for row in out.rows("customer_metrics")} == {
        "C2": "2024-03-01", "C3": "2024-03-01"
    }  # fmt: skip
    assert all("cohort_month=2024-03-01" in path for path in out.files("customer_metrics"))
    in_folders = "[" in setting.partition("=")[2][:2]
    assert all(("cohort_month=" in path) == in_folders for path in out.files("cohort_metrics"))
    assert not any("=" in path for path in out.files("kpis"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('partition_by = ["nope"]', "no table has all of these columns"),
        ('partition_by = { nope = ["cohort_month"] }', "there is no such table"),
        ('partition_by = { kpis = ["nope"] }', "the table has no such column"),
    ],
)
def test_folders_that_fit_no_table_are_said_before_the_run(
    setting: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert into_files(tmp_path, FIRST, "replace", f"[load]\n{setting}") in (1, 2)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
