"""What the four strategies do, the same on every database."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daskae.errors import LoadError
from daskae.load.base import Changes, Load, LoadOptions, Receipt, Strategy

from .building import MONEY, A, B, C, build_load
from .databases import Database, Target

LATER = datetime(2026, 4, 1)


def customers(*rows: tuple[str | None, int, str]) -> pa.Table:
    ids, spent, segments = zip(*rows, strict=True) if rows else ((), (), ())
    money = pa.array([Decimal(value) / 4 for value in spent], MONEY)
    return pa.table({"id": pa.array(ids, pa.string()), "spent": money, "segment": pa.array(segments, pa.string())})


FIRST = (("C1", 4, "loyal"), ("C2", 8, "new"), ("C3", 12, "loyal"))
SECOND = (("C2", 8, "new"), ("C3", 16, "lost"), ("C4", 20, "new"))


class Loader:
    """Publishes small tables one after the other."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder

    def load(
        self, load_id: str, rows: Sequence[tuple[str | None, int, str]], strategy: Strategy, **options: Any
    ) -> Load:  # fmt: skip
        load = build_load(self.folder / strategy, load_id, {"t": (("id",), customers(*rows))}, strategy)
        at = LATER if load_id != A else load.loaded_at
        return replace(load, options=LoadOptions(**options), loaded_at=at, rejects=self.folder / "left_out")

    def publish(
        self, load_id: str, rows: Sequence[tuple[str | None, int, str]], strategy: Strategy, **options: Any
    ) -> Receipt:  # fmt: skip
        return self.target.sink().publish(self.load(load_id, rows, strategy, **options))

    def spent(self) -> dict[str, int]:
        return {row["id"]: int(row["spent"] * 4) for row in self.target.rows("t")}

    def loads(self) -> dict[str, str]:
        return {row["id"]: row["_load_id"][:1] for row in self.target.rows("t", metadata=True)}


@pytest.fixture
def loader(target: Target, tmp_path: Path) -> Loader:
    return Loader(target, tmp_path)


def test_upsert_inserts_updates_and_leaves_equal_rows_untouched(loader: Loader) -> None:
    loader.publish(A, FIRST, "replace")
    receipt = loader.publish(B, SECOND, "upsert")
    assert receipt.changes == {"t": Changes(inserted=1, updated=1, unchanged=1)}
    assert receipt.rows == {"t": 3}
    assert receipt.seconds > 0
    assert loader.spent() == {"C1": 4, "C2": 8, "C3": 16, "C4": 20}
    assert loader.loads() == {"C1": "a", "C2": "a", "C3": "b", "C4": "b"}
    again = loader.publish(B, SECOND, "upsert")
    assert (again.already_published, again.changes, again.rows) == (True, receipt.changes, receipt.rows)


def test_upsert_into_nothing_inserts_everything(loader: Loader) -> None:
    assert loader.publish(A, FIRST, "upsert").changes == {"t": Changes(inserted=3)}
    assert loader.publish(B, FIRST, "upsert").changes == {"t": Changes(unchanged=3)}
    assert set(loader.loads().values()) == {"a"}


def test_an_upsert_after_another_load_is_done_again(loader: Loader) -> None:
    for load_id, rows in ((A, FIRST), (B, SECOND), (A, FIRST)):
        assert not loader.publish(load_id, rows, "upsert").already_published
    assert loader.spent() == {"C1": 4, "C2": 8, "C3": 12, "C4": 20}
    assert [row[3] for row in loader.target.ledger()] == ["replaced", "published", "published"]


def test_update_columns_limits_what_changes(loader: Loader) -> None:
    loader.publish(A, FIRST, "replace")
    receipt = loader.publish(B, SECOND, "upsert", update_columns=("segment",))
    assert receipt.changes == {"t": Changes(inserted=1, updated=1, unchanged=1)}
    assert loader.spent() == {"C1": 4, "C2": 8, "C3": 12, "C4": 20}
    assert {row["id"]: row["segment"] for row in loader.target.rows("t")}["C3"] == "lost"


def test_merge_can_keep_or_delete_what_left_the_source(loader: Loader) -> None:
    loader.publish(A, FIRST, "replace")
    kept = loader.publish(B, SECOND, "merge", on_missing="keep")
    assert kept.changes == {"t": Changes(inserted=1, updated=1, unchanged=1)}
    deleted = loader.publish(C, SECOND[:2], "merge", on_missing="delete")
    assert deleted.changes == {"t": Changes(unchanged=2, deleted=2)}
    assert loader.spent() == {"C2": 8, "C3": 16}


def test_merge_can_flag_what_left_the_source_and_brings_it_back(loader: Loader) -> None:
    loader.publish(A, FIRST, "replace")
    flagged = loader.publish(B, SECOND, "merge", on_missing="flag")
    assert flagged.changes == {"t": Changes(inserted=1, updated=1, unchanged=1, flagged=1)}
    rows = {row["id"]: (row["_is_active"], row["_inactive_since"]) for row in loader.target.rows("t")}
    assert rows == {"C1": (0, "2026-04-01 00:00:00"), "C2": (1, None), "C3": (1, None), "C4": (1, None)}
    back = loader.publish(C, (FIRST[0], *SECOND), "merge", on_missing="flag")
    assert back.changes == {"t": Changes(updated=1, unchanged=3)}
    assert {row["_is_active"] for row in loader.target.rows("t")} == {1}
    assert {row["_inactive_since"] for row in loader.target.rows("t")} == {None}


def test_only_newer_rows_change_what_is_there(loader: Loader) -> None:
    loader.publish(A, FIRST, "replace")
    older = (("C1", 3, "x"), ("C2", 9, "x"), ("C3", 12, "x"))
    receipt = loader.publish(B, older, "upsert", only_if_newer="spent")
    assert receipt.changes == {"t": Changes(updated=1, unchanged=2)}
    assert loader.spent() == {"C1": 4, "C2": 9, "C3": 12}


def test_a_row_that_comes_back_unchanged_is_active_again(loader: Loader) -> None:
    loader.publish(A, FIRST, "replace")
    loader.publish(B, FIRST[:1], "merge", on_missing="flag", only_if_newer="spent")
    receipt = loader.publish(C, FIRST, "merge", on_missing="flag", only_if_newer="spent")
    assert receipt.changes == {"t": Changes(updated=2, unchanged=1)}
    assert {row["_is_active"] for row in loader.target.rows("t")} == {1}


DOUBLE = (("C1", 4, "a"), ("C2", 8, "b"), ("C1", 12, "c"), ("C1", 12, "d"), ("C1", 6, "e"))


# By default every rule with one strategy, and every strategy with one rule; CI runs all.
@pytest.mark.parametrize(
    ("strategy", "rule", "segment"),
    [
        pytest.param(
            strategy, rule, segment, marks=[] if strategy == "upsert" or rule == "spent" else [pytest.mark.slow]
        )
        for rule, segment in (("first", "a"), ("last", "e"), ("spent", "d"))
        for strategy in ("replace", "append", "upsert", "merge")
    ],
)
def test_duplicates_are_resolved_by_a_declared_order(
    loader: Loader, strategy: Strategy, rule: str, segment: str
) -> None:
    receipt = loader.publish(A, DOUBLE, strategy, duplicates=rule)
    assert receipt.changes == {"t": Changes(inserted=2, duplicates=3)}
    assert {row["id"]: row["segment"] for row in loader.target.rows("t")} == {"C1": segment, "C2": "b"}
    (rejected,) = receipt.rejected
    assert (rejected.table, rejected.reason, rejected.rows) == ("t", "duplicate_key", 3)
    assert rejected.file is not None
    kept = pq.read_table(rejected.file).to_pylist()
    assert [row["segment"] for row in kept] == [row[2] for row in DOUBLE if row[2] not in (segment, "b")]
    assert all(DOUBLE[row["_row"] - 1][2] == row["segment"] for row in kept)
    assert rejected.samples == tuple({name: row[name] for name in ("id", "spent", "segment")} for row in kept)


@pytest.mark.parametrize("strategy", ["replace", "append", "upsert", "merge"])
def test_duplicates_are_an_error_unless_told_otherwise(loader: Loader, strategy: Strategy) -> None:
    loader.publish(A, FIRST, "replace")
    with pytest.raises(LoadError, match=r"more than once(.|\n)*\(C1\)(.|\n)*duplicates in \[load\]"):
        loader.publish(B, DOUBLE, strategy)
    assert loader.spent() == {"C1": 4, "C2": 8, "C3": 12}
    published, failed = (1, "a", "replace", "published"), (2, "b", strategy, "failed")
    # Files hold no history of loads that failed.
    assert loader.target.ledger() == ([published, failed] if isinstance(loader.target, Database) else [published])
    assert loader.target.names() - {"_daskae_loads"} == {"t"}


@pytest.mark.parametrize("strategy", ["replace", "append", "upsert"])
def test_a_first_load_that_fails_leaves_nothing(strategy: Strategy, loader: Loader) -> None:
    with pytest.raises(LoadError, match="more than once"):
        loader.publish(A, DOUBLE, strategy)
    assert loader.target.names() == set()
    assert loader.publish(B, DOUBLE, strategy, duplicates="first").rows == {"t": 2}


NULLS: tuple[tuple[str | None, int, str], ...] = ((None, 4, "a"), ("C1", 8, "b"), (None, 12, "c"))


@pytest.mark.parametrize("strategy", ["replace", "append", "upsert", "merge"])
def test_null_keys_are_left_out_with_a_reason(loader: Loader, strategy: Strategy) -> None:
    receipt = loader.publish(A, NULLS, strategy)
    assert receipt.changes == {"t": Changes(inserted=1, rejected=2)}
    assert receipt.rows == {"t": 1}
    (rejected,) = receipt.rejected
    assert (rejected.reason, rejected.rows) == ("null_key", 2)
    assert rejected.file is not None
    kept = pq.read_table(rejected.file).to_pylist()
    assert [(row["_reason"], row["_row"], row["segment"]) for row in kept] == [
        ("null_key", 1, "a"),
        ("null_key", 3, "c"),
    ]
    assert loader.publish(A, NULLS, strategy).already_published


def test_null_keys_and_duplicates_together(loader: Loader) -> None:
    rows = (NULLS[0], *DOUBLE, NULLS[2])
    receipt = loader.publish(A, rows, "replace", duplicates="first")
    assert receipt.changes == {"t": Changes(inserted=2, rejected=2, duplicates=3)}
    places = {found.reason: pq.read_table(found.file)["_row"].to_pylist() for found in receipt.rejected if found.file}
    assert places == {"null_key": [1, 7], "duplicate_key": [4, 5, 6]}


def test_null_keys_can_be_keys_like_any_other(loader: Loader) -> None:
    rows = (NULLS[0], NULLS[1])
    for load_id, spent in ((A, 4), (B, 12)):
        loader.publish(load_id, ((None, spent, "a"), rows[1]), "upsert", null_keys="match")
        assert sorted(row["spent"] * 4 for row in loader.target.rows("t")) == [min(8, spent), max(8, spent)]
    with pytest.raises(LoadError, match=r"more than once(.|\n)*\(null\)"):
        loader.publish(C, NULLS, "upsert", null_keys="match")
    loader.publish(C, NULLS, "upsert", null_keys="match", duplicates="last")
    assert len(loader.target.rows("t")) == 2


def test_an_upsert_after_appends_that_share_keys_is_refused(loader: Loader) -> None:
    loader.publish(A, FIRST, "append")
    loader.publish(B, SECOND, "append")
    with pytest.raises(
        LoadError, match=r"several rows of a key, so there is no one row to upsert(.|\n)*\(C2\), \(C3\)"
    ):
        loader.publish(C, FIRST, "upsert")
    assert len(loader.target.rows("t")) == 6


def test_strategies_may_follow_each_other(loader: Loader) -> None:
    loader.publish(A, FIRST, "append")
    loader.publish(B, SECOND, "upsert")
    loader.publish(C, FIRST, "append")
    assert len(loader.target.rows("t")) == 7
    loader.publish(B, SECOND, "replace")
    assert loader.spent() == {"C2": 8, "C3": 16, "C4": 20}
    loader.publish(A, FIRST, "merge", on_missing="delete")
    assert loader.spent() == {"C1": 4, "C2": 8, "C3": 12}


@pytest.mark.parametrize(
    ("strategy", "options", "text"),
    [
        ("upsert", {"update_columns": ("nope",)}, r"not a column of any table(.|\n)*update_columns(.|\n)*nope"),
        ("upsert", {"update_columns": ("id",)}, r"or is a key(.|\n)*update_columns"),
        ("upsert", {"only_if_newer": "nope"}, r"no table has the column(.|\n)*only_if_newer"),
        ("replace", {"duplicates": "nope"}, r"no table has the column(.|\n)*duplicates(.|\n)*error, first, last, id"),
    ],
)
def test_an_option_that_fits_no_table_is_refused(
    loader: Loader, strategy: Strategy, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(LoadError, match=text):
        loader.target.sink().preflight(loader.load(A, FIRST, strategy, **options))


def test_an_upsert_without_keys_is_refused(target: Target, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, {"t": ((), customers(*FIRST))}, "upsert")
    with pytest.raises(LoadError, match="an upsert needs keys"):
        target.sink().preflight(load)


def test_the_ledger_is_the_history_of_loads(database: Database, tmp_path: Path) -> None:
    loader = Loader(database, tmp_path)
    loader.publish(A, FIRST, "replace")
    with pytest.raises(LoadError):
        loader.publish(C, DOUBLE, "upsert")
    loader.publish(B, (*SECOND, NULLS[0]), "upsert")
    sums = database.query(
        "SELECT strategy, status, rows_inserted, rows_updated, rows_unchanged, rows_deleted, rows_rejected, message"
        " FROM _daskae_loads ORDER BY sequence"
    )
    assert sums == [
        ("replace", "published", 3, 0, 0, 0, 0, ""),
        ("upsert", "failed", 0, 0, 0, 0, 0, "a key appears more than once in the result"),
        ("upsert", "published", 1, 1, 1, 0, 1, ""),
    ]
    changes, begun, ended = database.query(
        "SELECT changes, started_at, published_at FROM _daskae_loads WHERE sequence = 3"
    )[0]
    assert json.loads(changes)["t"]["unchanged"] == 1
    assert begun <= ended


def test_a_ledger_of_before_gets_the_new_columns(database: Database, tmp_path: Path) -> None:
    loader = Loader(database, tmp_path)
    loader.publish(A, FIRST, "replace")
    columns = ("changes", "started_at", "rows_inserted", "rows_updated", "rows_unchanged", "rows_deleted")
    database.run(*(f"ALTER TABLE _daskae_loads DROP COLUMN {name}" for name in columns))
    assert loader.publish(A, FIRST, "replace").rows == {"t": 3}
    assert loader.publish(B, SECOND, "upsert").changes == {"t": Changes(inserted=1, updated=1, unchanged=1)}
    assert database.query("SELECT rows_inserted FROM _daskae_loads ORDER BY sequence") == [(None,), (1,)]
