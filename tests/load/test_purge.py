"""Customers leave a target: all of their rows, nobody else's, and no byte of them in files that are ours."""

import os
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from daskae.errors import LoadError, SettingsError, TargetBusyError
from daskae.faults import CRASH_VARIABLE
from daskae.load.base import Load
from daskae.load.lock import publisher_lock
from daskae.load.parquet.remote import RemoteParquetSink
from daskae.load.purged import Purged
from daskae.load.purging import purge_target
from tests.fault_log import armed, target_of
from tests.support import CONTEXT, files_naming

from .building import A, B, build_load, one_table, query, shop
from .databases import Database, Folder, Target
from .processes import WAIT

CANARY = "CANARY-4711"
PLAIN = "plain:"
TEXT = pa.string()


def people(name: str, *ids: str) -> pa.Table:
    return pa.table({"customer_id": pa.array(ids, TEXT), "shop": pa.array([name] * len(ids), TEXT)})


def load_people(folder: Path, *ids: str, load_id: str = A, strategy: Any = "replace") -> Load:
    load = one_table(folder, people(load_id[0], *ids), ["customer_id"], "customer_metrics", load_id)
    return replace(load, strategy=strategy)


def rows_without(target: Target, *ids: str) -> list[dict[str, object]]:
    return [row for row in target.rows("customer_metrics", metadata=True) if row["customer_id"] not in ids]


def purge_killed_at(url: str, customers: Sequence[str], point: str) -> None:
    armed("purge", target_of(url))
    child = CONTEXT.Process(target=_purge_armed, args=(url, list(customers), point))
    child.start()
    child.join(WAIT)
    code = child.exitcode
    child.close()
    assert code == -signal.SIGKILL, f"the child ended with {code} and never came to {point}"


def _purge_armed(url: str, customers: list[str], point: str) -> None:
    os.environ[CRASH_VARIABLE] = point
    if url.startswith(PLAIN):
        plain_files(url.removeprefix(PLAIN)).purge(customers, dry_run=False)
    else:
        purge_target(url, customers)


def plain_files(path: str) -> RemoteParquetSink:
    """A target that outlives its process, without links and renames."""
    return RemoteParquetSink(LocalFileSystem(auto_mkdir=True), path, path)


def test_rows_of_these_customers_go_and_all_else_stays(target: Target, tmp_path: Path) -> None:
    """``C1`` is not ``C10``, and an id that nobody has is no error."""
    load = build_load(tmp_path, A, shop("north", 12))
    target.sink().publish(load)
    ledger, sums = target.ledger(), target.rows("kpis", metadata=True)
    expected = rows_without(target, "C1", "C7")
    assert len(expected) == 10
    wanted = Purged({"customer_metrics": 2})
    assert purge_target(target.url, ["C1", "C7", "nobody"], dry_run=True) == wanted
    assert len(target.rows("customer_metrics")) == 12
    assert purge_target(target.url, ["C1", "C7", "nobody"]).rows == wanted.rows
    assert target.rows("customer_metrics", metadata=True) == expected
    assert (target.ledger(), target.rows("kpis", metadata=True)) == (ledger, sums)
    assert purge_target(target.url, ["C1", "C7"]) == Purged({"customer_metrics": 0})
    if target.name != "memory":  # whose ledger is compared by files alone
        assert not target.sink().publish(load).already_published
        assert len(target.rows("customer_metrics")) == 12


def test_ids_are_compared_by_their_code_points(target: Target, tmp_path: Path) -> None:
    ids = ["a", "A", "ä", "a'; --", 'a"', "a%", "007", "7", "€ 1"]
    if target.name != "memory":
        ids.append("a ")
    target.sink().publish(load_people(tmp_path, *ids))
    for gone in ("a", "7", "a'; --", 'a"', "€ 1"):
        assert purge_target(target.url, [gone]).rows == {"customer_metrics": 1}
        ids.remove(gone)
    assert sorted(str(row["customer_id"]) for row in target.rows("customer_metrics")) == sorted(ids)


def test_every_load_of_an_append_is_searched(target: Target, tmp_path: Path) -> None:
    for load_id in (A, B):
        target.sink().publish(load_people(tmp_path, "C1", CANARY, "C2", load_id=load_id, strategy="append"))
    assert purge_target(target.url, [CANARY]).rows == {"customer_metrics": 2}
    assert [row["customer_id"] for row in target.rows("customer_metrics")] == ["C1", "C1", "C2", "C2"]
    if target.name != "memory":  # brings back what is missing, and nothing twice
        load = load_people(tmp_path, "C1", CANARY, "C2", load_id=A, strategy="append")
        assert not target.sink().publish(load).already_published
        assert [row["customer_id"] for row in target.rows("customer_metrics")] == ["C1", "C1", "C2", "C2", CANARY]


def test_many_ids(sqlite: Database, tmp_path: Path) -> None:
    ids = [f"C{number}" for number in range(1300)]
    sqlite.sink().publish(load_people(tmp_path, *ids, "left"))
    assert purge_target(sqlite.url, ids).rows == {"customer_metrics": 1300}
    assert [row["customer_id"] for row in sqlite.rows("customer_metrics")] == ["left"]


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_no_byte_stays_in_a_sqlite_file(sqlite: Database, journal: str, tmp_path: Path) -> None:
    """Not in pages that earlier loads have freed either, nor in the write-ahead log, while a reader is connected."""
    path = tmp_path / "target" / "metrics.db"
    others = [f"C{number:05d}" for number in range(3000)]
    sqlite.sink().publish(load_people(tmp_path, *others, CANARY))
    sqlite.run(f"PRAGMA journal_mode = {journal}")
    with closing(sqlite3.connect(path)) as reader:
        sqlite.sink().publish(load_people(tmp_path, *others[:5], CANARY, load_id=B))
        # By hand, with a library that does not overwrite what it deletes; Debian's does.
        sqlite.run("PRAGMA secure_delete = OFF", f"DELETE FROM customer_metrics WHERE customer_id = '{CANARY}'")
        assert files_naming(path.parent, CANARY) != []
        assert reader.execute("SELECT count(*) FROM customer_metrics").fetchone() == (5,)
        assert purge_target(sqlite.url, [CANARY]).rows == {"customer_metrics": 0}
        assert files_naming(path.parent, CANARY) == []
        assert reader.execute("SELECT count(*) FROM customer_metrics").fetchone() == (5,)


def test_a_reader_of_the_old_rows_makes_it_unfinished(sqlite: Database, tmp_path: Path) -> None:
    path = tmp_path / "target" / "metrics.db"
    sqlite.sink().publish(load_people(tmp_path, "C1", CANARY))
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM customer_metrics").fetchone() == (2,)
        with pytest.raises(TargetBusyError, match="another program still reads the old ones"):
            purge_target(sqlite.url, [CANARY], timeout=0.1)
    assert purge_target(sqlite.url, [CANARY]).rows == {"customer_metrics": 0}
    assert files_naming(path.parent, CANARY) == []


def test_why_a_load_failed_does_not_name_them(sqlite: Database, tmp_path: Path) -> None:
    sqlite.sink().publish(load_people(tmp_path, "C1"))
    with pytest.raises(LoadError, match="more than once"):
        sqlite.sink().publish(load_people(tmp_path, "C1", "C1", load_id=B))
    sqlite.run(f"UPDATE _daskae_loads SET message = 'key ({CANARY}) is there; {CANARY}0 is not' WHERE sequence = 2")
    purge_target(sqlite.url, [CANARY])
    assert query(tmp_path / "target" / "metrics.db", "SELECT message FROM _daskae_loads WHERE sequence = 2") == [
        (f"key (***) is there; {CANARY}0 is not",)
    ]


def test_a_ledger_of_files_does_not_name_them(folder: Folder, tmp_path: Path) -> None:
    """What a check found may be in it, of a customer that no row has."""
    folder.sink().publish(load_people(tmp_path, "C1"))
    ledger = Path(folder.url) / ".daskae" / "current" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"message": ""', f'"message": "check: {CANARY}"'))
    (ledger.parent / "contents.json").unlink()  # which would tell
    before = folder.entries()
    assert purge_target(folder.url, [CANARY]) == Purged({"customer_metrics": 0}, older_snapshots=1)
    assert folder.entries() == [replace(one, message="check: ***") for one in before]
    assert files_naming(Path(folder.url), CANARY) == []


def test_no_file_of_a_folder_keeps_them(folder: Folder, tmp_path: Path) -> None:
    """Files without the customer stay the same files; the snapshot for late readers goes, as it has the old rows."""
    folder.sink().publish(load_people(tmp_path, "C1", "C2", strategy="append"))
    (kept,) = folder.files("customer_metrics")
    inode = os.stat(kept).st_ino
    folder.sink().publish(load_people(tmp_path, "C3", CANARY, "C4", load_id=B, strategy="append"))
    purged = purge_target(folder.url, [CANARY])
    assert purged == Purged({"customer_metrics": 1}, older_snapshots=1)
    assert files_naming(Path(folder.url), CANARY) == []
    first, second = folder.files("customer_metrics")
    assert (first, os.stat(first).st_ino) == (kept, inode)
    assert second.endswith("/bbbbbbbb-0000000001.parquet")
    assert pq.read_table(second)["customer_id"].to_pylist() == ["C3", "C4"]
    purge_target(folder.url, ["C4"])
    assert folder.files("customer_metrics")[1].endswith("/bbbbbbbb-0000000002.parquet")


def test_a_snapshot_that_alone_still_names_them(folder: Folder, tmp_path: Path) -> None:
    folder.sink().publish(load_people(tmp_path, "C1", CANARY))
    folder.sink().publish(load_people(tmp_path, "C1", load_id=B))
    before = folder.files("customer_metrics")
    assert purge_target(folder.url, [CANARY]) == Purged({"customer_metrics": 0}, older_snapshots=1)
    assert (folder.files("customer_metrics"), files_naming(Path(folder.url), CANARY)) == (before, [])


def test_folders_by_value(folder: Folder, tmp_path: Path) -> None:
    """A folder that is named after the customer goes; the last file leaves an empty one that tells the columns."""
    load = load_people(tmp_path, "C1", CANARY)
    parts = tuple(replace(table, partition_by=("customer_id",)) for table in load.tables)
    folder.sink().publish(replace(load, tables=parts))
    assert purge_target(folder.url, [CANARY]).rows == {"customer_metrics": 1}
    assert files_naming(Path(folder.url), CANARY) == []
    (path,) = folder.files("customer_metrics")
    assert "/2-purge/customer_id=C1/" in path
    purge_target(folder.url, ["C1"])
    (path,) = folder.files("customer_metrics")
    assert pq.read_schema(path).names[:2] == ["customer_id", "shop"]
    assert folder.rows("customer_metrics") == []


@pytest.mark.parametrize("point", ["sqlite.unpurged", "sqlite.purged", "sqlite.vacuumed"])
def test_killed_in_a_database(sqlite: Database, point: str, tmp_path: Path) -> None:
    sqlite.sink().publish(load_people(tmp_path, "C1", CANARY, "C2"))
    expected = rows_without(sqlite, CANARY)
    purge_killed_at(sqlite.url, [CANARY], point)
    assert len(sqlite.rows("customer_metrics")) == (3 if point == "sqlite.unpurged" else 2)
    purge_target(sqlite.url, [CANARY])
    assert sqlite.rows("customer_metrics", metadata=True) == expected
    assert files_naming(tmp_path / "target", CANARY) == []


@pytest.mark.parametrize("point", ["parquet.writing", "parquet.unpurged", "parquet.linked", "parquet.purged"])
def test_killed_in_a_folder(folder: Folder, point: str, tmp_path: Path) -> None:
    folder.sink().publish(load_people(tmp_path, "C1", CANARY, "C2"))
    expected = rows_without(folder, CANARY)
    purge_killed_at(folder.url, [CANARY], point)
    assert len(folder.rows("customer_metrics")) == (2 if point == "parquet.purged" else 3)
    purge_target(folder.url, [CANARY])
    assert folder.rows("customer_metrics", metadata=True) == expected
    assert files_naming(Path(folder.url), CANARY) == []


@pytest.mark.parametrize("point", ["remote.writing", "remote.unpurged", "remote.purged"])
def test_killed_on_files_without_links(point: str, tmp_path: Path) -> None:
    path = f"{tmp_path}/store"
    store = Folder(f"file://{path}")
    plain_files(path).publish(load_people(tmp_path, "C1", CANARY, "C2"))
    expected = rows_without(store, CANARY)
    purge_killed_at(PLAIN + path, [CANARY], point)
    assert plain_files(path).purge([CANARY], dry_run=False).rows == {"customer_metrics": point != "remote.purged"}
    assert store.rows("customer_metrics", metadata=True) == expected
    assert files_naming(tmp_path / "store", CANARY) == []


def test_a_publisher_keeps_a_purge_out(sqlite: Database, tmp_path: Path) -> None:
    sqlite.sink().publish(load_people(tmp_path, CANARY))
    lock = tmp_path / "target" / "metrics.db-daskae-lock"
    with (
        publisher_lock(lock, 1.0, "another"),
        pytest.raises(TargetBusyError, match="another run is publishing into the target"),
    ):
        purge_target(sqlite.url, [CANARY], timeout=0.1)
    assert len(sqlite.rows("customer_metrics")) == 1


def test_a_target_without_a_load_is_an_error(target: Target, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="nothing was ever loaded into this target"):
        purge_target(target.url, [CANARY])
    assert target.names() == set()


def test_a_target_that_is_none() -> None:
    with pytest.raises(SettingsError, match="this kind of target is not supported"):
        purge_target("nothing://here", [CANARY])
