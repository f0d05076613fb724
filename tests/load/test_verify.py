"""A target that is not as it was loaded is told, whatever was changed in it; one that is, is not."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daskae.errors import DaskaeError, LoadError, SettingsError, TargetBusyError
from daskae.faults import STOP_VARIABLE
from daskae.load.base import LoadOptions, Strategy
from daskae.load.purging import purge_target
from daskae.load.shape import Drift, Metadata
from daskae.load.verified import Verified
from daskae.load.verifying import verified_document, verify_target
from tests.support import CONTEXT, until

from .building import MONEY, A, B, C, build_load, one_table, shop
from .databases import Database, Folder, Target
from .processes import WAIT


def differences(found: Verified) -> list[tuple[str, str]]:
    return [(item.table, item.what) for item in found.differences]


def compared(found: Verified) -> set[tuple[str, str]]:
    return {(item.table, item.what) for item in found.comparisons}


def test_a_target_as_it_was_loaded(target: Target, tmp_path: Path) -> None:
    target.sink().publish(build_load(tmp_path, A, shop("north", 12)))
    found = verify_target(target.url)
    assert not found.differences
    values = {("customer_metrics", f"values of {name}") for name in ("customer_id", "spent", "shop")}
    rows = {(table, what) for table in ("customer_metrics", "kpis") for what in ("rows", "rows of all loads")}
    assert compared(found) >= values | rows
    assert found.loads == 1
    sums = {("customer_metrics", "sum of spent"), ("kpis", "sum of value")}
    if target.name == "portable":
        assert len(found.left_out) == 2
        assert not sums & compared(found)
    else:
        assert found.left_out == ()
        assert sums <= compared(found)


CHANGES = [
    ("UPDATE customer_metrics SET spent = spent + 1 WHERE customer_id = 'C5'", ["sum of spent"]),
    ("UPDATE customer_metrics SET spent = spent + 0.0001 WHERE customer_id = 'C0'", ["sum of spent"]),
    ("UPDATE customer_metrics SET shop = NULL WHERE customer_id = 'C5'", ["values of shop"]),
    ("DELETE FROM customer_metrics WHERE customer_id = 'C0'", ["rows", "values of shop", "rows of all loads"]),
    ("INSERT INTO customer_metrics (customer_id) VALUES ('other')", ["rows of all loads"]),
    ("UPDATE customer_metrics SET _load_id = 'other'", ["rows"]),
    ("DELETE FROM customer_metrics", ["rows", "rows of all loads"]),
    ("DROP TABLE customer_metrics", ["rows", "rows of all loads"]),
]


@pytest.mark.parametrize(
    ("statement", "expected"), CHANGES, ids=lambda item: item[:40] if isinstance(item, str) else ""
)
def test_rows_changed_by_hand(database: Database, statement: str, expected: list[str], tmp_path: Path) -> None:
    if database.name == "portable" and expected == ["sum of spent"]:
        pytest.skip("how an unknown database adds up is not known")
    database.sink().publish(build_load(tmp_path, A, shop("north", 12)))
    database.run(statement)
    found = differences(verify_target(database.url))
    assert {("customer_metrics", what) for what in expected} <= set(found)
    assert {table for table, _ in found} == {"customer_metrics"}


def test_a_text_where_a_number_was(sqlite: Database, tmp_path: Path) -> None:
    """Which SQLite takes."""
    sqlite.sink().publish(build_load(tmp_path, A, shop("north", 3)))
    sqlite.run("UPDATE customer_metrics SET spent = 'much' WHERE customer_id = 'C1'")
    assert differences(verify_target(sqlite.url)) == [("customer_metrics", "sum of spent")]


def test_sums_are_exact(target: Target, tmp_path: Path) -> None:
    """Numbers whose sum neither 64 bits nor a double hold; SQLite has 15 digits of a decimal, DuckDB 38 of a sum."""
    digits = {"sqlite": 10, "portable": 10, "duckdb": 31}.get(target.name, 33)
    amounts = [Decimal(f"{'9' * digits}.{i % 10_000:04d}") for i in range(300)]
    table = pa.table({"id": pa.array(map(str, range(300))), "amount": pa.array(amounts, MONEY),
                      "count": pa.array([2**62] * 300, pa.int64())})  # fmt: skip
    target.sink().publish(one_table(tmp_path, table, ["id"]))
    found = verify_target(target.url)
    assert not found.differences
    loaded = {item.what: item.loaded for item in found.comparisons}
    if target.name != "portable":
        with localcontext(prec=60):
            assert Decimal(loaded["sum of amount"]) == sum(amounts)
        assert loaded["sum of count"] == str(300 * 2**62)


@pytest.mark.parametrize("strategy", ["replace", "append", "upsert", "merge"])
def test_after_a_second_load(target: Target, strategy: Strategy, tmp_path: Path) -> None:
    first = build_load(tmp_path, A, shop("north", 4), "append")
    target.sink().publish(first)
    target.sink().publish(build_load(tmp_path, B, shop("south", 6), strategy))
    found = verify_target(target.url)
    assert not found.differences
    left = [text for text in found.left_out if "the sum of" not in text]
    if strategy in ("upsert", "merge"):
        old = [f"{name}, load aaaaaaaa: rows of it carry the id of a later load" for name in shop("", 0)]
        assert [text for text in left if "its columns" not in text] == old
        assert len(left) == 4  # of the second load no columns were noted
        assert not [item for item in found.comparisons if item.load_id == A]
    else:
        assert left == []
        assert {item.load_id for item in found.comparisons if item.what == "rows"} == (
            {A, B} if strategy == "append" else {B}
        )
    assert {item.loaded for item in found.comparisons if item.load_id == B and item.what == "rows"} == {"6", "1"}


def test_rows_that_were_left_out_are_not_missed(target: Target, tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "a", None, "b"], "amount": pa.array([1, 2, 3, 4], pa.int64())})
    load = one_table(tmp_path, table, ["id"])
    target.sink().publish(replace(load, options=LoadOptions(duplicates="first"), rejects=tmp_path / "rejects"))
    found = verify_target(target.url)
    assert not found.differences
    assert ("t", "rows") in compared(found)
    assert ("t", "sum of amount") not in compared(found)
    assert [text for text in found.left_out if "its columns" in text]


def test_other_metadata_columns(target: Target, tmp_path: Path) -> None:
    """The ledger knows how they are called."""
    load = build_load(tmp_path, A, shop("north", 3), "append")
    target.sink().publish(replace(load, metadata=Metadata("load", None, None)))
    assert not verify_target(target.url).differences


@pytest.mark.parametrize("kind", ["sqlite", "folder"])
def test_no_column_that_tells_loads_apart(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    target: Target = request.getfixturevalue(kind)
    load = build_load(tmp_path, A, shop("north", 3))
    target.sink().publish(replace(load, metadata=Metadata(None, None, None)))
    found = verify_target(target.url)
    assert not found.differences
    assert {("customer_metrics", "rows"), ("customer_metrics", "sum of spent")} <= compared(found)


def test_columns_that_a_policy_leaves_out(database: Database, tmp_path: Path) -> None:
    """Neither one that is not in the table yet, nor the same one when it has come; one that is dropped is told."""
    wide = pa.table({"id": ["a", "b"], "more": pa.array([1, 2], pa.int64()), "note": ["x", "y"]})
    database.sink().publish(one_table(tmp_path, wide.drop_columns(["more"]), ["id"]))
    load = replace(one_table(tmp_path, wide, ["id"], load_id=B), strategy="append", drift=Drift("ignore"))
    database.sink().publish(load)
    assert not verify_target(database.url).differences
    third = replace(one_table(tmp_path, wide, ["id"], load_id=C), strategy="append")
    database.sink().publish(third)
    assert not verify_target(database.url).differences
    database.run("ALTER TABLE t DROP COLUMN note")
    assert {item.what for item in verify_target(database.url).differences} == {"column note"}


def test_loads_of_different_tables(target: Target, tmp_path: Path) -> None:
    """An append of which one table was replaced has its rows in the other one still."""
    both = shop("north", 3)
    one, other = ({name: both[name]} for name in both)
    target.sink().publish(build_load(tmp_path, A, both))
    target.sink().publish(build_load(tmp_path, B, shop("south", 3), "append"))
    target.sink().publish(build_load(tmp_path, C, one))
    target.sink().publish(build_load(tmp_path, "d" * 64, other, "append"))
    assert not verify_target(target.url).differences


DAMAGE = [
    "totals = '[1]'", "totals = '{\"kpis\": 3}'", "totals = '{\"kpis\": {\"value\": [1]}}'",
    "totals = '{\"kpis\": {\"value\": [1, \"abc\"]}}'", "tables = '{\"kpis\": \"x\"}'", "tables = '[1]'",
    "purged = '3'",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_ledger_of_a_database(sqlite: Database, damage: str, tmp_path: Path) -> None:
    sqlite.sink().publish(build_load(tmp_path, A, shop("north", 3)))
    sqlite.run(f"UPDATE _daskae_loads SET {damage}")
    with pytest.raises(LoadError, match="the history of loads is damaged"):
        verify_target(sqlite.url)


def test_a_ledger_of_an_earlier_version(sqlite: Database, tmp_path: Path) -> None:
    sqlite.sink().publish(build_load(tmp_path, A, shop("north", 3)))
    sqlite.run(*(f"ALTER TABLE _daskae_loads DROP COLUMN {name}" for name in ("totals", "mark", "purged")))
    found = verify_target(sqlite.url)
    assert not found.differences
    assert ("customer_metrics", "rows") in compared(found)
    assert len([text for text in found.left_out if "its columns" in text]) == 2
    sqlite.sink().publish(build_load(tmp_path, B, shop("south", 3)))
    assert verify_target(sqlite.url).left_out == ()


def test_a_sum_that_duckdb_has_no_number_for(duckdb: Database, tmp_path: Path) -> None:
    amounts = pa.array([Decimal("999999999999999999999999999999999999.99")] * 3, pa.decimal128(38, 2))
    duckdb.sink().publish(one_table(tmp_path, pa.table({"id": ["a", "b", "c"], "amount": amounts}), ["id"]))
    found = verify_target(duckdb.url)
    assert not found.differences
    assert [text for text in found.left_out if "the sum of amount" in text]


# -------------------------------------------------------------------------------------------------------------- files


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def change_file(folder: Folder, table: str, change: Callable[[bytes], bytes | None]) -> str:
    files, _ = fsspec.url_to_fs(folder.url)
    path = folder.files(table)[0]
    data = change(files.cat_file(path))
    if data is None:
        files.rm_file(path)
    else:
        files.pipe_file(path, data)
    return f"file {path.rpartition('/')[2]}"


@pytest.mark.parametrize("change", [flipped, lambda data: data[:-1], lambda data: b"", lambda data: None],
                         ids=["flipped", "cut", "empty", "gone"])  # fmt: skip
def test_a_file_that_is_another(files: Folder, change: Callable[[bytes], bytes | None], tmp_path: Path) -> None:
    files.sink().publish(build_load(tmp_path, A, shop("north", 12)))
    what = change_file(files, "customer_metrics", change)
    assert ("customer_metrics", what) in differences(verify_target(files.url))
    assert {table for table, _ in differences(verify_target(files.url))} == {"customer_metrics"}


def test_every_byte_of_a_file(folder: Folder, tmp_path: Path) -> None:
    """Also those that no reader looks at."""
    folder.sink().publish(one_table(tmp_path, pa.table({"id": ["a"]}), ["id"]))
    (path,) = map(Path, folder.files("t"))
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert ("t", f"file {path.name}") in differences(verify_target(folder.url)), place
    path.write_bytes(data)
    assert not verify_target(folder.url).differences


def test_a_file_that_nobody_loaded(files: Folder, tmp_path: Path) -> None:
    files.sink().publish(build_load(tmp_path, A, shop("north", 2)))
    system, _ = fsspec.url_to_fs(files.url)
    path = files.files("kpis")[0]
    system.pipe_file(path.replace("00000", "00007"), system.cat_file(path))
    found = verify_target(files.url)
    assert differences(found) == [("kpis", "file aaaaaaaa-00007.parquet")]
    assert found.left_out == ("rows of kpis: its files differ",)


def test_rows_changed_and_noted_anew_are_told_by_the_ledger(folder: Folder, tmp_path: Path) -> None:
    """As by a program that keeps the checksums right: sums are of the rows that were to be loaded."""
    folder.sink().publish(build_load(tmp_path, A, shop("north", 3)))
    (path,) = map(Path, folder.files("customer_metrics"))
    table = pq.read_table(path)
    amounts = pa.array([Decimal(9)] * 3, MONEY)
    pq.write_table(table.set_column(1, table.schema.field(1), amounts), path)
    (Path(folder.url) / ".daskae" / "current" / "contents.json").unlink()
    found = verify_target(folder.url)
    assert differences(found) == [("customer_metrics", "sum of spent")]
    assert found.left_out == ("files: nobody has noted their checksums",)


def test_checksums_stay_those_of_the_time_when_a_file_was_new(files: Folder, tmp_path: Path) -> None:
    """A file that rots is told after later loads too, which leave it as it is."""
    files.sink().publish(build_load(tmp_path, A, shop("north", 4), "append"))
    what = change_file(files, "kpis", flipped)
    files.sink().publish(one_table(tmp_path, pa.table({"id": ["a"]}), ["id"], load_id=B))
    files.sink().publish(one_table(tmp_path, pa.table({"id": ["b"]}), ["id"], load_id=C))
    assert ("kpis", what) in differences(verify_target(files.url))


@pytest.mark.parametrize("name", ["ledger.jsonl", "contents.json"])
def test_damage_in_the_records_of_a_folder(folder: Folder, name: str, tmp_path: Path) -> None:
    folder.sink().publish(build_load(tmp_path, A, shop("north", 4)))
    path = Path(folder.url) / ".daskae" / "current" / name
    data = path.read_bytes()
    path.write_bytes(data.replace(b"4", b"5"))
    for act in (lambda: verify_target(folder.url), lambda: purge_target(folder.url, ["C1"])):
        with pytest.raises(LoadError, match=r"ledger of the target is gone, or not|checksums of the target's files"):
            act()
    path.write_bytes(data)
    assert not verify_target(folder.url).differences


def test_damage_in_a_manifest(memory: Folder, tmp_path: Path) -> None:
    memory.sink().publish(build_load(tmp_path, A, shop("north", 4)))
    files, root = fsspec.url_to_fs(memory.url)
    path = f"{root}/_daskae/manifest.json"
    data = files.cat_file(path)
    for damaged in (data.replace(b"4", b"5"), data[:-1], b"", b"[]", b"{}", b"3", b'"x"', b"\xff"):
        files.pipe_file(path, damaged)
        with pytest.raises(LoadError, match="the manifest of the target is damaged"):
            verify_target(memory.url)
    files.pipe_file(path, data)
    assert not verify_target(memory.url).differences


@pytest.mark.parametrize("partition_by", [(), ("shop",)])
def test_after_a_purge(files: Folder, partition_by: tuple[str, ...], tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north", 4))
    tables = (replace(load.tables[0], partition_by=partition_by), *load.tables[1:])
    files.sink().publish(replace(load, tables=tables))
    purge_target(files.url, ["C1"])
    assert_purged(files, tmp_path)


def test_after_a_purge_of_a_database(database: Database, tmp_path: Path) -> None:
    database.sink().publish(build_load(tmp_path, A, shop("north", 4)))
    purge_target(database.url, ["C1"])
    assert_purged(database, tmp_path)


def assert_purged(target: Target, folder: Path) -> None:
    """What was purged is no difference, and no total that was noted gives away what it had been."""
    found = verify_target(target.url)
    assert not found.differences
    assert "customer_metrics, load aaaaaaaa: customers were taken out of it" in found.left_out
    assert ("kpis", "sum of value") in compared(found) or target.name == "portable"
    kept = target.query("SELECT totals FROM _daskae_loads") if isinstance(target, Database) else target.entries()
    assert "spent" not in str(kept)
    assert not target.sink().publish(build_load(folder, B, shop("south", 4))).already_published
    assert ("customer_metrics", "values of spent") in compared(verify_target(target.url))


def test_totals_of_what_was_replaced_are_forgotten(target: Target, tmp_path: Path) -> None:
    """A customer who is gone from the input could be told from the two."""
    target.sink().publish(build_load(tmp_path, A, shop("north", 4)))
    target.sink().publish(build_load(tmp_path, B, shop("north", 3)))
    if isinstance(target, Database):
        kept = [row[0] for row in target.query("SELECT totals FROM _daskae_loads ORDER BY sequence")]
    else:
        kept = [str(entry.totals) for entry in target.entries()]
    assert ["spent" in text for text in kept] == [False, True]


def test_a_link_that_is_gone(folder: Folder, tmp_path: Path) -> None:
    folder.sink().publish(build_load(tmp_path, A, shop("north", 3)))
    (Path(folder.url) / "kpis").unlink()
    assert differences(verify_target(folder.url)) == [("kpis", "link that readers open")]


def test_a_ledger_that_is_gone(folder: Folder, tmp_path: Path) -> None:
    folder.sink().publish(build_load(tmp_path, A, shop("north", 3)))
    (Path(folder.url) / ".daskae" / "current" / "ledger.jsonl").unlink()
    with pytest.raises(LoadError, match="ledger of the target is gone"):
        verify_target(folder.url)


def test_a_manifest_of_an_earlier_version(memory: Folder, tmp_path: Path) -> None:
    """It has no checksums; files that come later have."""
    memory.sink().publish(build_load(tmp_path, A, shop("north", 4), "append"))
    files, root = fsspec.url_to_fs(memory.url)
    path = f"{root}/_daskae/manifest.json"
    document = json.loads(files.cat_file(path))
    files.pipe_file(path, json.dumps({name: document[name] for name in ("loads", "tables")}).encode())
    found = verify_target(memory.url)
    assert not found.differences
    assert found.left_out == ("files: nobody has noted their checksums",)
    memory.sink().publish(build_load(tmp_path, B, shop("south", 4), "append"))
    assert not verify_target(memory.url).differences
    memory.sink().publish(build_load(tmp_path, C, shop("south", 4)))
    assert verify_target(memory.url).left_out == ()


# ------------------------------------------------------------------------------------------------------------ the rest


def test_a_target_without_a_load_is_an_error(target: Target) -> None:
    with pytest.raises(LoadError, match="nothing was ever loaded into this target"):
        verify_target(target.url)
    assert target.names() == set()


def test_a_target_that_is_none() -> None:
    with pytest.raises(SettingsError, match="this kind of target is not supported"):
        verify_target("nothing://here")


def test_nothing_is_written(target: Target, tmp_path: Path) -> None:
    target.sink().publish(build_load(tmp_path, A, shop("north", 3)))
    before = (target.names(), target.ledger(), target.rows("kpis", metadata=True))
    verify_target(target.url)
    assert (target.names(), target.ledger(), target.rows("kpis", metadata=True)) == before


def _verify_stopped(url: str, results: Any) -> None:
    os.environ[STOP_VARIABLE] = "verifying.compared"
    try:
        results.put(verified_document(verify_target(url)))
    except DaskaeError as error:
        results.put(error)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "folder"])
@pytest.mark.parametrize("loads", [0, 1, 3])
def test_others_who_load_meanwhile(kind: str, loads: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A database has one state, so it is to be looked at again; a snapshot stays for one publish more."""
    target: Target = request.getfixturevalue(kind)
    target.sink().publish(build_load(tmp_path, A, shop("north", 3)))
    results = CONTEXT.SimpleQueue()
    child = CONTEXT.Process(target=_verify_stopped, args=(target.url, results))
    child.start()
    assert child.pid is not None
    process = psutil.Process(child.pid)
    until(lambda: process.status() == psutil.STATUS_STOPPED, "the stop")
    for load_id in (A, B, C)[:loads]:
        target.sink().publish(build_load(tmp_path, load_id + "0", shop(load_id, 4)))
    os.kill(child.pid, signal.SIGCONT)
    found = results.get()
    child.join(WAIT)
    if loads == 0 or (kind == "folder" and loads == 1):
        assert found["is_same"]
    else:
        assert isinstance(found, TargetBusyError)
        assert "loaded while the target was looked at" in found.what


def test_as_a_document(sqlite: Database, tmp_path: Path) -> None:
    sqlite.sink().publish(build_load(tmp_path, A, shop("north", 3)))
    sqlite.run("DELETE FROM kpis")
    document = json.loads(json.dumps(verified_document(verify_target(sqlite.url))))
    assert document["schema_version"] == 1
    assert not document["is_same"]
    assert document["differences"][0] == {
        "table": "kpis", "what": "rows", "loaded": "1", "found": "0", "load_id": A,
    }  # fmt: skip
