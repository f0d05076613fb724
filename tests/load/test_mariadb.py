"""What is particular to MariaDB: types, texts, locks, DDL that commits, rights, errors and secrets."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskae.errors import LoadError, TargetBusyError
from daskae.load.base import Changes, LoadOptions
from daskae.load.targets import open_dialect, open_sink

from .building import A, B, C, build_load, one_table, shop
from .databases import Database, database_of_its_own

EVERYTHING = pa.table(
    {
        "text": pa.array(["", None, 'a "quoted", it\'s one\r\n\\. line\\', "\\N", "😀ä\u2028 \0\x1a%s %(x)s"]),
        "words": pa.array(["x", None, "x", "y", ""]).dictionary_encode(),
        "small": pa.array([1, None, -128, 127, 0], pa.int8()),
        "whole": pa.array([-(2**63), None, 2**63 - 1, 0, 1], pa.int64()),
        "unsigned": pa.array([2**64 - 1, None, 0, 1, 2], pa.uint64()),
        "yes": pa.array([True, None, False, True, False]),
        "x": pa.array([0.1, None, 1.7976931348623157e308, -123456789.123456789, 5e-324]),
        "day": pa.array([date(1, 1, 1), None, date(9999, 12, 31), date(2011, 12, 1), date(1900, 2, 28)]),
        "at": pa.array([datetime(1, 1, 1), None, datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(2011, 12, 1),
            datetime(1969, 12, 31, 23, 59, 59, 1)], pa.timestamp("us")),
        "money": pa.array([Decimal("1E-10"), None, Decimal("-1000000000.5"), Decimal(0), Decimal(10) ** 27],
            pa.decimal128(38, 10)),
    }
)  # fmt: skip


def test_every_value_comes_back_as_it_was(mariadb: Database, tmp_path: Path) -> None:
    mariadb.sink().publish(one_table(tmp_path, EVERYTHING))
    names = ", ".join(f"`{name}`" for name in EVERYTHING.column_names)
    expected = [tuple(row.values()) for row in EVERYTHING.to_pylist()]
    assert sorted(mariadb.query(f"SELECT {names} FROM t"), key=repr) == sorted(expected, key=repr)
    types = dict(mariadb.query("SELECT column_name, column_type FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name = 't'"))  # fmt: skip
    assert types == {
        "text": "longtext", "words": "longtext", "small": "bigint(20)", "whole": "bigint(20)",
        "unsigned": "decimal(20,0)", "yes": "tinyint(1)", "x": "double", "day": "date", "at": "datetime(6)",
        "money": "decimal(38,10)", "_load_id": "varchar(255)", "_loaded_at": "datetime(6)",
        "_source_rows": "bigint(20)",
    }  # fmt: skip


@given(
    scale=st.integers(0, 38),
    units=st.lists(st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(0, 40).map(lambda n: 10**9 * n), min_size=1),
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_digits_come_back(
    scale: int, units: list[int], numbers: list[float], mariadb_url: str, tmp_path: Path
) -> None:
    values = [Decimal(f"{number}E-{scale}") for number in units]
    with database_of_its_own(mariadb_url, "daskae_digits") as database:
        decimals = one_table(tmp_path, pa.table({"x": pa.array(values, pa.decimal128(38, scale))}))
        doubles = one_table(tmp_path, pa.table({"x": pa.array(numbers, pa.float64())}), name="u", load_id=B)
        for load in (decimals, doubles):
            database.sink().publish(load)
        assert sorted(row[0] for row in database.query("SELECT x FROM t")) == sorted(values)
        assert sorted(row[0] for row in database.query("SELECT x FROM u")) == sorted(numbers)


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_a_number_that_is_not_finite_is_named(number: float, mariadb: Database, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"not finite(.|\n)*table t, column x(.|\n)*(nan|-inf)"):
        mariadb.sink().publish(one_table(tmp_path, pa.table({"x": [1.0, number]})))
    assert mariadb.names() == set()


def test_keys_are_told_apart_by_case_accents_and_trailing_spaces(mariadb: Database, tmp_path: Path) -> None:
    keys = ["a", "A", "a ", "ä", "ss", "ß", "\u0061\u0308", ""]
    before = pa.table({"id": keys, "n": pa.array(range(8), pa.int64()), "text": keys})
    after = pa.table({"id": keys, "n": pa.array(range(8), pa.int64()), "text": [f"{key} " for key in keys]})
    for load_id, table in ((A, before), (B, after)):
        load = one_table(tmp_path / load_id, table, ("id",), load_id=load_id)
        receipt = mariadb.sink().publish(replace(load, strategy="upsert"))
    assert receipt.changes == {"t": Changes(updated=8)}
    assert set(mariadb.query("SELECT id, text FROM t")) == {(key, f"{key} ") for key in keys}


def test_large_rows_are_cut_into_statements_that_the_server_takes(mariadb: Database, tmp_path: Path) -> None:
    table = pa.table({"n": pa.array(range(5), pa.int64()), "text": ["x" * 3_000_000, "y", "'" * 1_500_000, None, "z"]})
    mariadb.sink().publish(one_table(tmp_path, table))
    assert sorted(mariadb.query("SELECT n, LENGTH(text) FROM t")) == [
        (0, 3_000_000), (1, 1), (2, 1_500_000), (3, None), (4, 1)
    ]  # fmt: skip


def test_what_is_too_long_is_refused_and_not_cut(mariadb: Database, tmp_path: Path) -> None:
    long_key = pa.table({"id": ["x" * 256]})
    with pytest.raises(LoadError, match=r"too long for its column(.|\n)*'id'(.|\n)*255 characters"):
        mariadb.sink().publish(one_table(tmp_path, long_key, ("id",)))
    with pytest.raises(LoadError, match=r"larger than the server takes(.|\n)*max_allowed_packet"):
        mariadb.sink().publish(one_table(tmp_path, pa.table({"x": ["x" * 17_000_000]}), load_id=B))
    assert mariadb.names() == set()


@pytest.mark.parametrize("name", ["x" * 65, "smile 😀", "space ", "tab\t"])
def test_names_that_the_server_cannot_have_are_refused(name: str, mariadb: Database, tmp_path: Path) -> None:
    for tables in ({name: ((), pa.table({"n": [1]}))}, {"t": ((), pa.table({name: [1]}))}):
        with pytest.raises(LoadError, match=r"too long for MariaDB(.|\n)*64 characters|cannot have such a name"):
            mariadb.sink().preflight(build_load(tmp_path, A, tables))


@pytest.mark.parametrize(
    ("ddl", "difference"),
    [
        ("CREATE TABLE t (id INTEGER)", r"column id is int\(11\), not VARCHAR"),
        ("CREATE TABLE t (id VARCHAR(255) COLLATE utf8mb4_general_ci)", "column id is .*utf8mb4_general_ci, not"),
        ("CREATE TABLE t (id LONGTEXT COLLATE utf8mb4_nopad_bin)", "column id is longtext"),
        ("CREATE TABLE t (money DOUBLE)", r"column money is double, not NUMERIC\(38, 4\)"),
        ("CREATE TABLE t (must INTEGER NOT NULL)", "column must is NOT NULL without a default"),
        ("CREATE TABLE t (raw INT, money DECIMAL(38, 4) AS (raw + 1) STORED)", "money is computed by the database"),
        ("CREATE TABLE t (n INT); INSERT INTO t VALUES (1)", "rows that daskae did not put there"),
        ("CREATE VIEW t AS SELECT 1 AS id", "belongs to a view"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_beforehand(
    ddl: str, difference: str, mariadb: Database, tmp_path: Path
) -> None:
    mariadb.run(*ddl.split("; "))
    table = pa.table({"id": ["x"], "money": pa.array([Decimal(1)], pa.decimal128(38, 4))})
    load = one_table(tmp_path, table, ("id",))
    for step in (mariadb.sink().preflight, mariadb.sink().publish):
        with pytest.raises(LoadError, match=difference):
            step(load)


def test_a_table_of_the_user_is_adopted_and_extended(mariadb: Database, tmp_path: Path) -> None:
    mariadb.run("CREATE TABLE t (`row` INT AUTO_INCREMENT PRIMARY KEY, ID VARCHAR(20) CHARACTER SET utf8mb4"
        " COLLATE utf8mb4_nopad_bin, money DECIMAL(60, 5), tag INT NOT NULL DEFAULT 7)")  # fmt: skip
    table = pa.table({"id": ["x"], "money": pa.array([Decimal("1.5")], pa.decimal128(38, 4)), "new": [True]})
    mariadb.sink().publish(one_table(tmp_path, table, ("id",)))
    assert mariadb.query("SELECT `row`, id, money, tag, new FROM t") == [(1, "x", Decimal("1.50000"), 7, 1)]


def test_what_others_hung_on_a_table_survives_a_replace(mariadb: Database, tmp_path: Path) -> None:
    sink = mariadb.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    mariadb.run(
        "CREATE VIEW best AS SELECT * FROM customer_metrics WHERE spent > 0",
        "CREATE INDEX by_shop ON customer_metrics (shop(20))",
        "ALTER TABLE customer_metrics ADD COLUMN note TEXT, ADD CHECK (spent >= 0)",
    )
    before = mariadb.query("SHOW CREATE TABLE customer_metrics")
    sink.publish(build_load(tmp_path, B, shop("south", 5)))
    assert mariadb.query("SHOW CREATE TABLE customer_metrics") == before
    assert mariadb.query("SELECT count(*), min(shop) FROM best") == [(4, "south")]


@pytest.fixture
def index(mariadb: Database) -> Callable[[], list[str]]:
    def columns() -> list[str]:
        rows = mariadb.query("SHOW INDEX FROM customer_metrics WHERE Key_name LIKE '\\_daskae%%' AND Non_unique = 0")
        return [row[4] for row in rows]

    return columns


def test_the_unique_index_follows_the_strategy(
    mariadb: Database, index: Callable[[], list[str]], tmp_path: Path
) -> None:
    sink = mariadb.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    assert index() == ["customer_id"]
    sink.publish(build_load(tmp_path, B, shop("south"), "append"))
    assert index() == ["customer_id", "_load_id"]
    sink.publish(build_load(tmp_path, C, shop("west")))
    assert index() == ["customer_id"]


def test_keys_are_proven_unique_where_old_rows_are_in_the_way_of_an_index(
    mariadb: Database, index: Callable[[], list[str]], tmp_path: Path
) -> None:
    sink = mariadb.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    mariadb.run("DROP INDEX _daskae_key_customer_metrics ON customer_metrics",
        "INSERT INTO customer_metrics SELECT * FROM customer_metrics")  # fmt: skip
    ids = pa.table({"customer_id": ["C1", "C2", "C1"]})
    with pytest.raises(LoadError, match=r"more than once(.|\n)*\(C1\)"):
        sink.publish(build_load(tmp_path, C, {"customer_metrics": (("customer_id",), ids)}))
    assert len(mariadb.rows("customer_metrics")) == 6
    assert index() == []
    sink.publish(build_load(tmp_path, "d" * 64, shop("south")))
    assert index() == ["customer_id"]


def test_an_index_that_waited_for_the_load_comes_with_the_next(
    mariadb: Database, index: Callable[[], list[str]], tmp_path: Path
) -> None:
    sink = mariadb.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    mariadb.run("DROP INDEX _daskae_key_customer_metrics ON customer_metrics")
    assert sink.publish(build_load(tmp_path, B, shop("south"), "upsert")).rows["customer_metrics"] == 3
    assert index() == ["customer_id"]


def test_other_writers_are_kept_out_until_the_commit(mariadb: Database, tmp_path: Path) -> None:
    mariadb.sink().publish(build_load(tmp_path, A, shop("north")))
    dialect = open_dialect(mariadb.url)
    assert dialect is not None
    with dialect.publishing() as session, mariadb.connect() as other:
        other.exec_driver_sql("SET SESSION innodb_lock_wait_timeout = 0")
        with dialect.transaction(session.connection):
            dialect.lock_tables(session, [session.table("customer_metrics")])
            assert len(other.exec_driver_sql("SELECT * FROM customer_metrics").all()) == 3
            for statement in (
                "INSERT INTO customer_metrics (customer_id) VALUES ('C9')",
                "INSERT INTO customer_metrics (customer_id) VALUES ('B')",
                "UPDATE customer_metrics SET shop = 'mine'",
                "DELETE FROM customer_metrics WHERE customer_id = 'C1'",
            ):
                with pytest.raises(sa.exc.OperationalError, match="1205"):
                    other.exec_driver_sql(statement)
        other.exec_driver_sql("INSERT INTO customer_metrics (customer_id) VALUES ('C9')")


def test_rows_locked_by_somebody_else_are_waited_for(mariadb: Database, tmp_path: Path) -> None:
    sink = mariadb.sink(timeout=0.2)
    sink.publish(build_load(tmp_path, A, shop("north")))
    load = build_load(tmp_path, B, shop("south"), "upsert")
    with mariadb.connect() as other:
        other.exec_driver_sql("BEGIN")
        other.exec_driver_sql("UPDATE customer_metrics SET shop = 'mine' WHERE customer_id = 'C1'")
        with pytest.raises(TargetBusyError, match=r"holds rows or a table of the target; waited 0\.2 s"):
            sink.publish(load)
        other.exec_driver_sql("ROLLBACK")
    assert not sink.publish(load).already_published


def test_rows_swallowed_by_a_trigger_are_noticed(mariadb: Database, tmp_path: Path) -> None:
    sink = mariadb.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    mariadb.run("CREATE TRIGGER other_keys BEFORE INSERT ON customer_metrics FOR EACH ROW"
        " SET NEW.customer_id = CONCAT('x', NEW.customer_id)")  # fmt: skip
    with pytest.raises(LoadError, match="3 keys did not arrive"):
        sink.publish(build_load(tmp_path, B, shop("south")))
    mariadb.run("DROP TRIGGER other_keys", "CREATE TRIGGER no BEFORE INSERT ON customer_metrics FOR EACH ROW"
        " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not today'")  # fmt: skip
    with pytest.raises(LoadError, match=r"a rule of the database refuses(.|\n)*not today"):
        sink.publish(build_load(tmp_path, C, shop("south")))
    assert {row["shop"] for row in mariadb.rows("customer_metrics")} == {"north"}


def test_null_keys_that_match_are_found_by_the_null_safe_comparison(mariadb: Database, tmp_path: Path) -> None:
    table = pa.table({"k": ["a", None], "n": pa.array([None, None], pa.int64()), "text": ["x", "y"]})
    for load_id in (A, B):
        load = one_table(tmp_path / load_id, table, ("k", "n"), load_id=load_id)
        receipt = mariadb.sink().publish(replace(load, strategy="upsert", options=LoadOptions(null_keys="match")))
    assert receipt.changes == {"t": Changes(unchanged=2)}


def test_rights_that_are_missing_are_named(mariadb: Database, tmp_path: Path) -> None:
    url = sa.make_url(mariadb.url)
    mariadb.run(
        "CREATE USER visitor@'127.0.0.1' IDENTIFIED BY 'open'",
        f"GRANT SELECT ON {url.database}.* TO visitor@'127.0.0.1'",
    )
    try:
        load = build_load(tmp_path, A, shop("north"))
        visitor = url.set(username="visitor", password="open").render_as_string(hide_password=False)
        with pytest.raises(LoadError, match=r"has not the right(.|\n)*CREATE command denied"):
            open_sink(visitor).publish(load)
        wrong = url.set(password="guessed").render_as_string(hide_password=False)
        with pytest.raises(LoadError, match=r"password is not accepted") as caught:
            open_sink(wrong).preflight(load)
        assert "guessed" not in f"{caught.value}{caught.value.__cause__}"
    finally:
        mariadb.run("DROP USER visitor@'127.0.0.1'")


def test_a_database_that_is_not_there_is_named(mariadb: Database, tmp_path: Path) -> None:
    url = sa.make_url(mariadb.url).set(database="not_there").render_as_string(hide_password=False)
    with pytest.raises(LoadError, match=r"no such database(.|\n)*not_there"):
        open_sink(url).preflight(build_load(tmp_path, A, shop("north")))


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    with pytest.raises(LoadError, match=r"cannot be reached(.|\n)*user:\*\*\*@127\.0\.0\.1(.|\n)*next:") as caught:
        open_sink("mariadb://user:sesame@127.0.0.1:1/db", timeout=1).preflight(load)
    assert not isinstance(caught.value, TargetBusyError)
    assert "sesame" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE"])
def test_a_replace_keeps_rows_that_others_refer_to(action: str, mariadb: Database, tmp_path: Path) -> None:
    sink = mariadb.sink()
    sink.publish(build_load(tmp_path, A, shop("north", 3)))
    mariadb.run(
        "CREATE TABLE notes (customer_id VARCHAR(255) COLLATE utf8mb4_nopad_bin,"
        f" FOREIGN KEY (customer_id) REFERENCES customer_metrics (customer_id) {action})",
        "INSERT INTO notes VALUES ('C1'), ('C2')",
    )
    receipt = sink.publish(build_load(tmp_path, B, shop("south", 5)))
    assert receipt.changes["customer_metrics"] == Changes(inserted=2, updated=3)
    assert {row["shop"] for row in mariadb.rows("customer_metrics")} == {"south"}
    assert len(mariadb.rows("notes")) == 2
    last = build_load(tmp_path, C, shop("west", 2))
    if action:
        assert sink.publish(last).changes["customer_metrics"].deleted == 3
    else:
        with pytest.raises(LoadError, match=r"a rule of the database refuses the rows(.|\n)*foreign key"):
            sink.publish(last)
    assert len(mariadb.rows("notes")) == (1 if action else 2)
