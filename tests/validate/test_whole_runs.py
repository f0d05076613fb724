"""Rules over whole runs: global verdicts, what they do, what is shown of them, and what a rule that fails costs."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from daskae.errors import SettingsError
from daskae.validate import RowRule, TableRule
from tests.support import HEADER, POSITIVE_QUANTITY, Run, call_main, orders_csv, run, write_settings

WARN = {"on_failure": "warn"}
HEAD = ",".join(HEADER)


def write(folder: Path, *files: list[str]) -> Path:
    """Write order files of lines without a header."""
    folder.mkdir(exist_ok=True)
    for i, lines in enumerate(files):
        (folder / f"orders-{i:02d}.csv").write_text("\n".join([HEAD, *lines]) + "\n")
    return folder


def line(i: int, **cells: Any) -> str:
    good = {
        "order_id": f"O{i}",
        "customer_id": f"C{i % 5}",
        "order_date": "2024-01-01",
        "amount": "10",
        "quantity": "1",
    }
    return ",".join(str({**good, "note": "plain", **cells}[name]) for name in HEADER)


def lines(count: int, first: int = 0, **cells: Any) -> list[str]:
    return [line(i, **cells) for i in range(first, first + count)]


def test_every_failure_of_every_file_is_in_one_report(tmp_path: Path) -> None:
    files = [[line(10 * i), line(10 * i + 1, note=f"bad {i}"), line(10 * i + 2)] for i in range(12)]
    rule = {"rule": "pattern", "name": "plain", "column": "note", "pattern": "^plain$", **WARN}
    found = run(write(tmp_path / "in", *files), tmp_path, rules=[rule], block_size=64).rule("plain")
    assert (found.checked_rows, found.affected_rows, found.passed, found.status) == (36, 12, False, "failed")
    assert found.samples == tuple(
        {"file": f"orders-{i:02d}.csv", "row_number": 2, "value": f"bad {i}"} for i in range(5)
    )


@pytest.mark.parametrize(("samples", "shown"), [(0, 0), (1, 1), (5, 5), (100, 40)])
def test_evidence_is_bounded_and_counts_are_exact(tmp_path: Path, samples: int, shown: int) -> None:
    rule = {"rule": "range", "name": "low", "column": "amount", "max": 1, **WARN}
    source = write(tmp_path / "in", lines(25), lines(15, 25))
    found = run(source, tmp_path, rules=[rule], validation={"samples": samples}).rule("low")
    assert (found.affected_rows, len(found.samples)) == (40, shown)


@pytest.mark.parametrize("on_failure", ["reject_row", "warn", "info", "block_run"])
def test_what_a_unique_rule_does(tmp_path: Path, on_failure: str) -> None:
    source = write(tmp_path / "in", lines(6), [line(3, customer_id="C9"), line(9), line(3, customer_id="C9")])
    keys = {"rule": "unique", "name": "keys", "column": "order_id", "on_failure": on_failure}
    whole = {"rule": "unique", "name": "whole", "columns": "*", "on_failure": on_failure}
    found = run(source, tmp_path, rules=[keys, whole], block_size=64)
    assert (found.rule("keys").checked_rows, found.rule("keys").affected_rows) == (9, 2)
    assert (found.rule("whole").checked_rows, found.rule("whole").affected_rows) == (9, 1)
    assert [(row["row_number"], row["value"]) for row in found.rule("keys").samples] == [(1, "O3"), (3, "O3")]
    assert [row["row_number"] for row in found.rule("whole").samples] == [3]
    rejected = 2 if on_failure == "reject_row" else 0
    assert found.summary.rows.rejected == rejected == len(found.quarantine)
    assert found.summary.status == ("refused" if on_failure == "block_run" else "done")


@pytest.mark.parametrize(
    ("rule", "passed"),
    [
        ({"rule": "completeness", "column": "note", "min_share": 0.7}, True),
        ({"rule": "completeness", "column": "note", "min_share": 0.71}, False),
        ({"rule": "completeness", "column": "note", "max_share": 0.3}, True),
        ({"rule": "unique", "column": "order_id", "max_rows": 1}, True),
        ({"rule": "unique", "column": "order_id", "max_rows": 0}, False),
        ({"rule": "row_count", "min": 10, "max": 10}, True),
        ({"rule": "row_count", "min": 11}, False),
        ({"rule": "row_count", "max": 9}, False),
        ({"rule": "freshness", "max_age_days": 9}, True),
        ({"rule": "freshness", "max_age_days": 8}, False),
        ({"rule": "freshness", "max_age_days": 8, "as_of": "2024-01-09"}, True),
        ({"rule": "freshness", "max_age_days": 8, "as_of": "today"}, False),
        ({"rule": "monotonic", "column": "quantity", "max_rows": 1}, True),
        ({"rule": "monotonic", "column": "quantity"}, False),
        ({"rule": "monotonic", "column": "order_date", "direction": "decreasing"}, True),
        ({"rule": "monotonic", "column": "order_date", "strict": True}, False),
        ({"rule": "distribution", "column": "amount", "statistic": "mean", "min": "5.4", "max": "5.5"}, True),
        ({"rule": "distribution", "column": "amount", "statistic": "mean", "min": "5.51"}, False),
        ({"rule": "distribution", "column": "amount", "statistic": "min", "min": 1, "max": 1}, True),
        ({"rule": "distribution", "column": "amount", "statistic": "max", "max": 9}, False),
        (
            {"rule": "distribution", "column": "amount", "statistic": "quantile", "quantile": 0.5, "min": 4, "max": 6},
            True,
        ),
        ({"rule": "distribution", "column": "amount", "statistic": "quantile", "quantile": 0.9, "max": 6}, False),
        ({"rule": "distribution", "column": "note", "statistic": "share", "value": "plain", "min": 1}, True),
        ({"rule": "distribution", "column": "note", "statistic": "share", "value": "x", "min": 0.1}, False),
        ({"rule": "distribution", "column": "order_date", "statistic": "max", "max": "2024-01-01"}, True),
        ({"rule": "distribution", "column": "order_date", "statistic": "max", "max": "2023-12-31 23:59:59"}, False),
    ],
)
def test_rules_that_block_a_run(tmp_path: Path, rule: dict[str, Any], passed: bool) -> None:
    first = [line(i, amount=i + 1, note="plain" if i < 7 else "", quantity=[1, 3, 2][i % 3]) for i in range(2)]
    rest = [line(i, amount=i + 1, note="plain" if i < 7 else "", quantity=[1, 3, 2][min(i, 2)]) for i in range(2, 9)]
    source = write(tmp_path / "in", first, rest, [line(8, amount=10, note="", quantity=2)])
    found = run(source, tmp_path, rules=[{**rule, "name": "r", "on_failure": "block_run"}], as_of="2024-01-10")
    assert found.rule("r").passed == passed
    assert found.summary.status == ("done" if passed else "refused")
    assert (tmp_path / "out").exists() == passed


def test_a_refused_run_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/metrics.db"
    source = write(tmp_path / "in", lines(20))
    settings = write_settings(tmp_path / "s.toml", {"rule": "row_count", "min": 20})
    argv: list[Any] = [source, "--config", settings, "--to", target, "--work-dir", tmp_path / "work", "--quiet"]
    assert call_main(argv)[0] == 0
    before = (tmp_path / "metrics.db").read_bytes()
    write(source, lines(3))
    assert call_main(argv)[0] == 4
    assert (tmp_path / "metrics.db").read_bytes() == before


def test_a_rule_that_fails_inside_is_a_failed_result(tmp_path: Path) -> None:
    def raises(frame: Any) -> Any:
        raise RuntimeError("no idea")

    source = write(tmp_path / "in", lines(10), lines(5, 10))
    rules: list[RowRule | TableRule] = [
        RowRule("row", raises, frame=True),
        TableRule("chunk", raises, lambda state: True, on_failure="warn"),
        TableRule("verdict", {"n": pl.len()}, lambda state: state["m"] > 1, on_failure="info"),
        TableRule("answer", {"n": pl.len()}, lambda state: "yes", on_failure="warn"),
    ]
    found = run(source, tmp_path, custom=rules, block_size=64)
    assert found.summary.status == "done"
    assert found.summary.rows.accepted == 15
    texts = {
        "row": "RuntimeError: no idea",
        "chunk": "RuntimeError: no idea",
        "verdict": "KeyError",
        "answer": "TypeError",
    }
    for name, text in texts.items():
        outcome = found.rule(name)
        assert (outcome.status, outcome.severity, outcome.passed, outcome.affected_rows) == ("error", "error", False, 0)
        assert text in outcome.message
        assert text.partition(":")[0] in outcome.details["error"]
    assert set(found.summary.validation.error_rules) == set(texts)


@pytest.mark.parametrize("kind", ["row", "table"])
def test_a_rule_that_has_no_room_judges_smaller_parts(kind: str, tmp_path: Path) -> None:
    """A rule without memory has not failed: nothing is said of rows that it has not seen."""

    def cramped(frame: Any) -> Any:
        if len(frame) > 6:
            raise MemoryError
        return frame["amount"] < 3 if kind == "row" else {"most": float(frame["amount"].max())}

    source = write(tmp_path / "in", lines(20))
    rule: RowRule | TableRule = RowRule("cramped", cramped, frame=True, columns=["amount"])
    if kind == "table":
        rule = TableRule("cramped", cramped, lambda state: True, columns=["amount"])
    found = run(source, tmp_path, custom=[rule])
    assert found.summary.mended
    assert found.rule("cramped").status in ("passed", "failed")
    assert found.rule("cramped").checked_rows == 20


def test_a_rule_that_fails_inside_blocks_where_it_should(tmp_path: Path) -> None:
    source = write(tmp_path / "in", lines(10))
    rule = TableRule("verdict", {"n": pl.len()}, lambda state: state["m"] > 1)
    found = run(source, tmp_path, custom=[rule])
    assert found.summary.status == "refused"
    assert "KeyError" in found.summary.message


def test_a_table_rule_sees_the_rows_that_passed_the_row_rules(tmp_path: Path) -> None:
    source = write(tmp_path / "in", lines(4), [line(4, amount="7.5"), line(5, quantity=0), line(5, amount="x")])
    total = TableRule(
        "total", {"total": pl.col("amount").sum(), "rows": pl.len(), "largest": pl.col("amount").max()},
        lambda state: (state["total"] > 40, f"{state['total']} in {state['rows']}, largest {state['largest']}"),
        combine={"total": "sum", "rows": "sum", "largest": "max"}, on_failure="warn",
    )  # fmt: skip
    pandas = TableRule("pandas", lambda frame: {"total": frame["amount"].sum()}, lambda state: state["total"] > 40)
    found = run(source, tmp_path, rules=[POSITIVE_QUANTITY], custom=[total, pandas], block_size=64)
    assert found.rule("total").message == "47.5 in 5, largest 10"
    assert found.rule("total").checked_rows == 5
    assert found.rule("pandas").passed


def test_a_table_rule_that_names_no_column_counts_rows(tmp_path: Path) -> None:
    source = write(tmp_path / "in", lines(4), [line(5, quantity=0), line(6)])
    rows = TableRule("rows", {"n": pl.len()}, lambda state: (state["n"] == 5, f"{state['n']} rows"))
    found = run(source, tmp_path, rules=[POSITIVE_QUANTITY], custom=[rows], block_size=64)
    assert found.rule("rows").message == "5 rows"


def test_references_to_a_file_and_to_a_table(tmp_path: Path) -> None:
    keys = tmp_path / "customers.csv"
    keys.write_text("id,name\nC0,a\nC1,b\nC2,c\nC0,a\n,z\n")
    with sqlite3.connect(tmp_path / "c.db") as database:
        database.execute("CREATE TABLE people (customer_id TEXT)")
        database.executemany("INSERT INTO people VALUES (?)", [("C0",), ("C1",), ("C2",)])
    database.close()
    pl.DataFrame({"customer_id": ["C0", "C1", "C2"]}).write_parquet(tmp_path / "c.parquet")
    base = {"rule": "reference", "column": "customer_id"}
    rules = [
        {**base, "name": "csv", "source": str(keys), "source_column": "id", **WARN},
        {**base, "name": "sql", "source": f"sqlite:///{tmp_path}/c.db", "table": "people", **WARN},
        {**base, "name": "parquet", "source": str(tmp_path / "c.parquet")},
    ]
    source = write(tmp_path / "in", lines(10))
    found = run(source, tmp_path, rules=rules, block_size=64)
    assert [found.rule(name).affected_rows for name in ("csv", "sql", "parquet")] == [4, 4, 4]
    assert found.counts == {"parquet": 4}
    assert [row["value"] for row in found.rule("csv").samples] == ["C3", "C4", "C3", "C4"]
    # Other keys make other rejected rows; the same keys in another file need no row again.
    pl.DataFrame({"customer_id": ["C2", "C1", "C0"]}).write_parquet(tmp_path / "c.parquet")
    again = run(source, tmp_path, rules=rules, block_size=64)
    assert again.summary.reused_partitions == again.summary.partitions
    keys.write_text("id\nC0\n")
    other = run(source, tmp_path, rules=rules, block_size=64)
    assert (other.rule("csv").affected_rows, other.summary.reused_partitions) == (8, 0)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"source": "nothing.csv"}, "(?s)keys of a reference cannot be read.*nothing.csv"),
        ({"source": "{folder}/keys.csv"}, "(?s)keys of a reference cannot be read.*no column 'customer_id'"),
        ({"source": "{folder}/empty.csv", "source_column": "id"}, "(?s)(has no keys|cannot be read).*empty.csv"),
    ],
)
def test_references_that_cannot_be(tmp_path: Path, rule: dict[str, str], text: str) -> None:
    (tmp_path / "keys.csv").write_text("id\nC0\n")
    (tmp_path / "empty.csv").write_text("id,x\n,1\n")
    source = write(tmp_path / "in", lines(3))
    given = {key: value.format(folder=tmp_path) for key, value in rule.items()}
    with pytest.raises(SettingsError, match=text):
        run(source, tmp_path, rules=[{"rule": "reference", "column": "customer_id", **given}])
    assert not list((tmp_path / "work").glob("maps/*"))


def test_row_counts_against_the_last_run_over_other_data(tmp_path: Path) -> None:
    rules = [{"rule": "row_count", "name": "count", "min_ratio": 0.5, "max_ratio": 2, **WARN}]
    source = tmp_path / "in"
    sizes = [10, 10, 19, 50, 50, 24]
    statuses = []
    for i, size in enumerate(sizes):
        if i == 0 or size != sizes[i - 1]:
            write(source, lines(size))
        found = run(source, tmp_path, rules=rules).rule("count")
        statuses.append((found.status, found.observed.get("previous_rows")))
    # The same data twice are judged alike: what they are compared with is the last run over other data.
    assert statuses == [
        ("skipped", None), ("skipped", None), ("passed", 10), ("failed", 19), ("failed", 19), ("failed", 50)
    ]  # fmt: skip


def test_new_files_alone_keep_whole_verdicts_right(tmp_path: Path) -> None:
    rules = [
        {"rule": "pattern", "name": "plain", "column": "note", "pattern": "^plain$", "max_share": 0.2, **WARN},
        {"rule": "monotonic", "name": "order", "column": "order_date", **WARN},
        {"rule": "distribution", "name": "mean", "column": "amount", "statistic": "mean", "min": 1, **WARN},
        {"rule": "distribution", "name": "median", "column": "amount", "statistic": "quantile", "quantile": 0.5,
         "min": 1, **WARN},
        {"rule": "unique", "name": "keys", "column": "order_id", **WARN},
        {"rule": "freshness", "name": "fresh", "max_age_days": 3, "as_of": "2024-03-01", **WARN},
        {"rule": "row_count", "name": "rows", "min": 3, **WARN},
    ]  # fmt: skip
    source = tmp_path / "in"
    write(source, lines(8, order_date="2024-01-02"), [*lines(5, 8, amount="3.25"), line(3, note="x")])
    run(source, tmp_path, rules=rules, block_size=100)
    new = "\n".join([HEAD, *lines(4, 13, order_date="2024-02-29", note="y")]) + "\n"
    (source / "orders-00b.csv").write_text(new)
    second = run(source, tmp_path, rules=rules, block_size=100)
    assert 0 < second.summary.partitions - second.summary.reused_partitions <= 4
    fresh = run(source, tmp_path / "fresh", rules=rules, block_size=1 << 20)
    assert judged(second) == judged(fresh)
    assert second.tables["validation_results"].equals(fresh.tables["validation_results"])
    # A file that leaves takes its share of every state with it.
    (source / "orders-00b.csv").unlink()
    third = run(source, tmp_path, rules=rules, block_size=100)
    assert judged(third) == judged(run(source, tmp_path / "third", rules=rules))


def judged(found: Run) -> list[tuple[Any, ...]]:
    """All that is said of rules but for the time they took."""
    return [
        (rule.rule_name, rule.status, rule.checked_rows, rule.affected_rows, rule.message, rule.details, rule.samples)
        for rule in found.summary.rules
    ]


def test_a_changed_threshold_needs_no_row_again(tmp_path: Path) -> None:
    source = write(tmp_path / "in", lines(10))
    rule = {"rule": "distribution", "name": "mean", "column": "amount", "statistic": "mean", "min": 1, **WARN}
    assert run(source, tmp_path, rules=[rule]).rule("mean").passed
    again = run(source, tmp_path, rules=[{**rule, "min": 11}])
    assert not again.rule("mean").passed
    assert again.summary.reused_partitions == again.summary.partitions


def test_tags_and_the_summary(tmp_path: Path) -> None:
    source = write(tmp_path / "in", lines(10), [line(10, amount="x")])
    rules = [
        {"rule": "range", "name": "a", "column": "amount", "max": 1, "tags": ["money"], "description": "cheap", **WARN},
        {"rule": "not_null", "name": "b", "column": "note", "tags": ["text"]},
        {"rule": "row_count", "name": "c", "min_ratio": 1, "tags": ["money"]},
    ]
    found = run(source, tmp_path, rules=rules, validation={"tags": ["money"]})
    assert [rule.rule_name for rule in found.summary.rules] == ["unparsable_number", "a", "c"]
    assert (found.rule("a").tags, found.rule("a").description, found.rule("a").kind) == (("money",), "cheap", "range")
    document = found.summary.to_json()["validation"]
    assert document == {
        "executed": 2, "passed": 0, "failed": 2, "errors": 1, "warnings": 1, "pass_rate": 0.0, "passed_rules": (),
        "failed_rules": ("unparsable_number", "a"), "error_rules": ("unparsable_number",), "warning_rules": ("a",),
        "skipped_rules": ("b", "c"),
    }  # fmt: skip


def test_the_table_of_results_has_nothing_of_the_clock(tmp_path: Path) -> None:
    source = write(tmp_path / "in", lines(10))
    rules = [
        {"rule": "freshness", "name": "fresh", "max_age_days": 99999, "as_of": "today"},
        {"rule": "range", "name": "low", "column": "amount", "max": 1, "tags": ["t"], **WARN},
    ]
    found = run(source, tmp_path, rules=rules)
    rows = {row["rule_name"]: row for row in found.tables["validation_results"].to_pylist()}
    assert found.rule("fresh").observed["age_days"] > 0
    assert '"age_days"' not in rows["fresh"]["details"]
    details = json.loads(rows["low"]["details"])
    assert (details["kind"], details["status"], details["tags"]) == ("range", "failed", ["t"])
    assert not {"seconds", "samples"} & set(details)
    manifest = json.loads((Path(found.summary.run_dir) / "manifest.json").read_text())
    assert all("seconds" in rule for rule in manifest["rules"])


def test_thorough_scores_and_profiles(tmp_path: Path) -> None:
    source = write(tmp_path / "in", lines(6), [line(6, amount="x"), line(7, note=""), line(8, quantity=0, note="y")])
    plain = {"rule": "pattern", "name": "plain", "column": "note", "pattern": "^plain$", **WARN}
    given: dict[str, Any] = {"rules": [POSITIVE_QUANTITY, plain], "block_size": 64}
    found = run(source, tmp_path, validation={"profile": "thorough"}, **given)
    quality = found.summary.quality
    assert quality["columns"]["amount"] == {"cells": 9, "good": 8, "score": 8 / 9}
    assert quality["columns"]["note"] == {"cells": 9, "good": 7, "score": 7 / 9}
    assert quality["columns"]["quantity"]["good"] == 8
    assert quality["rows"]["rows"] == 9
    assert quality["rows"]["histogram"] == [
        {"broken_rules": 0, "score": 1.0, "rows": 7}, {"broken_rules": 1, "score": 0.5, "rows": 1},
        {"broken_rules": 2, "score": 0.0, "rows": 1},
    ]  # fmt: skip
    profile = json.loads((Path(found.summary.run_dir) / "profile.json").read_text())
    assert profile["rows"] == 9
    assert {column["name"] for column in profile["columns"]} == set(HEADER)
    fast = run(source, tmp_path / "fast", **given)
    assert fast.summary.quality == {}
    assert not (Path(fast.summary.run_dir) / "profile.json").exists()
    assert fast.tables["validation_results"].equals(found.tables["validation_results"])


def test_the_profile_flag(tmp_path: Path) -> None:
    source = write(tmp_path / "in", lines(3))
    settings = write_settings(tmp_path / "s.toml", validation={"samples": 1})
    argv: list[Any] = [
        source,
        "--config",
        settings,
        "--to",
        tmp_path / "out",
        "--work-dir",
        tmp_path / "work",
        "--quiet",
        "--json",
    ]
    code, text = call_main([*argv, "--profile", "thorough"], rules=[RowRule("ten", pl.col("amount") == 10)])
    assert code == 0
    document = json.loads(text)
    assert document["quality"]["rows"] == {
        "rows": 3, "mean_score": 1.0, "histogram": [{"broken_rules": 0, "score": 1.0, "rows": 3}]
    }  # fmt: skip
    assert [rule["rule_name"] for rule in document["rules"]] == ["ten"]


def test_a_dry_run_checks_rules_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "keys.csv").write_text("customer_id\nC0\n")
    source = write(tmp_path / "in", lines(3))
    rule = {"rule": "reference", "column": "customer_id", "source": str(tmp_path / "keys.csv")}
    settings = write_settings(tmp_path / "s.toml", rule)
    argv: list[Any] = [
        source,
        "--config",
        settings,
        "--to",
        tmp_path / "out",
        "--work-dir",
        tmp_path / "work",
        "--dry-run",
    ]
    code, text = call_main(argv)
    assert (code, "reference_customer_id" in text) == (0, True)
    assert not (tmp_path / "work").exists()


def test_when_every_row_fails_nothing_is_published_and_all_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "orders.csv"
    source.write_bytes(orders_csv(500))
    rule = {"rule": "range", "name": "never", "column": "amount", "max": -1}
    found = run(source, tmp_path, rules=[rule], block_size=512)
    assert found.summary.status == "refused"
    assert found.summary.rows.rejected == 500 == len(found.quarantine)
    assert len(found.rule("never").samples) == 5
