import threading
from pathlib import Path

import pytest

from daskae.errors import LoadError, SettingsError, TargetBusyError
from daskae.load.transactions import Transaction, open_transaction
from tests.fault_log import fault

from .databases import Database

MAKE = "CREATE TABLE n (n INTEGER PRIMARY KEY)"


def numbers(database: Database) -> list[int]:
    return [row[0] for row in database.query("SELECT n FROM n ORDER BY n")]


def test_all_is_there_at_the_end_and_nothing_after_an_error(database: Database) -> None:
    with open_transaction(database.url) as work:
        work.execute(MAKE)
        work.execute("INSERT INTO n VALUES (:n)", [{"n": 1}, {"n": 2}])
    assert numbers(database) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        _delete_then_fail(database)
    assert numbers(database) == [1, 2]


def _delete_then_fail(database: Database) -> None:
    with open_transaction(database.url) as work:
        work.execute("DELETE FROM n")
        raise ZeroDivisionError


@pytest.fixture
def with_savepoints(database: Database) -> Database:
    if database.name in ("duckdb", "portable"):
        pytest.skip(f"{database.name} has no savepoints")
    return database


def test_savepoints_that_are_not_there_are_said_to_be_so(duckdb: Database) -> None:
    with pytest.raises(LoadError, match="has no savepoints"), open_transaction(duckdb.url) as work, work.savepoint():
        work.execute("SELECT 1")


def test_a_savepoint_can_be_gone_back_to(with_savepoints: Database) -> None:
    database = with_savepoints
    with open_transaction(database.url) as work:
        work.execute(MAKE)
        work.execute("INSERT INTO n VALUES (1)")
        with work.savepoint() as point:
            work.execute("INSERT INTO n VALUES (2)")
            point.rollback()
            work.execute("INSERT INTO n VALUES (3)")
            with work.savepoint():
                work.execute("INSERT INTO n VALUES (4)")
    assert numbers(database) == [1, 3, 4]


def test_a_savepoint_can_be_released_in_its_body(with_savepoints: Database) -> None:
    with open_transaction(with_savepoints.url) as work:
        work.execute(MAKE)
        with work.savepoint() as point:
            work.execute("INSERT INTO n VALUES (1)")
            point.release()
            work.execute("INSERT INTO n VALUES (2)")
        with pytest.raises(ZeroDivisionError):
            _release_then_fail(work)
    assert numbers(with_savepoints) == [1, 2, 3]


def _release_then_fail(work: Transaction) -> None:
    with work.savepoint() as point:
        work.execute("INSERT INTO n VALUES (3)")
        point.release()
        raise ZeroDivisionError


def test_an_error_of_a_file_is_not_the_databases(database: Database, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.csv"):
        _read_a_missing_file(database, tmp_path)
    assert "n" not in database.names() or database.ddl_around


def _read_a_missing_file(database: Database, folder: Path) -> None:
    with open_transaction(database.url) as work:
        work.execute(MAKE)
        (folder / "missing.csv").read_text()


@pytest.mark.parametrize("level", ["chaos", "read uncommitted; DROP TABLE n"])
def test_an_isolation_level_that_there_is_not_is_refused(level: str, database: Database) -> None:
    with pytest.raises(SettingsError, match="isolation level cannot be had"):
        open_transaction(database.url, level)  # type: ignore[arg-type]


def test_where_isolation_cannot_be_set_that_is_said(portable: Database) -> None:
    with pytest.raises(SettingsError, match=r"isolation level cannot be had(.|\n)*the one that sqlite has"):
        open_transaction(portable.url, "serializable")


def test_an_error_in_a_savepoint_undoes_its_body_only(with_savepoints: Database) -> None:
    database = with_savepoints
    with open_transaction(database.url) as work:
        work.execute(MAKE)
        work.execute("INSERT INTO n VALUES (1)")
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            _insert_twice(work)
        work.execute("INSERT INTO n VALUES (5)")
    assert numbers(database) == [1, 5]


def _insert_twice(work: Transaction) -> None:
    with work.savepoint():
        work.execute("INSERT INTO n VALUES (2)")
        work.execute("INSERT INTO n VALUES (1)")


def test_what_the_database_refuses_is_a_load_error(database: Database) -> None:
    with pytest.raises(LoadError, match="refuses"), open_transaction(database.url) as work:
        work.execute("SELECT * FROM there_is_none")


def test_serializable_sees_one_state(postgresql: Database) -> None:
    postgresql.run(MAKE)
    with open_transaction(postgresql.url, isolation="serializable") as work:
        assert work.execute("SHOW transaction_isolation").scalar_one() == "serializable"
        assert work.execute("SELECT count(*) FROM n").scalar_one() == 0
        postgresql.run("INSERT INTO n VALUES (1)")
        assert work.execute("SELECT count(*) FROM n").scalar_one() == 0
    with open_transaction(postgresql.url, isolation="read committed") as work:
        assert work.execute("SELECT count(*) FROM n").scalar_one() == 1


def test_two_that_disturb_each_other_are_told_to_try_again(postgresql: Database) -> None:
    postgresql.run(MAKE, "INSERT INTO n VALUES (1)")
    with pytest.raises(TargetBusyError, match="changed the same rows"):
        _disturb(postgresql)
    assert numbers(postgresql) == [2]


def _disturb(postgresql: Database) -> None:
    with open_transaction(postgresql.url, isolation="repeatable read") as work:
        work.execute("SELECT * FROM n")
        postgresql.run("UPDATE n SET n = 2")
        fault("changed rows", "in a transaction", "publisher", "postgresql")
        work.execute("UPDATE n SET n = 3")


def test_sqlite_takes_the_write_lock_at_once(sqlite: Database) -> None:
    sqlite.run(MAKE)
    failures: list[BaseException] = []

    def other() -> None:
        try:
            with open_transaction(sqlite.url, timeout=0.1) as work:
                work.execute("SELECT 1")
        except TargetBusyError as error:
            failures.append(error)

    with open_transaction(sqlite.url, isolation="serializable"):
        fault("held lock", "by a transaction", "publisher", "sqlite")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(failures) == 1


def test_a_folder_has_no_transactions() -> None:
    with pytest.raises(SettingsError, match="needs a database"):
        open_transaction("out/")
