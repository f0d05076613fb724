"""What a load cannot do is said before the run, or in words that name the true cause."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from daskae.config import load_settings
from daskae.errors import LoadError, SettingsError, WorkDirError
from daskae.load.audits import LoadCheck
from daskae.load.base import LoadOptions

from .building import A, B, build_load, one_table, shop
from .databases import Database


def test_null_keys_that_a_table_cannot_hold_are_refused_before_the_run(database: Database, tmp_path: Path) -> None:
    """The table was made while null keys were left out, so its keys take none."""
    table = pa.table({"id": ["x", None], "n": [1, 2]})
    database.sink().publish(one_table(tmp_path / "one", table, ("id",)))
    again = one_table(tmp_path / "two", table, ("id",), load_id=B)
    load = replace(again, strategy="upsert", options=LoadOptions(null_keys="match"))
    with pytest.raises(LoadError, match=r"column id takes no nulls, and null_keys is match"):
        database.sink().preflight(load)
    assert [row["n"] for row in database.rows("t")] == [1]


def test_a_damaged_history_is_named(database: Database, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    database.sink().publish(load)
    database.run("UPDATE _daskae_loads SET tables = '{\"t\": '")
    for step in (database.sink().preflight, database.sink().publish):
        with pytest.raises(LoadError, match=r"history of loads is damaged\n  where:   table _daskae_loads, sequence 1"):
            step(replace(load, load_id=B))


def test_a_work_directory_that_is_full_is_not_the_targets_fault(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    table = pa.table({"id": ["x", None], "n": [1, 2]})
    load = replace(one_table(tmp_path, table, ("id",)), rejects=tmp_path / "file" / "left_out")
    with pytest.raises(WorkDirError, match=r"rows that are left out cannot be kept(.|\n)*target is unchanged"):
        database.sink().publish(load)
    check = LoadCheck("nothing", "SELECT * FROM {staged}")
    good = one_table(tmp_path / "good", table.slice(0, 1), ("id",), load_id=B)
    with pytest.raises(WorkDirError, match="cannot be kept"):
        database.sink().publish(replace(good, rejects=load.rejects, checks=(check,)))
    assert "t" not in database.names() or database.rows("t") == []


@pytest.mark.parametrize("seconds", ["inf", "1e9", "-1"])
def test_a_wait_without_an_end_is_refused(seconds: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(f"[load]\ntimeout_seconds = {seconds}\n")
    with pytest.raises(SettingsError, match="timeout_seconds"):
        load_settings({"inputs": ["in"], "to": "out/"}, path)
