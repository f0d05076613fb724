"""Whatever happens to a publish, the folder holds the old load or the new one, and the next publish puts it right."""

import os
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from daskae.errors import LoadError, TargetBusyError
from daskae.load.ledger import Entry
from daskae.load.targets import open_sink
from tests.fault_log import checked, fault

from .building import A, B, build_load, read_folder, shop
from .processes import LockHolder, publish_killed_at, publish_together

CRASH_POINTS = ("parquet.written", "parquet.linked", "parquet.flipped")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def visible(out: Path) -> dict[str, Any]:
    """What a reader finds: the files of all tables, their bytes, and the ledger without its own times."""
    files = {
        f"{table.name}/{file.name}": sha256(file.read_bytes()).hexdigest()
        for table in out.iterdir()
        if not table.name.startswith(".")
        for file in table.glob("*.parquet")
    }
    ledger = out / ".daskae/current/ledger.jsonl"
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    entries = [Entry.from_json(line) for line in lines]
    return {"files": files, "ledger": [(entry.sequence, entry.load_id, entry.status) for entry in entries]}


def everything(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*"))


@pytest.mark.parametrize("strategy", ["replace", "append"])
def test_killed_anywhere_then_run_again(strategy: Any, tmp_path: Path) -> None:
    first = build_load(tmp_path / "first", A, shop("north"))
    second = build_load(tmp_path / "second", B, shop("south", 700), strategy)
    calm = tmp_path / "calm"
    for load in (first, second):
        open_sink(str(calm)).publish(load)
    for number, point in enumerate(CRASH_POINTS):
        out = tmp_path / str(number)
        open_sink(str(out)).publish(first)
        before = visible(out)
        publish_killed_at(str(out), second, point)
        published = point == "parquet.flipped"
        assert visible(out) == visible(calm if published else out) == (visible(calm) if published else before), point
        assert open_sink(str(out)).publish(second).already_published == published
        assert visible(out) == visible(calm), point
        checked("bytes")
        assert not published or everything(out) != [], point
        if not published:
            assert everything(out) == everything(calm), point


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_killed_in_the_very_first_publish(point: str, out: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    publish_killed_at(str(out), load, point)
    assert len(visible(out)["files"]) == (2 if point == "parquet.flipped" else 0)
    open_sink(str(out)).publish(load)
    assert len(visible(out)["files"]) == 2


@pytest.mark.parametrize("strategy", ["replace", "append"])
def test_processes_publishing_the_same_load_at_once(strategy: Any, out: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north", 2000), strategy)
    assert sorted(publish_together(str(out), load, 3)) == [False, True, True]
    assert read_folder(out / "customer_metrics").num_rows == 2000


def test_a_reader_sees_only_whole_loads(out: Path, tmp_path: Path) -> None:
    sizes = {"north": 30, "south": 50}
    loads = [build_load(tmp_path, key, shop(name, sizes[name])) for key, name in ((A, "north"), (B, "south"))]
    sink = open_sink(str(out))
    sink.publish(loads[0])
    seen: list[tuple[str, set[str], int, list[Any]]] = []
    stop = threading.Event()
    failures: list[BaseException] = []

    def look() -> None:
        # All tables of one load: resolve once. A reader that two publishes overtook finds no file, and looks again.
        snapshot = (out / ".daskae/current").resolve()
        customers = read_folder(snapshot / "customer_metrics")
        kpis = read_folder(snapshot / "kpis").to_pylist()
        seen.append(("all", set(customers["shop"].to_pylist()), customers.num_rows, kpis))
        # One table, the plain way: list, then open.
        files = [pq.read_table(path) for path in (out / "customer_metrics").glob("*.parquet")]
        if files:
            (table,) = files
            seen.append(("one", set(table["shop"].to_pylist()), table.num_rows, []))

    def read() -> None:
        while not stop.is_set():
            try:
                look()
            except FileNotFoundError:
                continue
            except BaseException as error:
                failures.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 1000):
        sink.publish(loads[number % 2])
        if failures or (len(seen) >= 60 and len({tuple(names) for _, names, _, _ in seen[:]}) == 2):
            break
    stop.set()
    reader.join()
    assert failures == []
    assert len(seen) >= 60
    for way, names, count, kpis in seen:
        (name,) = names
        assert count == sizes[name]
        if way == "all":
            assert [(row["shop"], row["value"]) for row in kpis] == [(name, count)]


def test_a_publisher_elsewhere_is_waited_for_and_named(out: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    (out / ".daskae").mkdir(parents=True)
    sink = open_sink(str(out), timeout=0.1)
    with LockHolder(out / ".daskae/lock") as holder:
        with pytest.raises(TargetBusyError, match=rf"waited 0\.1 s(.|\n)*held by process {holder.pid} on"):
            sink.publish(load)
        assert os.listdir(out) == [".daskae"]
        holder.kill()
        assert not sink.publish(load).already_published


def test_a_failed_publish_leaves_nothing_behind(out: Path, tmp_path: Path) -> None:
    open_sink(str(out)).publish(build_load(tmp_path, A, shop("north")))
    before = everything(out)
    load = build_load(tmp_path, B, shop("south"))
    load.tables[1].files[0].write_bytes(b"rubbish")
    fault("damaged file", "rows to be loaded", "publisher", "parquet")
    with pytest.raises(Exception, match="cannot be read"):
        open_sink(str(out)).publish(load)
    assert everything(out) == before


def test_a_folder_that_is_in_the_way_of_a_link_is_an_error_of_the_load(out: Path, tmp_path: Path) -> None:
    open_sink(str(out)).publish(build_load(tmp_path, A, shop("north")))
    (out / ".daskae/current.new").mkdir()
    with pytest.raises(LoadError, match=r"current\.new"):
        open_sink(str(out)).publish(build_load(tmp_path, B, shop("south")))
    assert set(read_folder(out / "customer_metrics")["shop"].to_pylist()) == {"north"}
