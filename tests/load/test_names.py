"""Names that would do harm if they were spliced into SQL: as table, key, column, metadata column and in settings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from daskae.aggregate import metric
from daskae.load.base import Load, LoadOptions, Strategy
from daskae.load.shape import Drift, Metadata
from jobs.customer_metrics import main

from .building import A, B, C, build_load, shop
from .databases import Database

NAUGHTY = (
    '"', '""', "'", "`", "\\", ";", "--", "/*", "*/", "%", "%%", "%s", "%(x)s", ":x", "::text", "?", "?1", "$1", "{0}",
    "{staged}", '"; DROP TABLE kpis; --', "'; DROP TABLE kpis; --", "] DROP TABLE kpis", "a.b", '"a"."b"', "a b", " ",
    "\t", "line\nbreak", "select", "TABLE", "order", "user", "null", "true", "rowid", "oid", "1", "-1", "é", "e\u0301",
    "表", "😀", "\u202eright to left", "\u200b", "İ", "ß", "K", "x" * 63, "ä" * 31,
)  # fmt: skip
# System columns of PostgreSQL; "oid" and "rowid" are free there, and SQLite has none that cannot be hidden.
EVERY, CHANGED = (
    {name: ((name,), pa.table({name: keys, "n": pa.array(numbers, pa.int64())})) for name in NAUGHTY}
    for keys, numbers in ((["a", "b"], [1, 2]), (["b", "c"], [3, 4]))
)
AFTER = [("a", 1), ("b", 3), ("c", 4)]


def load(folder: Path, load_id: str, tables: Any, strategy: Strategy) -> Load:
    made = build_load(folder, load_id, tables, strategy)
    return replace(made, metadata=Metadata('id"; --%s:x', "x" * 60, "'--"), rejects=folder / "left_out")


def test_naughty_names_do_no_harm(database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    before = {name: database.rows(name, metadata=True) for name in ("customer_metrics", "kpis")}
    names = [name for name in NAUGHTY if database.can_name(name)]
    every, changed = ({name: tables[name] for name in names} for tables in (EVERY, CHANGED))
    first, second = load(tmp_path, B, every, "append"), load(tmp_path, C, changed, "upsert")
    second = replace(
        second, options=LoadOptions(duplicates="last"), drift=Drift("freeze", dict.fromkeys(NAUGHTY, "evolve"))
    )
    for one in (first, second):
        assert sink.preflight(one) is None
        assert not sink.publish(one).already_published
        assert sink.publish(one).already_published
    assert database.names() == {*names, *before, "_daskae_loads"}
    for name in names:
        rows = database.rows(name)
        assert sorted((row[name], row["n"]) for row in rows) == AFTER, name
    assert {name: database.rows(name, metadata=True) for name in before} == before


def test_naughty_columns_are_added_and_left_out(database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    sink.publish(build_load(tmp_path, A, {"t": (("id",), pa.table({"id": ["a"]}))}))
    names = [name for name in NAUGHTY if database.can_name(name)]
    cells = {name: [f"in {name}"] for name in names}
    wide = {"t": (("id",), pa.table({"id": ["b"], **cells}))}
    policies = dict.fromkeys(names[::2], "ignore")
    sink.publish(replace(build_load(tmp_path, B, wide, "append"), drift=Drift("evolve", policies)))  # type: ignore[arg-type]
    (row,) = [row for row in database.rows("t") if row["id"] == "b"]
    assert row == {"id": "b", **{name: f"in {name}" for name in names[1::2]}}


def test_a_naughty_name_of_a_metric_goes_through_the_whole_job(database: Database, tmp_path: Path) -> None:
    name = 'x"; DROP TABLE kpis; -- %(x)s :größe' + ("`" if database.name == "mariadb" else " 😀")
    (tmp_path / "orders.csv").write_text("order_id,customer_id,order_date,amount\n1,C1,2024-01-05,10.50\n")
    argv = [str(tmp_path / "orders.csv"), "--to", database.url, "--work-dir", str(tmp_path / "work"), "--quiet"]
    assert main([*argv, "--dry-run"]) == 0
    assert main(argv) == 0
    largest = metric(name, pl.col("amount").max(), combine="max", kind="money")
    assert main([*argv, "--strategy", "upsert"], metrics=[largest]) == 0
    (row,) = database.rows("customer_metrics")
    assert str(row[name]) == "10.5"
    assert len(database.rows("kpis")) == 8
