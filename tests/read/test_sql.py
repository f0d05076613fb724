import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from daskae.config import InputSettings
from daskae.errors import InputError, SettingsError
from daskae.partition import Segment
from daskae.read.reader import read_segments
from daskae.read.sql import is_database_url, list_segments

from .reading import PLAIN, Row, rows_of_batch

ROWS = [(i, f"c{i % 3}" if i % 4 else None, f"{i}.50") for i in range(-5, 18)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER, customer TEXT, amount TEXT, at REAL)")
        database.executemany("INSERT INTO orders VALUES (?, ?, ?, 1.5)", reversed(ROWS))
        database.execute("CREATE TABLE empty (id INTEGER)")
    return f"sqlite:///{tmp_path}/shop.db"


def rows_of(segments: list[Segment], columns: list[str]) -> list[Row]:
    return [row for batch in read_segments(segments, PLAIN, lambda _: columns) for row in rows_of_batch(batch)]


@pytest.mark.parametrize("partitions", [1, 2, 7, 23, 100])
def test_key_ranges_hold_every_row_once(url: str, partitions: int) -> None:
    segments = list_segments(url, InputSettings(table="orders", key="id", partitions=partitions))
    assert len(segments) <= partitions
    rows = rows_of(segments, ["id", "customer", "amount"])
    assert [row.cells for row in rows] == ROWS
    assert json.loads(rows[0].raw) == {"id": -5, "customer": "c1", "amount": "-5.50"}
    assert rows[0].offset is None
    assert segments[0].columns == ("id", "customer", "amount", "at")
    assert segments[0].label == "orders"


def test_a_table_without_a_key_is_one_segment(url: str) -> None:
    (segment,) = list_segments(url, InputSettings(table="orders"))
    assert sorted(row.cells or () for row in rows_of([segment], ["id"])) == [(i,) for i, _, _ in ROWS]


def test_a_table_in_a_schema(url: str) -> None:
    (segment,) = list_segments(url, InputSettings(table="main.orders"))
    assert len(rows_of([segment], ["id"])) == len(ROWS)


@pytest.mark.parametrize("key", [None, "id"])
def test_a_query(url: str, key: str | None) -> None:
    query = "SELECT id, customer AS who FROM orders WHERE id % 2 = 0;  "
    segments = list_segments(url, InputSettings(query=query, key=key, partitions=3))
    assert len(segments) == (3 if key else 1)
    assert segments[0].columns == ("id", "who")
    assert sorted(row.cells or () for row in rows_of(segments, ["id"])) == [(i,) for i, _, _ in ROWS if i % 2 == 0]


def test_a_query_with_a_colon_in_it(url: str) -> None:
    (segment,) = list_segments(url, InputSettings(query="SELECT id, '12:30' AS t FROM orders"))
    assert {row.cells for row in rows_of([segment], ["t"])} == {("12:30",)}


def test_no_rows(url: str) -> None:
    assert list_segments(url, InputSettings(table="empty", key="id")) == []
    (segment,) = list_segments(url, InputSettings(table="empty"))
    assert rows_of([segment], ["id"]) == []


def test_every_run_reads_anew(url: str) -> None:
    first, second = (list_segments(url, InputSettings(table="orders"))[0] for _ in range(2))
    assert first.content_id != second.content_id


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({}, SettingsError, r"(?s)needs a table or a query.*\[input\] table"),
        ({"table": "missing"}, InputError, r"(?s)a database cannot be read.*no such table: missing"),
        ({"table": "orders", "key": "missing"}, InputError, r"(?s)a database cannot be read.*no such column"),
        ({"query": "SELEC 1"}, InputError, r"(?s)a database cannot be read.*syntax error"),
        ({"table": "orders", "key": "customer"}, SettingsError, r"(?s)must be an integer column.*customer.*str"),
        ({"table": "orders", "key": "at"}, SettingsError, r"(?s)must be an integer column.*at.*float"),
    ],
)
def test_wrong_settings(url: str, given: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        list_segments(url, InputSettings(**given))


def test_a_missing_column_is_named_when_it_is_read(url: str) -> None:
    (segment,) = list_segments(url, InputSettings(table="orders"))
    with pytest.raises(InputError, match=r"(?s)a database cannot be read.*nothing"):
        rows_of([segment], ["nothing"])


def test_a_database_that_cannot_be_opened() -> None:
    with pytest.raises(InputError, match=r"(?s)a database cannot be reached.*unable to open"):
        list_segments("sqlite:////nothing/at/all.db", InputSettings(table="orders"))


@pytest.mark.parametrize("url", ["postgresql+nothing://me@host/shop", "mysql+nothing://host/shop"])
def test_a_driver_that_is_not_installed(url: str) -> None:
    with pytest.raises((InputError, SettingsError), match="nothing"):
        list_segments(url, InputSettings(table="orders"))


def test_two_databases_do_not_mix(url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER)")
        database.execute("INSERT INTO orders VALUES (777)")
    settings = InputSettings(table="orders")
    segments = [*list_segments(url, settings), *list_segments(f"sqlite:///{tmp_path}/other.db", settings)]
    assert (777,) in [row.cells for row in rows_of(segments, ["id"])]


def test_the_password_is_in_no_text() -> None:
    # No such driver is installed, or nobody listens there.
    with pytest.raises((InputError, SettingsError), match=r"me:\*\*\*@127\.0\.0\.1") as caught:
        list_segments("postgresql://me:s3cr3t@127.0.0.1:1/shop", InputSettings(table="orders"))
    assert "s3cr3t" not in str(caught.value) + repr(caught.value)


def test_a_name_that_is_a_word_of_sql(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "words.db")) as database, database:
        database.execute('CREATE TABLE "nothing" ("window" INTEGER)')
        database.execute('INSERT INTO "nothing" VALUES (1)')
    settings = InputSettings(table="nothing", key="window")
    assert [row.cells for row in rows_of(list_segments(f"sqlite:///{tmp_path}/words.db", settings), ["window"])] == [
        (1,)
    ]


def test_the_password_is_in_no_segment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    made: list[str] = []
    create = sa.create_engine

    def engine(given: str, **options: Any) -> Any:
        made.append(given)
        return create(url)

    monkeypatch.setattr(sa, "create_engine", engine)
    secret = "postgresql://me:s3cr3t@host/shop"
    (segment,) = list_segments(secret, InputSettings(table="orders"))
    assert segment.path == "postgresql://me:***@host/shop"
    assert "s3cr3t" not in repr(segment)
    assert len(rows_of([segment], ["id"])) == len(ROWS)
    assert made == [secret, secret]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("sqlite:///a.db", True),
        ("postgresql+psycopg://host/shop", True),
        ("s3://bucket/orders", False),
        ("orders.db", False),
        ("sqlite", False),
        ("file:///a.csv", False),
    ],
)
def test_which_inputs_are_databases(text: str, is_one: bool) -> None:
    assert is_database_url(text) == is_one
