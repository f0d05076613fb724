"""Checks on staged rows joined with the target, in the transaction that publishes: block, warn, and do no harm."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from daskae.errors import DaskaeError, GateError, SettingsError
from daskae.load.audits import LoadCheck, resolve_checks
from daskae.load.base import Load, Strategy
from daskae.load.sql.audit import CheckedTable

from .building import A, B, build_load, shop
from .databases import Database

LOST = LoadCheck(
    "lost_customers",
    "SELECT t.customer_id, t.shop FROM {target} AS t LEFT JOIN {staged} AS s ON s.customer_id = t.customer_id"
    " WHERE s.customer_id IS NULL -- the end",
    table="customer_metrics",
)
SUMS = LoadCheck(
    "sums_agree",
    "SELECT (SELECT value FROM {staged.kpis}) = (SELECT count(*) FROM {target}) AS agree;",
    table="customer_metrics",
    expect="true",
    at="after",
)
_SLOW = [pytest.param(strategy, marks=pytest.mark.slow) for strategy in ("append", "upsert")]


def load(folder: Path, load_id: str, customers: int, *checks: LoadCheck, strategy: Strategy = "replace") -> Load:
    made = build_load(folder, load_id, shop(load_id[:1], customers), strategy)
    return replace(made, checks=checks, rejects=folder / "left_out")


def state(database: Database) -> Any:
    return {name: database.rows(name, metadata=True) for name in sorted(database.names()) if name != "_daskae_loads"}


def test_checks_that_hold_publish(database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    sink.publish(load(tmp_path, A, 3, LOST, SUMS))
    receipt = sink.publish(load(tmp_path, B, 5, LOST, SUMS))
    assert receipt.warnings == ()
    assert len(database.rows("customer_metrics")) == 5


@pytest.mark.parametrize("strategy", ["replace", "merge", *_SLOW])
def test_a_check_that_blocks_leaves_the_target_and_keeps_the_evidence(
    strategy: Strategy, database: Database, tmp_path: Path
) -> None:
    sink = database.sink()
    sink.publish(load(tmp_path, A, 5))
    before = state(database)
    with pytest.raises(GateError, match=r"refuses the publish: lost_customers(.|\n)*2 rows(.|\n)*unchanged") as caught:
        sink.publish(load(tmp_path, B, 3, LOST, SUMS, strategy=strategy))
    assert caught.value.exit_code == 4
    assert state(database) == before
    kept = (tmp_path / "left_out" / "check-lost_customers.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["customer_id"] for line in kept) == ["C3", "C4"]
    assert [row[2:] for row in database.ledger()] == [("replace", "published"), (strategy, "failed")]
    (message,) = database.query("SELECT message FROM _daskae_loads WHERE sequence = 2")[0]
    assert message == "a check of the load refuses the publish: lost_customers"
    assert not sink.publish(load(tmp_path, B, 3, strategy=strategy)).already_published


def test_a_check_after_the_strategy_sees_what_readers_would_see(database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    sink.publish(load(tmp_path, A, 5))
    before = state(database)
    with pytest.raises(GateError, match=r"sums_agree: \((False|0),\) instead of a single true"):
        sink.publish(load(tmp_path, B, 3, SUMS, strategy="upsert"))
    assert state(database) == before
    sink.publish(load(tmp_path, B, 3, replace(SUMS, at="before", sql="SELECT count(*) = 5 FROM {target}")))
    assert len(database.rows("customer_metrics")) == 3


def test_a_check_that_warns_is_in_receipt_and_ledger(database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    sink.publish(load(tmp_path, A, 4))
    receipt = sink.publish(load(tmp_path, B, 3, replace(LOST, on_failure="warn")))
    assert receipt.warnings == ("lost_customers: 1 row, where none is allowed",)
    assert database.query("SELECT message FROM _daskae_loads WHERE sequence = 2") == [receipt.warnings]
    assert len(database.rows("customer_metrics")) == 3
    sink.publish(load(tmp_path, "c" * 64, 3))
    (message,) = database.query("SELECT message FROM _daskae_loads WHERE sequence = 2")[0]
    assert message == f"{receipt.warnings[0]}; replaced by sequence 3"


@pytest.mark.parametrize(
    "answer", [True, None, False, "two customers too many", ValueError("no such thing"), sa.text("SELECT nope")]
)
def test_a_function_gets_the_connection_and_the_tables(answer: Any, database: Database, tmp_path: Path) -> None:
    if not database.ours_by_index:
        pytest.skip("functions need savepoints")
    seen: list[Any] = []

    def look(connection: sa.Connection, tables: Mapping[str, CheckedTable]) -> Any:
        found = tables["customer_metrics"]
        counts = [sa.select(sa.func.count()).select_from(table) for table in (found.staged, found.target)]
        seen.extend(connection.execute(count).scalar_one() for count in counts)
        connection.execute(sa.delete(tables["kpis"].target))  # undone
        if isinstance(answer, Exception):
            raise answer
        return connection.execute(answer).scalar() if isinstance(answer, sa.TextClause) else answer

    sink = database.sink()
    sink.publish(load(tmp_path, A, 3))
    second = load(tmp_path, B, 4, LoadCheck("mine", function=look), strategy="append")
    if answer is True or answer is None:
        assert sink.publish(second).rows == {"customer_metrics": 4, "kpis": 1}
        assert len(database.rows("kpis")) == 2
    else:
        said = {False: "it is not so", "two customers too many": "two customers too many"}.get(
            answer if isinstance(answer, bool | str) else "", "the check itself failed: .*no"
        )
        with pytest.raises(GateError, match=f"mine: {said}"):
            sink.publish(second)
        assert len(database.rows("kpis")) == 1
        warned = replace(second, checks=(LoadCheck("mine", function=look, on_failure="warn"),))
        assert sink.publish(warned).warnings[0].startswith("mine: ")
    assert seen[:2] == [4, 3]


@pytest.mark.parametrize("name", ["duckdb", "portable"])
def test_a_function_is_refused_where_what_it_writes_stays(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    sink = request.getfixturevalue(name).sink()
    made = load(tmp_path, A, 3, LoadCheck("mine", function=lambda connection, tables: True))
    for step in (sink.preflight, sink.publish):
        with pytest.raises(SettingsError, match=r"takes no function as a check(.|\n)*mine(.|\n)*next: "):
            step(made)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM {target}",
        "SELECT 1 FROM {target}; DELETE FROM {target}",
        "SELECT 1 FROM {target}) AS x; COMMIT; SELECT * FROM (SELECT 1",
        "DROP TABLE {target}",
    ],
)
def test_a_query_can_only_look(sql: str, database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    sink.publish(load(tmp_path, A, 3))
    before = state(database)
    check = LoadCheck("bad", sql, table="customer_metrics")
    with pytest.raises(SettingsError, match="no query that the database can run"):
        sink.preflight(load(tmp_path, B, 3, check))
    with pytest.raises(DaskaeError, match="bad: the check itself failed"):
        sink.publish(load(tmp_path, B, 3, check))
    assert state(database) == before


@pytest.mark.parametrize("first", [True, False])
def test_a_query_that_cannot_run_is_found_before_the_run(first: bool, database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    if not first:
        sink.publish(load(tmp_path, A, 3))
        database.run("ALTER TABLE customer_metrics ADD COLUMN mine TEXT")
        good = "SELECT mine, {target}._load_id, '12:30' FROM {target} JOIN {staged} ON {staged}.spent = {target}.spent"
        good += " WHERE {staged}.shop LIKE '%:x' AND mine = '{}'"
        sink.publish(load(tmp_path, B, 4, LoadCheck("good", good, table="customer_metrics")))
    for sql in ("SELECT nope FROM {staged}", "SELEC * FROM {target}", "SELECT * FROM {target} JOIN not_there ON true"):
        check = LoadCheck("typo", sql, table="customer_metrics")
        with pytest.raises(SettingsError, match=r"no query that the database can run(.|\n)*checks\]\] typo(.|\n)*got"):
            sink.preflight(load(tmp_path, "c" * 64, 3, LOST, SUMS, check))


def test_the_text_of_a_query_stays_as_it_is(database: Database, tmp_path: Path) -> None:
    # MariaDB takes a backslash for the beginning of an escape.
    length = 18 if database.name == "mariadb" else 20
    sql = rf"SELECT length('\d\:x %(a)s :y ::z ?') = {length} FROM {{staged}}"
    check = LoadCheck("length", sql, table="kpis", expect="true")
    database.sink().preflight(load(tmp_path, A, 3, check))
    assert database.sink().publish(load(tmp_path, A, 3, check)).rows["kpis"] == 1


def test_hostile_names_in_checks_are_quoted(database: Database, tmp_path: Path) -> None:
    name = '"; DROP TABLE kpis; --%s:x'
    table = pa.table({name: ["a"]})
    made = build_load(tmp_path, A, {**shop("north"), name: ((name,), table)})
    check = LoadCheck("hostile", "SELECT * FROM {staged} EXCEPT SELECT * FROM {staged}", table=name)
    database.sink().preflight(replace(made, checks=(check,)))
    database.sink().publish(replace(made, checks=(check,)))
    assert database.rows(name) == [{name: "a"}]
    assert len(database.rows("kpis")) == 1


@pytest.mark.parametrize(
    ("checks", "text"),
    [
        ([LOST, LOST], "two checks have one name"),
        ([LoadCheck("x", "SELECT 1")], r"looks at no table of the load(.|\n)*\{staged\} or \{target\}"),
        ([LoadCheck("x", "SELECT 1 FROM {stagd}", table="a")], "looks at no table"),
        ([LoadCheck("x", "SELECT 1 FROM {staged}")], r"not said which table is meant(.|\n)*\{staged.a\}"),
        ([LoadCheck("x", "SELECT 1 FROM {target.c}")], r"no such output table(.|\n)*a, b"),
        ([LoadCheck("x", "SELECT 1 FROM {target}", table="c")], r"no such output table(.|\n)*'c'"),
        ([LoadCheck("x")], "one query or one function"),
        ([LoadCheck(" ", "SELECT 1 FROM {staged.a}")], "needs a name"),
    ],
)
def test_checks_that_cannot_be_meant_are_refused(checks: list[LoadCheck], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        resolve_checks(checks, ["a", "b"])
