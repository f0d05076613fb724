"""What others hung on a table survives every load: foreign keys to it, triggers, comments, constraints, defaults."""

from pathlib import Path

import pytest

from daskae.errors import LoadError
from daskae.load.base import Changes

from .building import A, B, C, build_load, shop
from .databases import Database


def child(database: Database, action: str) -> None:
    """Make a table whose rows refer to customers; in SQLite it is for each connection to enforce that."""
    database.run(
        "CREATE UNIQUE INDEX IF NOT EXISTS one_customer ON customer_metrics (customer_id)",
        f"CREATE TABLE notes (customer_id TEXT REFERENCES customer_metrics (customer_id) {action}, note TEXT)",
        "INSERT INTO notes VALUES ('C1', 'calls often'), ('C2', NULL)",
    )


@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE", "ON DELETE SET NULL", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_replace_keeps_rows_that_others_refer_to(action: str, postgresql: Database, tmp_path: Path) -> None:
    sink = postgresql.sink()
    sink.publish(build_load(tmp_path, A, shop("north", 3)))
    child(postgresql, action)
    receipt = sink.publish(build_load(tmp_path, B, shop("south", 5)))
    assert receipt.changes["customer_metrics"] == Changes(inserted=2, updated=3)
    assert receipt.changes["kpis"] == Changes(inserted=1, deleted=1)
    assert postgresql.query("SELECT count(*), min(shop), max(shop) FROM customer_metrics") == [(5, "south", "south")]
    assert {row["_load_id"] for row in postgresql.rows("customer_metrics", metadata=True)} == {B}
    assert len(postgresql.query("SELECT * FROM notes WHERE customer_id IS NOT NULL")) == 2
    assert sink.publish(build_load(tmp_path, B, shop("south", 5))).already_published
    if action in ("", "DEFERRABLE INITIALLY DEFERRED"):
        with pytest.raises(LoadError, match=r"a rule of the database refuses the rows(.|\n)*(?i:foreign key)"):
            sink.publish(build_load(tmp_path, C, shop("west", 2)))
        assert len(postgresql.rows("customer_metrics")) == 5
    else:
        assert sink.publish(build_load(tmp_path, C, shop("west", 2))).changes["customer_metrics"].deleted == 3
        assert len(postgresql.query("SELECT * FROM notes WHERE customer_id IS NOT NULL")) == 1


def test_a_replace_of_referenced_rows_still_names_repeated_keys(postgresql: Database, tmp_path: Path) -> None:
    sink = postgresql.sink()
    sink.publish(build_load(tmp_path, A, shop("north", 3)))
    child(postgresql, "")
    keys, table = shop("south", 3)["customer_metrics"]
    twice = {"customer_metrics": (keys, table.take([0, 1, 2, 1]))}
    with pytest.raises(LoadError, match=r"more than once(.|\n)*\(C1\)"):
        sink.publish(build_load(tmp_path, B, twice))
    assert {row["shop"] for row in postgresql.rows("customer_metrics")} == {"north"}


@pytest.mark.parametrize("shared_key", [True, False])
def test_references_in_sqlite_are_for_those_who_ask_for_them(
    shared_key: bool, sqlite: Database, tmp_path: Path
) -> None:
    """Rows that stay are pointed to as before; the load is not refused, whatever index the reference leans on."""
    sink = sqlite.sink()
    if not shared_key:
        sqlite.run("CREATE TABLE notes (customer_id TEXT REFERENCES customer_metrics (customer_id), note TEXT)")
    sink.publish(build_load(tmp_path, A, shop("north", 3)))
    if shared_key:
        child(sqlite, "ON DELETE CASCADE")
    else:
        sqlite.run("INSERT INTO notes VALUES ('C1', 'calls often'), ('C2', NULL)")
    sink.publish(build_load(tmp_path, B, shop("south", 5)))
    assert sqlite.query("PRAGMA foreign_key_check") == []
    sink.publish(build_load(tmp_path, C, shop("west", 2)))
    assert len(sqlite.rows("notes")) == 2
    assert [row[0] for row in sqlite.query("PRAGMA foreign_key_check")] == ["notes"]


def test_comments_triggers_defaults_and_owners_survive(postgresql: Database, tmp_path: Path) -> None:
    sink = postgresql.sink()
    sink.publish(build_load(tmp_path, A, shop("north")))
    postgresql.run(
        "COMMENT ON TABLE customer_metrics IS 'one row a customer'",
        "COMMENT ON COLUMN customer_metrics.spent IS 'in euro'",
        "CREATE TABLE seen (what TEXT)",
        "CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen VALUES (TG_OP); RETURN NULL; END $$",
        "CREATE TRIGGER watch AFTER INSERT OR DELETE ON customer_metrics FOR EACH STATEMENT EXECUTE FUNCTION note_it()",
        "ALTER TABLE customer_metrics ADD COLUMN tag TEXT NOT NULL DEFAULT 'new'",
        "ALTER TABLE customer_metrics ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY everybody ON customer_metrics USING (true)",
        "ALTER TABLE customer_metrics SET (fillfactor = 70)",
        "CREATE STATISTICS both_columns ON shop, spent FROM customer_metrics",
        "CREATE MATERIALIZED VIEW totals AS SELECT shop, sum(spent) AS spent FROM customer_metrics GROUP BY shop",
    )
    hung = (
        "SELECT c.oid, relowner, reloptions, relrowsecurity, obj_description(c.oid), col_description(c.oid, 2),"
        " (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid),"
        " (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid),"
        " (SELECT count(*) FROM pg_statistic_ext WHERE stxrelid = c.oid)"
        " FROM pg_class c WHERE c.oid = 'customer_metrics'::regclass"
    )
    before = postgresql.query(hung)
    sink.publish(build_load(tmp_path, B, shop("south", 5)))
    assert postgresql.query(hung) == before
    assert set(postgresql.query("SELECT what FROM seen")) == {("INSERT",), ("DELETE",)}
    assert postgresql.query("SELECT DISTINCT tag FROM customer_metrics") == [("new",)]
    postgresql.run("REFRESH MATERIALIZED VIEW totals")
    assert postgresql.query("SELECT shop FROM totals") == [("south",)]
