"""Checks over Parquet files before they are published: block, warn, and do no harm, in a folder and without renames."""

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from daskae.errors import GateError, LoadError, SettingsError
from daskae.load.audits import LoadCheck
from daskae.load.base import LoadOptions, Strategy
from jobs.customer_metrics import main

from .building import MONEY, A, B, C, build_load, shop
from .databases import Folder
from .test_audits import LOST, SUMS, load
from .test_load_settings import CHECK, FIRST, HEAD


def state(files: Folder) -> Any:
    """All that readers see, and the ledger."""
    tables = {name: (files.files(name), files.rows(name, metadata=True)) for name in sorted(files.names())}
    return tables, files.ledger()


def test_checks_that_hold_publish(files: Folder, tmp_path: Path) -> None:
    for load_id, customers in ((A, 3), (B, 5)):
        made = load(tmp_path, load_id, customers, LOST, SUMS)
        assert files.sink().preflight(made) is None
        receipt = files.sink().publish(made)
        assert [(verdict.check.name, verdict.message) for verdict in receipt.checks] == [
            ("lost_customers", ""), ("sums_agree", "")
        ]  # fmt: skip
        assert files.sink().publish(made).already_published
    assert len(files.rows("customer_metrics")) == 5


@pytest.mark.parametrize("at", ["before", "after"])
@pytest.mark.parametrize("strategy", ["replace", "append", "upsert", "merge"])
def test_a_check_that_blocks_leaves_the_target_and_keeps_the_evidence(
    strategy: Strategy, at: Any, files: Folder, tmp_path: Path
) -> None:
    files.sink().publish(load(tmp_path, A, 5))
    before = state(files)
    check = LoadCheck("cheap", "SELECT * FROM {staged} WHERE spent > 0", table="customer_metrics", at=at)
    with pytest.raises(
        GateError, match=r"refuses the publish: cheap(.|\n)*2 rows, where none(.|\n)*unchanged"
    ) as caught:
        files.sink().publish(load(tmp_path, B, 3, check, strategy=strategy))
    assert caught.value.exit_code == 4
    assert state(files) == before
    kept = (tmp_path / "left_out" / "check-cheap.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == [
        {"customer_id": "C1", "spent": "0.2500", "shop": "b"}, {"customer_id": "C2", "spent": "0.5000", "shop": "b"}
    ]  # fmt: skip
    assert not files.sink().publish(load(tmp_path, B, 3, strategy=strategy)).already_published


def test_the_first_load_is_checked_too(files: Folder, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"sums_agree: \(False,\) instead of a single true"):
        files.sink().publish(load(tmp_path, A, 3, replace(SUMS, at="before")))
    assert files.names() == set()
    files.sink().publish(load(tmp_path, A, 3, SUMS))


@pytest.mark.parametrize(("strategy", "rows"), [("append", 8), ("upsert", 5), ("merge", 5), ("replace", 3)])
def test_a_check_afterwards_sees_what_readers_would_see(
    strategy: Strategy, rows: int, files: Folder, tmp_path: Path
) -> None:
    sql = "SELECT count(*) = {} AND count(DISTINCT _load_id) = {} FROM {{target}}"
    loads = 1 if strategy == "replace" else 2
    before = LoadCheck("old", sql.format(5, 1), table="customer_metrics", expect="true")
    after = LoadCheck("new", sql.format(rows, loads), table="customer_metrics", expect="true", at="after")
    files.sink().publish(load(tmp_path, A, 5))
    assert files.sink().publish(load(tmp_path, B, 3, before, after, strategy=strategy)).warnings == ()
    assert len(files.rows("customer_metrics")) == rows


def test_a_check_that_warns_is_in_receipt_and_ledger(files: Folder, tmp_path: Path) -> None:
    files.sink().publish(load(tmp_path, A, 4))
    broken = LoadCheck("broken", "SELECT shop, CAST(shop AS INT) FROM {staged}", table="kpis", on_failure="warn")
    receipt = files.sink().publish(load(tmp_path, B, 3, replace(LOST, on_failure="warn"), broken))
    lost, failed = receipt.warnings
    assert lost == "lost_customers: 1 row, where none is allowed"
    assert failed.startswith("broken: the check itself failed: ")
    assert files.entries()[-1].message == f"{lost}; {failed}"
    assert len(files.rows("customer_metrics")) == 3


def test_rows_that_are_left_out_are_not_checked(files: Folder, tmp_path: Path) -> None:
    keys = pa.array(["a", None, "b", "a"])
    table = pa.table({"k": keys, "v": pa.array([1, 2, 3, 4], pa.int64())})
    check = LoadCheck("sum", "SELECT sum(v) = 7 AND count(*) = 2 FROM {staged}", expect="true", at="after")
    made = build_load(tmp_path, A, {"t": (("k",), table)})
    made = replace(made, options=LoadOptions(duplicates="last"), checks=(check,))
    assert files.sink().publish(made).warnings == ()


def test_a_limit_inside_of_a_query_comes_before_what_is_outside(files: Folder, tmp_path: Path) -> None:
    sql = "SELECT * FROM (SELECT * FROM {place} LIMIT 2) AS few WHERE spent > 0"
    checks = [
        LoadCheck(place, sql.format(place=f"{{{place}}}"), table="customer_metrics", on_failure="warn", at="after")
        for place in ("staged", "target")
    ]
    receipt = files.sink().publish(load(tmp_path, A, 4, *checks))
    assert [verdict.rows for verdict in receipt.checks] == [1, 1]


def test_old_rows_have_nothing_in_columns_that_a_replace_brings(files: Folder, tmp_path: Path) -> None:
    files.sink().publish(load(tmp_path, A, 3))
    table = pa.table({"customer_id": ["C0"], "age": pa.array([7], pa.int64())})
    sql = "SELECT count(spent) = 3 AND count(age) = 0 AND count(*) = 3 FROM {target}"
    check = LoadCheck("old", sql, expect="true")
    made = replace(build_load(tmp_path, B, {"customer_metrics": (("customer_id",), table)}), checks=(check,))
    assert files.sink().preflight(made) is None
    assert files.sink().publish(made).warnings == ()
    gone = replace(build_load(tmp_path, C, {"customer_metrics": (("customer_id",), table)}), checks=(check,))
    with pytest.raises(SettingsError, match=r'no query that Polars can run(.|\n)*checks\]\] old(.|\n)*"spent"'):
        files.sink().preflight(gone)


def test_rows_of_a_time_before_flags_are_active(files: Folder, tmp_path: Path) -> None:
    files.sink().publish(load(tmp_path, A, 3))
    sql = "SELECT count(*) FILTER (WHERE _is_active) = {} FROM {{target}}"
    before = LoadCheck("before", sql.format(3), table="customer_metrics", expect="true")
    after = LoadCheck("after", sql.format(1), table="customer_metrics", expect="true", at="after")
    made = replace(load(tmp_path, B, 1, before, after, strategy="merge"), options=LoadOptions(on_missing="flag"))
    assert files.sink().preflight(made) is None
    assert files.sink().publish(made).changes["customer_metrics"].flagged == 2


def test_money_is_exact_and_folders_are_read(files: Folder, tmp_path: Path) -> None:
    spent = pa.array([Decimal("12345678901234567890.1234"), Decimal("0.0001"), None], MONEY)
    table = pa.table({"k": ["a", "b", "c"], "shop": ["x/y", "", None], "spent": spent})
    sql = "SELECT CAST(sum(spent) AS VARCHAR) = '12345678901234567890.1235' AND count(shop) = 2 FROM {target}"
    check = LoadCheck("sum", sql, expect="true", at="after")
    made = build_load(tmp_path, A, {"t": (("k",), table)})
    parts = replace(made.tables[0], partition_by=("shop",))
    assert files.sink().publish(replace(made, tables=(parts,), checks=(check,))).warnings == ()
    assert len(files.files("t")) == 2


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM {target}",
        "SELECT 1 FROM {target}; DELETE FROM {target}",
        "SELECT 1 FROM {target}) AS x; SELECT * FROM (SELECT 1",
        "DROP TABLE {target}",
        "SELECT nope FROM {staged}",
        "SELEC * FROM {target}",
        "SELECT * FROM {target} JOIN not_there ON true",
    ],
)
def test_what_is_no_query_is_found_before_the_run_and_does_nothing(sql: str, files: Folder, tmp_path: Path) -> None:
    check = LoadCheck("bad", sql, table="customer_metrics")
    for first in (True, False):
        with pytest.raises(SettingsError, match=r"no query that Polars can run(.|\n)*checks\]\] bad(.|\n)*got"):
            files.sink().preflight(load(tmp_path, B, 3, check))
        with pytest.raises(GateError, match="bad: the check itself failed"):
            files.sink().publish(load(tmp_path, B, 3, check))
        if first:
            files.sink().publish(load(tmp_path, A, 3))
    assert {row["shop"] for row in files.rows("customer_metrics")} == {"a"}


def test_functions_are_refused(files: Folder, tmp_path: Path) -> None:
    made = load(tmp_path, A, 3, LoadCheck("mine", function=lambda connection, tables: True))
    for step in (files.sink().preflight, files.sink().publish):
        with pytest.raises(SettingsError, match=r"takes no function as a check(.|\n)*mine(.|\n)*next: "):
            step(made)
    assert files.names() == set()


def test_hostile_names_in_checks_do_no_harm(files: Folder, tmp_path: Path) -> None:
    name = '"; DROP TABLE kpis; --%s:x'
    made = build_load(tmp_path, A, {**shop("north"), name: ((name,), pa.table({name: ["a"]}))})
    check = LoadCheck("hostile", "SELECT * FROM {staged} EXCEPT SELECT * FROM {staged}", table=name)
    assert files.sink().preflight(replace(made, checks=(check,))) is None
    assert files.sink().publish(replace(made, checks=(check,))).warnings == ()


def test_a_damaged_file_is_named_where_a_check_would_read_it(folder: Folder, tmp_path: Path) -> None:
    folder.sink().publish(load(tmp_path, A, 3))
    (path,) = folder.files("customer_metrics")
    Path(path).write_bytes(b"PAR1")
    with pytest.raises(LoadError, match=r"a file in the target is damaged(.|\n)*without checks"):
        folder.sink().publish(load(tmp_path, B, 3, LOST))
    folder.sink().publish(load(tmp_path, B, 3))


def test_the_command_refuses_with_exit_code_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = Folder(str(tmp_path / "out"))

    def run(orders: str, settings: Mapping[str, str]) -> tuple[int, dict[str, Any], str]:
        (tmp_path / "orders.csv").write_text(orders)
        (tmp_path / "job.toml").write_text("".join(settings.values()))
        places = ["--config", str(tmp_path / "job.toml"), "--work-dir", str(tmp_path / "work"), "--to", target.url]
        code = main([str(tmp_path / "orders.csv"), *places, "--json", "--quiet"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {}, err

    names = {"metadata": '[load.metadata]\n_load_id = "load"\n', "check": CHECK}
    assert run(FIRST, names)[0] == 0
    assert [name for name in target.rows("kpis")[0] if name not in ("metric_name", "value", "unit", "as_of")] == [
        "load"
    ]
    fewer = HEAD + "1,C1,2024-01-05,10.50\n"
    code, document, said = run(fewer, names)
    assert (code, document["status"]) == (4, "refused")
    assert "refuses the publish: revenue_does_not_fall" in said
    assert len(target.rows("customer_metrics")) == 2
    code, _, said = run(fewer, {"check": CHECK.replace("total_revenue", "revenue")})
    assert (code, "no query that Polars can run" in said) == (2, True)
    code, document, _ = run(fewer, {**names, "warn": 'on_failure = "warn"'})
    assert (code, document["status"]) == (0, "done")
    assert len(target.rows("customer_metrics")) == 1
