"""Whole runs with steps: no cut of the input shows, nothing is lost, and only what must be is done again."""

import json
import os
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.aggregate.aggregation import FrameMetric, Metric, metric
from daskae.config import load_settings
from daskae.errors import DaskaeError, SettingsError
from daskae.events import Event, StepApplied, Warned
from daskae.run.job import run_job
from daskae.transform.registry import register
from daskae.transform.steps import Step
from tests.laws.orders import MALFORMED, ROWS, headers, records, whole_runs
from tests.support import (
    EXACT_DUPLICATE,
    HEADER,
    ROOT,
    Run,
    assert_same,
    call_main,
    fork_script,
    orders_csv,
    run,
    write_settings,
)

COLUMNS = {name: name for name in HEADER} | {"note": {"column": "note", "dtype": "text"}}


@register("test_shout", reads=[])
def shout(table: pl.DataFrame, mark: str = "!") -> pl.DataFrame:
    """A row-local function that fails on some notes."""
    if table["note"].str.contains("é").fill_null(False).any():
        raise ValueError("no accents")
    return table.with_columns((pl.col("note").str.to_uppercase() + mark).alias("loud"))


def enrich(source: Path, **parameters: Any) -> dict[str, Any]:
    given = {"source": str(source), "on": "id", "prefix": "home_", **parameters}
    return {"function": "enrich", "name": "home", "parameters": given}


def write_dimension(folder: Path) -> Path:
    path = folder / "customers.csv"
    path.write_text('id,country,rank\nC1,NL,1\nC2,DE,2\n"C,4",,3\n00C3,FR,\nC9,XX,9\n')
    return path


def steps_over(dimension: Path) -> list[dict[str, Any]]:
    return [
        {"function": "trim", "column": ["customer_id", "note"], "at": "before_rules"},
        {"name": "positive", "expression": "amount > 0.2", "at": "before_rules"},
        {"name": "size", "expression": "CASE WHEN amount > 5 THEN 'big' ELSE 'small' END", "column": "size",
         "at": "before_rules"},
        {"name": "shout", "function": "test_shout", "on_error": "log", "parameters": {"mark": "?"}},
        {"name": "half", "function": "multiply", "column": "amount", "parameters": {"factor": "0.5"}},
        {"name": "not_four", "expression": "customer_id <> 'C4'"},
        enrich(dimension),
        {"name": "once", "function": "dedupe", "column": ["order_id", "size"]},
    ]  # fmt: skip


RULES = [
    EXACT_DUPLICATE,
    {"rule": "allowed_values", "name": "big_only", "column": "size", "values": ["big"], "on_failure": "warn"},
    {"rule": "range", "name": "low", "column": "quantity", "min": 1},
]
METRICS: list[Metric] = [
    metric("big_orders", (pl.col("size") == "big").sum().cast(pl.Int64), combine="sum", kind="integer"),
    metric("home", pl.col("home_country").max(), combine="max", kind="text"),
    FrameMetric("loudest", lambda orders: orders.groupby("customer_id")["loud"].max(), "text"),
]


def with_steps(paths: list[Path], folder: Path, dimension: Path, **flags: Any) -> Run:
    return run(
        paths, folder, metrics=METRICS, columns=COLUMNS, steps=steps_over(dimension), rules=RULES, **flags
    )  # fmt: skip


def write(folder: Path, *pieces: bytes) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"orders-{i:02d}.csv" for i in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    return paths


def counts_of(found: Run) -> list[tuple[str, int, int, int]]:
    return [(step.name, step.rows_in, step.rows_out, step.failed) for step in found.summary.steps]


@given(header=headers(), rows=records(ROWS | MALFORMED), block=st.sampled_from([64, 100, 333, 1024]))
@whole_runs(6)
def test_no_cut_shows_and_nothing_is_lost(header: bytes, rows: list[bytes], block: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dimension = write_dimension(folder)
        paths = write(folder / "in", header + b"".join(rows))
        whole = with_steps(paths, folder / "whole", dimension, block_size=1 << 20)
        cut = with_steps(paths, folder / "cut", dimension, block_size=block, workers=3)
        assert_same(cut, whole)
        assert counts_of(cut) == counts_of(whole)
        rows_of = whole.summary.rows
        assert rows_of.read == rows_of.accepted + rows_of.rejected
        assert len(whole.quarantine) == rows_of.rejected


@pytest.mark.slow
@given(rows=records(ROWS), cut=st.integers(0, 14))
@whole_runs(4)
def test_no_file_split_shows(rows: list[bytes], cut: int) -> None:
    header = ",".join(HEADER).encode() + b"\n"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dimension = write_dimension(folder)
        one = with_steps(write(folder / "a", header + b"".join(rows)), folder / "one", dimension)
        pieces = [header + b"".join(piece) for piece in (rows[:cut], rows[cut:])]
        two = with_steps(write(folder / "b", *pieces), folder / "two", dimension)
        assert {name: table.to_pylist() for name, table in two.tables.items()} == {
            name: table.to_pylist() for name, table in one.tables.items()
        }
        assert two.summary.rows == one.summary.rows
        assert counts_of(two) == counts_of(one)


@pytest.mark.dask
def test_no_engine_shows(scheduler: str, tmp_path: Path) -> None:
    dimension = write_dimension(tmp_path)
    paths = write(tmp_path / "in", orders_csv(150), orders_csv(90, first=100))
    inline = with_steps(paths, tmp_path / "inline", dimension)
    dask = with_steps(paths, tmp_path / "dask", dimension, block_size=512, cluster_name=scheduler)
    assert dask.summary.engine == "dask"
    assert_same(dask, inline)


@pytest.fixture
def orders(tmp_path: Path) -> list[Path]:
    return write(tmp_path / "in", orders_csv(200))


def test_rejected_rows_carry_the_steps_name(orders: list[Path], tmp_path: Path) -> None:
    steps = [
        {"name": "few", "expression": "quantity < 8", "at": "before_rules"},
        {"name": "c2_gone", "function": "map_values", "column": "customer_id",
         "parameters": {"values": {"C2": " "}}},
    ]  # fmt: skip
    rules = [{"rule": "range", "name": "quantity", "column": "quantity", "min": 1, "max": 7, "on_failure": "warn"}]
    found = run(orders, tmp_path, steps=steps, rules=rules)
    plain = run(orders, tmp_path / "plain")
    assert found.summary.rows.rejected == sum(found.counts.values()) == len(found.quarantine)
    assert set(found.counts) == {"unparsable_number", "few", "c2_gone"}
    assert found.counts["unparsable_number"] == plain.counts["unparsable_number"]
    by_reason = {row["reason"]: row for row in found.quarantine}
    assert by_reason["few"]["raw"].split(",")[4] == "8"
    assert (by_reason["few"]["severity"], by_reason["few"]["column"]) == ("info", "quantity")
    assert by_reason["c2_gone"]["value"] == "C2"
    assert all(row["reasons"] == [row["reason"]] for row in found.quarantine)
    (outcome,) = (rule for rule in found.summary.rules if rule.rule_name == "quantity")
    zero = sum(f"{i % 9}" == "0" and i % 17 != 5 for i in range(200))
    assert outcome.affected_rows == zero, "rules are not asked of what a step before them rejected"
    results = {row["rule_name"]: row for row in found.tables["validation_results"].to_pylist()}
    assert {name: results[name]["affected_rows"] for name in found.counts} == found.counts
    few, readable = found.rule("few"), 200 - len(range(5, 200, 17))
    assert (few.kind, few.severity, few.status, few.checked_rows) == ("step", "info", "failed", readable)
    assert "few" not in found.summary.validation.error_rules


@pytest.mark.parametrize("block", [512, 1 << 20])
def test_a_dimension_joins_the_same_way_small_or_large(orders: list[Path], tmp_path: Path, block: int) -> None:
    dimension = write_dimension(tmp_path)
    metrics: list[Metric] = [
        metric("country", pl.col("home_country").max(), combine="max", kind="text"),
        metric("rank", pl.col("home_rank").first(), combine="max", kind="text"),
        FrameMetric("many", lambda table: table.groupby("customer_id")["home_country"].count(), "integer"),
    ]
    runs = [
        run(orders, tmp_path / str(below), metrics=metrics, block_size=block,
            steps=[enrich(dimension, broadcast_below=below)])
        for below in (0, "1MiB")
    ]  # fmt: skip
    assert_same(runs[0], runs[1])
    assert runs[0].customer("C1")["country"] == "NL"
    assert runs[0].customer("C1")["many"] == runs[0].customer("C1")["order_count"]
    assert runs[0].customer("C5")["country"] is None
    assert [step.at for one in runs for step in one.summary.steps] == ["late", "after_rules"]


def test_numbers_of_a_dimension_are_not_summed_over_lines(tmp_path: Path) -> None:
    path = tmp_path / "limits.parquet"
    pl.DataFrame({"id": ["C1"], "limit": [Decimal("2.50")], "level": [3]}).write_parquet(path)
    lines = "order_id,customer_id,order_date,amount\n" + "O1,C1,2024-01-01,1\n" * 3
    orders = write(tmp_path / "in", lines.encode())
    metrics = [
        metric("limit", pl.col("home_limit").max(), combine="max", kind="money"),
        metric("level", pl.col("home_level").max(), combine="max", kind="integer"),
    ]
    for below in (0, "1MiB"):
        found = run(orders, tmp_path / str(below), metrics=metrics, steps=[enrich(path, broadcast_below=below)])
        customer = found.customer("C1")
        assert (customer["order_count"], customer["limit"], customer["level"]) == (1, Decimal("2.5"), 3)


@pytest.mark.parametrize(("below", "reused"), [("1MiB", 0), (0, 1)])
def test_a_changed_dimension_is_looked_up_again(
    orders: list[Path], tmp_path: Path, below: int | str, reused: int
) -> None:
    dimension = write_dimension(tmp_path)
    metrics = [metric("country", pl.col("home_country").max(), combine="max", kind="text")]
    steps = [enrich(dimension, broadcast_below=below)]
    assert run(orders, tmp_path, metrics=metrics, steps=steps).customer("C1")["country"] == "NL"
    again = run(orders, tmp_path, metrics=metrics, steps=steps)
    assert again.summary.reused_partitions == 1
    dimension.write_text(dimension.read_text().replace("NL", "BE"))
    changed = run(orders, tmp_path, metrics=metrics, steps=steps)
    assert changed.customer("C1")["country"] == "BE"
    assert changed.summary.reused_partitions == reused


def test_only_a_changed_step_maps_again(orders: list[Path], tmp_path: Path) -> None:
    def double(table: pl.DataFrame) -> pl.DataFrame:
        return table.with_columns(pl.col("amount").cast(pl.Decimal(38, 4)) + pl.col("amount"))

    settings = load_settings({"inputs": [str(orders[0])], "work_dir": tmp_path / "w", "to": f"{tmp_path}/o/"}, None)
    first = run_job(settings, steps=[Step("double", double)]).summary
    again = run_job(settings, steps=[Step("double", double, description="other words")]).summary
    other = run_job(settings, steps=[Step("double", double, on_error="log")]).summary
    none = run_job(settings).summary
    assert [item.reused_partitions for item in (first, again, other, none)] == [0, 1, 0, 0]
    assert Decimal(str(first.kpis["revenue"])) == 2 * Decimal(str(none.kpis["revenue"]))
    assert again.steps[0].rows_in == first.steps[0].rows_in, "counts of a reused partition stay"


def test_a_step_that_fails_on_rows_warns_once(orders: list[Path], tmp_path: Path) -> None:
    def odd(table: pl.DataFrame) -> pl.DataFrame:
        if (table["order_id"] == "O3").any() or (table["order_id"] == "O150").any():
            raise ValueError("odd")
        return table.with_columns(checked=pl.lit(True))

    seen: list[Event] = []
    flags = {"inputs": [str(orders[0])], "work_dir": tmp_path / "w", "to": f"{tmp_path}/o/", "block_size": 1024}
    settings = load_settings(flags, None)
    summary = run_job(settings, listeners=[seen.append], steps=[Step("odd", odd, on_error="log")]).summary
    (outcome,) = summary.steps
    assert (outcome.failed, outcome.error, outcome.partitions) == (2, "ValueError: odd", summary.partitions)
    warned = [event.message for event in seen if isinstance(event, Warned)]
    assert warned == ["step odd failed on 2 rows, which stay as they are: ValueError: odd"]
    assert [event.failed for event in seen if isinstance(event, StepApplied)] == [2]
    assert "failed on 2" in (Path(summary.run_dir) / "run.log").read_text()
    manifest = json.loads((Path(summary.run_dir) / "manifest.json").read_text())
    assert manifest["steps"][0]["failed"] == 2
    with pytest.raises(DaskaeError, match="a step failed") as caught:
        run_job(settings, steps=[Step("odd", odd)])
    assert caught.value.where == "step odd"


def test_a_skipped_step_says_where(orders: list[Path], tmp_path: Path) -> None:
    step = {"name": "s", "expression": "'x'", "column": "mark", "condition": "partition_bytes < 1500"}
    found = run(orders, tmp_path, steps=[step], block_size=2000)
    (outcome,) = found.summary.steps
    assert 0 < outcome.skipped_partitions < outcome.partitions == found.summary.partitions


def test_a_step_that_the_data_set_does_not_call_for_is_named(orders: list[Path], tmp_path: Path) -> None:
    step = {"name": "s", "expression": "amount > 1000", "condition": "dataset_files > 1"}
    found = run(orders, tmp_path, steps=[step])
    (outcome,) = found.summary.steps
    assert (outcome.name, outcome.partitions, outcome.skipped_partitions) == ("s", 1, 1)
    assert found.summary.rows.accepted > 0


@pytest.mark.parametrize(("settings", "text"), [
    ({"steps": [enrich(Path("no.csv"))]}, "cannot be opened"),
    ({"steps": [{"function": "trimm", "column": "note"}]}, "unknown function"),
    ({"steps": [{"expression": "amount > 1", "name": "missing_customer_id"}]}, "name is taken"),
    ({"steps": [{"expression": "amount > 1", "name": "r"}],
      "rules": [{"rule": "range", "name": "r", "column": "amount", "min": 1}]}, "name is taken"),
    ({"steps": [{"expression": "'x'", "column": "late_one"}],
      "rules": [{"rule": "not_null", "column": "late_one"}]}, "unknown column"),
])  # fmt: skip
def test_a_wrong_step_stops_before_the_run(
    orders: list[Path], tmp_path: Path, settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(SettingsError, match=text):
        run(orders, tmp_path, **settings)
    assert not list((tmp_path / "work" / "maps").iterdir())


def test_rules_cannot_name_what_comes_too_late(orders: list[Path], tmp_path: Path) -> None:
    dimension = write_dimension(tmp_path)
    rules = [{"rule": "not_null", "column": "home_country"}]
    steps = [enrich(dimension, broadcast_below=0) | {"at": "before_rules"}]
    with pytest.raises(SettingsError, match="only metrics can use") as caught:
        run(orders, tmp_path, steps=steps, rules=rules)
    assert "broadcast_below" in caught.value.hint
    steps = [enrich(dimension) | {"at": "before_rules"}]
    found = run(orders, tmp_path, steps=steps, rules=rules)
    assert found.counts["not_null_home_country"] > 0


def test_a_repeated_key_stops_before_the_run(orders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("id,v\nC1,a\nC1,b\n")
    for below in (0, "1MiB"):
        with pytest.raises(SettingsError, match="a key twice"):
            run(orders, tmp_path, steps=[enrich(path, broadcast_below=below)])
    assert not list((tmp_path / "work" / "maps").iterdir())


def test_the_command_plans_and_runs_steps(orders: list[Path], tmp_path: Path) -> None:
    config = write_settings(tmp_path / "c.toml")
    step = '[[steps]]\nname = "large"\nexpression = "amount > 10"\ntags = ["x"]\n'
    config.write_text(step)
    arguments: list[Any] = [orders[0], "--config", config, "--work-dir", tmp_path / "w", "--to", f"{tmp_path}/o/"]
    code, text = call_main([*arguments, "--dry-run", "--quiet"])
    assert (code, "steps       large" in text) == (0, True)
    assert not (tmp_path / "w").exists()
    code, text = call_main([*arguments, "--json", "--quiet"], steps=[Step("less", expression="amount < 80")])
    document = json.loads(text)
    assert code == 0
    assert [step["name"] for step in document["steps"]] == ["large", "less"]
    assert document["rows"]["rejected_by_rule"]["large"] == (
        document["steps"][0]["rows_in"] - document["steps"][0]["rows_out"]
    )
    config.write_text(step.replace("amount", "amont"))
    assert call_main([*arguments, "--quiet"])[0] == 2


OWN_SCRIPT = """
import polars as pl

from daskae.transform.registry import register
from daskae.transform.steps import Step
from jobs.customer_metrics import main


@register("weekend")
def weekend(table: pl.DataFrame, name: str = "is_weekend") -> pl.DataFrame:
    return table.with_columns((pl.col("order_date").dt.weekday() > 5).alias(name))


@register("double", frame=True)
def double(frame):
    frame["amount"] = frame["amount"] * 2
    return frame


if __name__ == "__main__":
    raise SystemExit(main(steps=[Step(function="weekend"), Step(function="double")]))
"""


@pytest.mark.parametrize("cluster", ["inline", pytest.param("local", marks=[pytest.mark.dask, pytest.mark.slow])])
def test_a_script_of_ones_own(orders: list[Path], tmp_path: Path, cluster: str) -> None:
    script = tmp_path / "mine.py"
    script.write_text(OWN_SCRIPT)
    config = tmp_path / "c.toml"
    config.write_text('[[steps]]\nfunction = "double"\nname = "again"\n')
    arguments = [str(orders[0]), "--config", str(config), "--to", "out/", "--json", "--quiet", "--workers", "1"]
    if cluster == "inline":
        code, said, errors = fork_script(script, [*arguments, "--cluster", cluster])
    else:
        done = subprocess.run(
            [sys.executable, str(script), *arguments, "--cluster", cluster], cwd=tmp_path, capture_output=True,
            text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=120,
        )  # fmt: skip
        code, said, errors = done.returncode, done.stdout, done.stderr
    assert code == 0, errors
    document = json.loads(said)
    assert [step["name"] for step in document["steps"]] == ["again", "weekend", "double"]
    plain = run(orders, tmp_path / "plain").summary.kpis["revenue"]
    assert Decimal(document["kpis"]["revenue"]) == 4 * Decimal(str(plain))


def test_accepted_rows_are_those_that_steps_made(orders: list[Path], tmp_path: Path) -> None:
    flags = {"inputs": [str(orders[0])], "work_dir": tmp_path / "w", "to": f"{tmp_path}/o/", "cluster_name": "inline"}
    steps = [Step("big", expression="amount > 50"), Step("twice", expression="amount * 2", column="twice")]
    total = metric("twice", pl.col("twice").sum(), combine="sum", kind="money")
    result = run_job(load_settings(flags, None), [total], steps=steps)
    frame = result.to_dask().compute(scheduler="synchronous")
    assert len(frame) == result.summary.rows.accepted
    assert frame["twice"].tolist() == [2 * amount for amount in frame["amount"]]
    assert frame["amount"].min() > 50


def test_scores_of_a_thorough_run_see_what_steps_made(orders: list[Path], tmp_path: Path) -> None:
    steps = [{"expression": "quantity + 1", "column": "more", "at": "before_rules"}]
    found = run(orders, tmp_path, steps=steps, validation={"profile": "thorough"}, block_size=512)
    whole = run(orders, tmp_path / "whole", steps=steps, validation={"profile": "thorough"})
    assert found.summary.quality == whole.summary.quality
    assert found.summary.quality["columns"]["more"]["cells"] == 200
