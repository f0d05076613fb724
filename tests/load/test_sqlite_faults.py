"""Whatever happens to a publish, the database holds the old load or the new one, and the next publish puts it right."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daskae.errors import LoadError, TargetBusyError
from daskae.load.base import Load
from daskae.load.parts import read_batches
from daskae.load.targets import open_sink
from tests.fault_log import checked, fault

from .building import A, B, C, build_load, query, shop
from .processes import LockHolder, publish_killed_at, publish_together

CRASH_POINTS = ("sqlite.staged", "sqlite.deleted:1", "sqlite.deleted:2", "sqlite.uncommitted", "sqlite.committed")
MAKE_ROLLBACK_JOURNAL = "PRAGMA journal_mode = DELETE"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.db"


def dump(path: Path) -> dict[str, list[Any]]:
    """All rows of all tables but the ledger's own times, and the names of all objects."""
    return {
        "customers": query(path, "SELECT * FROM customer_metrics ORDER BY shop, customer_id"),
        "kpis": query(path, "SELECT * FROM kpis ORDER BY shop"),
        "ledger": query(path, "SELECT sequence, load_id, status, tables FROM _daskae_loads ORDER BY sequence"),
        "objects": query(path, "SELECT type, name, sql FROM sqlite_master ORDER BY name"),
        "check": query(path, "PRAGMA integrity_check"),
    }


@pytest.mark.parametrize("strategy", ["replace", "append"])
def test_killed_anywhere_then_run_again(strategy: Any, tmp_path: Path) -> None:
    first = build_load(tmp_path / "first", A, shop("north"))
    second = build_load(tmp_path / "second", B, shop("south", 700), strategy)
    calm = tmp_path / "calm.db"
    for load in (first, second):
        open_sink(f"sqlite:///{calm}").publish(load)
    for number, point in enumerate(CRASH_POINTS):
        path = tmp_path / f"{number}.db"
        url = f"sqlite:///{path}"
        open_sink(url).publish(first)
        before = dump(path)
        publish_killed_at(url, second, point)
        found = dump(path)
        committed = point == "sqlite.committed"
        expected = dump(calm) if committed else before
        assert {**found, "objects": None} == {**expected, "objects": None}, point
        # once more, and then it is as if nothing had happened, leftovers of the dead run included
        assert open_sink(url).publish(second).already_published == committed
        assert dump(path) == dump(calm), point
        checked("contents")


@pytest.mark.parametrize(
    "point", ["sqlite.staged", "sqlite.uncommitted", "sqlite.committed", "sqlite.built", "sqlite.named"]
)
def test_killed_in_the_very_first_publish(point: str, path: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path / "rows", A, shop("north"))
    publish_killed_at(f"sqlite:///{path}", load, point)
    appeared = point == "sqlite.named"
    assert path.exists() == appeared
    assert (open_sink(f"sqlite:///{path}").preflight(load) is not None) == appeared
    assert open_sink(f"sqlite:///{path}").publish(load).already_published == appeared
    assert query(path, "SELECT count(*) FROM customer_metrics") == [(3,)]
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert [file.name for file in path.parent.iterdir() if file.is_file()] == [path.name]


def test_logs_of_a_database_that_was_removed_are_not_taken_for_the_new_ones(path: Path, tmp_path: Path) -> None:
    sink = open_sink(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as holder:
        holder.execute("PRAGMA journal_mode = WAL")
        holder.execute("CREATE TABLE theirs (x)")
        holder.executemany("INSERT INTO theirs VALUES (?)", [(n,) for n in range(5000)])
        holder.commit()
        assert path.with_name("metrics.db-wal").stat().st_size
        path.unlink()  # and the log is forgotten
        fault("lost file", "the database, but not its log", "publisher", "sqlite")
        sink.publish(build_load(tmp_path, A, shop("north", 500)))
        assert query(path, "SELECT count(*) FROM customer_metrics") == [(500,)]
        assert query(path, "PRAGMA integrity_check") == [("ok",)]
        assert "theirs" not in str(query(path, "SELECT name FROM sqlite_master"))


def test_a_first_load_that_fails_leaves_no_database(path: Path, tmp_path: Path) -> None:
    keys, table = shop("north", 3)["customer_metrics"]
    twice = build_load(tmp_path, A, {"customer_metrics": (keys, table.take([0, 1, 1]))})
    with pytest.raises(LoadError, match="more than once"):
        open_sink(f"sqlite:///{path}").publish(twice)
    assert not [file for file in path.parent.iterdir() if file.is_file() and file.name.startswith("metrics")]


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[object]:
    """Let another program act while rows are on their way; returns what came of it."""
    found: list[object] = []

    def watched(*arguments: Any) -> Any:
        found.append(act())
        return read_batches(*arguments)

    monkeypatch.setattr("daskae.load.sql.stage.read_batches", watched)
    return found


@pytest.fixture
def reader(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[sqlite3.Connection]]:
    """A program that opens the database while its first load is on the way, and so makes an empty file."""
    opened: list[sqlite3.Connection] = []

    def look() -> None:
        if not opened:
            assert not path.exists()
            opened.append(sqlite3.connect(path, isolation_level=None))
            assert opened[0].execute("SELECT * FROM sqlite_master").fetchall() == []

    meanwhile(monkeypatch, look)
    yield opened
    for connection in opened:
        connection.close()


def test_a_reader_who_was_there_first_sees_the_first_load(
    reader: list[sqlite3.Connection], path: Path, tmp_path: Path
) -> None:
    load = build_load(tmp_path, A, shop("north"))
    open_sink(f"sqlite:///{path}").publish(load)
    assert reader[0].execute("SELECT count(*) FROM customer_metrics").fetchall() == [(3,)]
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    assert open_sink(f"sqlite:///{path}").publish(load).already_published


def test_a_reader_who_keeps_the_empty_file_locked_is_waited_for_and_named(
    reader: list[sqlite3.Connection], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(name: str) -> None:
        if name == "sqlite.built":
            reader[0].execute("BEGIN EXCLUSIVE")
            fault("held lock", name, "publisher", "sqlite")

    monkeypatch.setattr("daskae.load.sql.sqlite.newfile.crash_point", lock)
    load = build_load(tmp_path, A, shop("north"))
    with pytest.raises(TargetBusyError, match=r"another program (.*) the database; waited 0\.2 s"):
        open_sink(f"sqlite:///{path}", timeout=0.2).publish(load)
    reader[0].execute("ROLLBACK")
    monkeypatch.undo()
    assert not open_sink(f"sqlite:///{path}").publish(load).already_published


def test_what_another_program_made_meanwhile_stays(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = build_load(tmp_path, A, shop("north"))
    meanwhile(monkeypatch, lambda: query(path, "CREATE TABLE IF NOT EXISTS theirs (x)"))
    sink = open_sink(f"sqlite:///{path}")
    with pytest.raises(TargetBusyError, match=r"another program has made the database meanwhile(.|\n)*again"):
        sink.publish(load)
    assert query(path, "SELECT name FROM sqlite_master") == [("theirs",)]
    assert not sink.publish(load).already_published
    assert query(path, "SELECT count(*) FROM customer_metrics") == [(3,)]
    assert query(path, "SELECT count(*) FROM theirs") == [(0,)]


@pytest.mark.parametrize("strategy", ["replace", "append"])
def test_processes_publishing_the_same_load_at_once(strategy: Any, path: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north", 2000), strategy)
    assert sorted(publish_together(f"sqlite:///{path}", load, 3)) == [False, True, True]
    assert query(path, "SELECT count(*) FROM customer_metrics") == [(2000,)]
    assert query(path, "SELECT count(*) FROM _daskae_loads") == [(1,)]


def test_a_reader_sees_only_whole_loads(path: Path, tmp_path: Path) -> None:
    sizes = {"north": 300, "south": 500}
    loads = [build_load(tmp_path, key, shop(name, sizes[name])) for key, name in ((A, "north"), (B, "south"))]
    sink = open_sink(f"sqlite:///{path}")
    sink.publish(loads[0])
    seen: list[tuple[Any, ...]] = []
    stop = threading.Event()

    def read() -> None:
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
            while not stop.is_set():
                database.execute("BEGIN")
                customers = database.execute("SELECT shop, count(*) FROM customer_metrics GROUP BY 1").fetchall()
                kpis = database.execute("SELECT shop, value FROM kpis").fetchall()
                (published,) = database.execute(
                    "SELECT tables FROM _daskae_loads WHERE status = 'published'"
                ).fetchall()
                database.execute("COMMIT")
                seen.append((customers, kpis, published))

    def publish() -> None:
        for number in range(1, 1000):
            sink.publish(loads[number % 2])
            names = {customers[0][0] for customers, _, _ in seen[:]}
            if len(seen) >= 100 and names == sizes.keys():
                break

    _run_beside(read, publish, stop)
    assert len(seen) >= 100
    for customers, kpis, (tables,) in seen:
        assert customers == kpis
        ((name, count),) = customers
        assert count == sizes[name]
        assert f'"customer_metrics": {count}' in tables


def _run_beside(read: Callable[[], None], publish: Callable[[], None], stop: threading.Event) -> None:
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            read()
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=guarded)
    reader.start()
    try:
        publish()
    finally:
        stop.set()
        reader.join()
    assert failures == []


def test_a_publisher_elsewhere_is_waited_for_and_named(path: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    sink = open_sink(f"sqlite:///{path}", timeout=0.1)
    with LockHolder(path.with_name("metrics.db-daskae-lock")) as holder:
        with pytest.raises(TargetBusyError, match=rf"waited 0\.1 s(.|\n)*held by process {holder.pid} on"):
            sink.publish(load)
        assert not path.exists()
        holder.kill()
        assert not sink.publish(load).already_published


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_writer_elsewhere_is_waited_for(journal: str, path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode = {journal}")
        database.execute("CREATE TABLE theirs (x)")
        sink = open_sink(f"sqlite:///{path}", timeout=0.1)
        load = build_load(tmp_path, A, shop("north"))
        database.execute("BEGIN EXCLUSIVE")
        fault("held lock", f"by a writer, journal {journal}", "publisher", "sqlite")
        with pytest.raises(TargetBusyError, match=r"another program is writing to the database; waited 0\.1 s") as busy:
            sink.publish(load)
        assert "locked" not in str(busy.value)
        assert busy.value.__cause__ is None
        database.execute("ROLLBACK")
        sink.publish(load)
        assert query(path, "PRAGMA journal_mode") == [(journal,)]
        assert query(path, "SELECT count(*) FROM customer_metrics") == [(3,)]


def test_a_reader_that_never_ends_makes_a_rollback_journal_busy(path: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE theirs (x)")
        database.execute("BEGIN")
        database.execute("SELECT * FROM theirs").fetchall()
        fault("held lock", "by a reader, journal delete", "publisher", "sqlite")
        with pytest.raises(TargetBusyError):
            open_sink(f"sqlite:///{path}", timeout=0.1).publish(build_load(tmp_path, A, shop("north")))
        database.execute("COMMIT")
    assert query(path, "SELECT name FROM sqlite_master") == [("theirs",)]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    sink = open_sink(f"sqlite:///{tmp_path}/missing/metrics.db")
    load = build_load(tmp_path, A, shop("north"))
    for step in (sink.preflight, sink.publish):
        with pytest.raises(LoadError, match=r"folder of the database does not exist(.|\n)*missing"):
            step(load)
    assert not (tmp_path / "missing").exists()


def test_a_folder_in_the_place_of_the_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="path of the database is a folder"):
        open_sink(f"sqlite:///{tmp_path}").preflight(build_load(tmp_path, A, shop("north")))


def test_a_file_that_is_no_database_is_left_alone(path: Path, tmp_path: Path) -> None:
    path.write_text("order_id,customer_id\n" * 100)
    before = path.read_bytes()
    sink = open_sink(f"sqlite:///{path}")
    for step in (sink.preflight, sink.publish):
        with pytest.raises(LoadError, match=r"not a SQLite database(.|\n)*metrics\.db(.|\n)*next:"):
            step(build_load(tmp_path, A, shop("north")))
    assert path.read_bytes() == before


def test_a_damaged_database_is_named(path: Path, tmp_path: Path) -> None:
    sink = open_sink(f"sqlite:///{path}")
    sink.publish(build_load(tmp_path, A, shop("north", 2000)))
    content = bytearray(path.read_bytes())
    size = query(path, "PRAGMA page_size")[0][0]
    content[size:] = b"\xff" * (len(content) - size)
    path.write_bytes(content)
    fault("damaged file", "the database", "publisher", "sqlite")
    with pytest.raises(LoadError, match=r"database is damaged(.|\n)*metrics\.db(.|\n)*next:"):
        sink.publish(build_load(tmp_path, B, shop("south")))


def test_two_names_of_one_file_lead_to_one_lock(path: Path, tmp_path: Path) -> None:
    load: Load = build_load(tmp_path, C, shop("north"))
    alias = tmp_path / "alias.db"
    alias.symlink_to(path)
    with LockHolder(path.with_name("metrics.db-daskae-lock")), pytest.raises(TargetBusyError):
        open_sink(f"sqlite:///{alias}", timeout=0).publish(load)
