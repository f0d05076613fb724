"""The path for any other database of SQLAlchemy's, forced upon SQLite: what it proves, and how two runs end."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from daskae.errors import LoadError
from daskae.load.base import Changes
from daskae.load.sql.portable.dialect import PortableDialect
from daskae.load.targets import open_dialect, open_sink

from .building import MONEY, A, B, C, build_load, one_table, shop
from .databases import Database
from .processes import StoppedPublish

EVERYTHING = pa.table(
    {
        "text": pa.array(["", None, 'a "quoted", one\r\n', "\\N", "😀ä \0"]),
        "words": pa.array(["x", None, "x", "y", ""]).dictionary_encode(),
        "small": pa.array([1, None, -128, 127, 0], pa.int8()),
        "whole": pa.array([-(2**63), None, 2**63 - 1, 0, 1], pa.int64()),
        "yes": pa.array([True, None, False, True, False]),
        "x": pa.array([0.1, None, 1.7976931348623157e308, 1e22, 5e-324]),
        "day": pa.array([date(1, 1, 1), None, date(9999, 12, 31), date(2011, 12, 1), date(1900, 2, 28)]),
        "at": pa.array([datetime(1, 1, 1), None, datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(2011, 12, 1),
            datetime(1969, 12, 31, 23, 59, 59, 1)], pa.timestamp("us")),
        "money": pa.array([Decimal("0.0001"), None, Decimal("-1000000000.5"), Decimal(0), Decimal(10) ** 15], MONEY),
    }
)  # fmt: skip


class OtherDialect(SQLiteDialect_pysqlite):
    """A database that daskae has never heard of."""

    name = "unheard"
    supports_statement_cache = True


registry.register("unheard", __name__, "OtherDialect")


def test_every_value_comes_back_as_it_was(portable: Database, tmp_path: Path) -> None:
    portable.sink().publish(one_table(tmp_path, EVERYTHING))
    table = sa.Table("t", sa.MetaData(), *(sa.Column(name, kind()) for name, kind in {
        "text": sa.Text, "words": sa.Text, "small": sa.BigInteger, "whole": sa.BigInteger, "yes": sa.Boolean,
        "x": sa.Double, "day": sa.Date, "at": sa.DateTime, "money": sa.Float,
    }.items()))  # fmt: skip
    with portable.connect() as connection:
        found = [tuple(row) for row in connection.execute(sa.select(table))]
    expected = [tuple(row.values()) for row in EVERYTHING.to_pylist()]
    assert [(*row[:-1], None if row[-1] is None else Decimal(repr(row[-1]))) for row in found] == expected


@pytest.mark.parametrize(
    ("column", "stored"),
    [
        (pa.array([Decimal(1) / 4, Decimal("12345678901234567890.1234")], MONEY), r"1\.2345678901234567e\+19"),
        (pa.array([1.0, float("nan")]), "None"),
    ],
)
def test_a_value_that_is_not_stored_as_it_is_is_refused(
    column: pa.Array, stored: str, portable: Database, tmp_path: Path
) -> None:
    portable.sink().publish(one_table(tmp_path, pa.table({"n": [1]}), name="before"))
    with pytest.raises(LoadError, match=rf"not store a value as it is(.|\n)*table t, column x(.|\n)*{stored}"):
        portable.sink().publish(one_table(tmp_path / "b", pa.table({"x": column}), load_id=B))
    assert portable.names() == {"before", "_daskae_loads"}


def test_a_database_that_is_not_known_takes_this_path_by_itself(tmp_path: Path) -> None:
    url = f"unheard:///{tmp_path / 'metrics.db'}"
    dialect = open_dialect(url)
    assert isinstance(dialect, PortableDialect)
    assert dialect.title == "unheard"
    open_sink(url).publish(build_load(tmp_path, A, shop("north")))
    database = Database("portable", url, f"sqlite:///{tmp_path / 'metrics.db'}")
    assert len(database.rows("customer_metrics")) == 3


def test_of_two_runs_that_do_not_see_each_others_lock_one_fails(
    portable: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_load(tmp_path, A, shop("north"), "append")
    portable.sink().publish(first)
    with StoppedPublish(portable.url, build_load(tmp_path, B, shop("south"), "append"), named=".staged") as holder:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        portable.sink().publish(build_load(tmp_path, C, shop("west"), "append"))
        assert "refuses the load" in holder.failure()
    assert {row["shop"] for row in portable.rows("customer_metrics")} == {"north", "west"}
    assert {row[1]: row[3] for row in portable.ledger()} == {"a": "published", "c": "published", "b": "failed"}


def test_the_ledger_lets_one_of_two_commit(portable: Database, tmp_path: Path) -> None:
    portable.sink().publish(build_load(tmp_path, A, shop("north"), "append"))
    portable.run("CREATE TRIGGER other AFTER INSERT ON customer_metrics WHEN new.shop = 'south' BEGIN"
        " INSERT OR IGNORE INTO _daskae_loads SELECT 2, 'x', run_id, strategy, status, tables, source_rows, loaded_at,"
        " published_at, message, started_at, changes, totals, mark, purged, 0, 0, 0, 0, 0, 0, 0 FROM _daskae_loads;"
        " END")  # fmt: skip
    with pytest.raises(LoadError, match=r"a rule of the database refuses(.|\n)*if another run published meanwhile"):
        portable.sink().publish(build_load(tmp_path, B, shop("south"), "append"))
    assert {row["shop"] for row in portable.rows("customer_metrics")} == {"north"}


@pytest.mark.parametrize(
    ("ddl", "difference"),
    [
        ("CREATE TABLE t (id INTEGER)", "column id is INTEGER, not VARCHAR"),
        ("CREATE TABLE t (money NUMERIC(10, 2))", r"column money is NUMERIC\(10, 2\), not NUMERIC\(38, 4\)"),
        ("CREATE TABLE t (must INTEGER NOT NULL)", "column must is NOT NULL without a default"),
        ("CREATE TABLE t (id TEXT); INSERT INTO t VALUES ('mine')", "rows that daskae did not put there"),
        ("CREATE VIEW t AS SELECT 1 AS id", "belongs to a view"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_beforehand(
    ddl: str, difference: str, portable: Database, tmp_path: Path
) -> None:
    portable.run(*ddl.split("; "))
    table = pa.table({"id": ["x"], "money": pa.array([Decimal(1)], MONEY)})
    for step in (portable.sink().preflight, portable.sink().publish):
        with pytest.raises(LoadError, match=difference):
            step(one_table(tmp_path, table, ("id",)))


def test_a_table_of_the_user_with_other_words_for_its_types_is_adopted(portable: Database, tmp_path: Path) -> None:
    portable.run("CREATE TABLE t (ID TEXT, money DECIMAL(40, 6), n SMALLINT, tag TEXT NOT NULL DEFAULT 'new')")
    table = pa.table({"id": ["x"], "money": pa.array([Decimal("1.5")], MONEY), "n": pa.array([1], pa.int64())})
    portable.sink().publish(one_table(tmp_path, table, ("id",)))
    assert portable.query("SELECT id, money, n, tag FROM t") == [("x", 1.5, 1, "new")]


def test_an_error_shows_no_password(tmp_path: Path) -> None:
    url = f"portable+sqlite:///{tmp_path}/no/x.db?uri=true&password=sesame"
    with pytest.raises(LoadError, match=r"cannot be reached|refuses") as caught:
        open_sink(url).preflight(build_load(tmp_path, A, shop("north")))
    assert "sesame" not in f"{caught.value}{caught.value.__cause__}"


def test_a_replace_keeps_rows_that_others_refer_to(portable: Database, tmp_path: Path) -> None:
    sink = portable.sink()
    sink.publish(build_load(tmp_path, A, shop("north", 3)))
    portable.run(
        "CREATE UNIQUE INDEX one_customer ON customer_metrics (customer_id)",
        "CREATE TABLE notes (customer_id TEXT REFERENCES customer_metrics (customer_id))",
    )
    receipt = sink.publish(build_load(tmp_path, B, shop("south", 5)))
    assert receipt.changes["customer_metrics"] == Changes(inserted=2, updated=3)
    assert {row["shop"] for row in portable.rows("customer_metrics")} == {"south"}
