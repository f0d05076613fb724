"""Metadata columns by setting: fewer, under other names, none; and what is refused because loads must be told apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from daskae.errors import LoadError
from daskae.load.base import Load, LoadOptions, Strategy
from daskae.load.shape import Metadata

from .building import A, B, C, build_load, shop
from .databases import Database, Folder

NONE = Metadata(None, None, None)
HOSTILE = Metadata('load "id"; %s', "Zeit ä`--", None)


def load(
    folder: Path, load_id: str, metadata: Metadata, strategy: Strategy = "replace", customers: int = 3
) -> Load:  # fmt: skip
    made = build_load(folder / strategy, load_id, shop(load_id[:1], customers), strategy)
    return replace(made, metadata=metadata)


def columns(database: Database) -> list[str]:
    return list(database.rows("kpis", metadata=True)[0])


@pytest.mark.parametrize("metadata", [NONE, HOSTILE, Metadata("_load_id", None, None)])
def test_only_the_columns_asked_for_are_there(metadata: Metadata, database: Database, tmp_path: Path) -> None:
    if metadata == NONE and not database.ours_by_index:
        with pytest.raises(LoadError, match=r"no index shows whose the rows are(.|\n)*\[load\] metadata"):
            database.sink().preflight(load(tmp_path, A, metadata))
        return
    for load_id in (A, B, A):
        assert not database.sink().publish(load(tmp_path, load_id, metadata)).already_published
        assert database.sink().publish(load(tmp_path, load_id, metadata)).already_published
    assert columns(database) == ["metric", "value", "shop", *metadata.names]


@pytest.mark.parametrize("strategy", ["append", "upsert", "merge"])
def test_every_strategy_works_under_other_names(strategy: Strategy, database: Database, tmp_path: Path) -> None:
    sink = database.sink()
    sink.publish(load(tmp_path, A, HOSTILE))
    second = load(tmp_path, B, HOSTILE, strategy, 5)
    assert sink.publish(second).rows == {"customer_metrics": 5, "kpis": 1}
    assert sink.publish(second).already_published
    assert len(database.rows("customer_metrics")) == (8 if strategy == "append" else 5)


@pytest.mark.parametrize("strategy", ["upsert", "merge"])
def test_rows_changed_by_key_need_no_id(strategy: Strategy, database: Database, tmp_path: Path) -> None:
    if not database.ours_by_index:
        pytest.skip("the column with the id is needed")
    sink = database.sink()
    sink.publish(load(tmp_path, A, NONE, strategy))
    assert sink.publish(load(tmp_path, B, NONE, strategy, 5)).changes["customer_metrics"].inserted == 2
    assert sink.publish(load(tmp_path, B, NONE, strategy, 5)).already_published
    database.run("DELETE FROM customer_metrics WHERE customer_id = 'C4'")
    assert sink.publish(load(tmp_path, B, NONE, strategy, 5)).changes["customer_metrics"].inserted == 1


def test_an_append_without_an_id_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"an append needs the column that says which load(.|\n)*\[load\] metadata"):
        database.sink().preflight(load(tmp_path, A, Metadata(None), "append"))


@pytest.mark.parametrize("strategy", ["append", "upsert"])
def test_a_new_name_over_old_rows_is_refused_but_for_a_replace(
    strategy: Strategy, database: Database, tmp_path: Path
) -> None:
    """Else an append of the same load under the new name would not find its rows, and add them once more."""
    sink = database.sink()
    sink.publish(load(tmp_path, A, Metadata(), strategy))
    said = r"do not agree on the column(.|\n)*no column load(.|\n)*as earlier loads did"
    if not database.ours_by_index:
        said = r"rows that daskae did not put there(.|\n)*no column load"
    with pytest.raises(LoadError, match=said):
        sink.publish(load(tmp_path, A, Metadata("load"), strategy))
    with pytest.raises(LoadError, match=r"an append needs|_load_id, which the settings leave out|needs the column"):
        sink.publish(load(tmp_path, B, NONE, strategy))
    assert len(database.rows("customer_metrics")) == 3
    if not database.ours_by_index:  # nothing tells the old rows from somebody else's
        with pytest.raises(LoadError, match=said):
            sink.publish(load(tmp_path, C, Metadata("load")))
        return
    assert not sink.publish(load(tmp_path, C, Metadata("load"))).already_published
    assert {row["load"][:1] for row in database.rows("customer_metrics")} == {"c"}


def test_rows_of_somebody_else_are_never_taken_for_ours(database: Database, tmp_path: Path) -> None:
    sink, given = database.sink(), (NONE, Metadata()) if database.ours_by_index else (Metadata(),)
    sink.publish(load(tmp_path, A, given[0]))
    text = "LONGTEXT COLLATE utf8mb4_nopad_bin" if database.name == "mariadb" else "TEXT"
    database.run("DROP TABLE kpis", f"CREATE TABLE kpis (metric {text})", "INSERT INTO kpis VALUES ('mine')")
    for metadata in given:
        with pytest.raises(LoadError, match=r"rows that daskae did not put there|does not fit the result"):
            sink.publish(load(tmp_path, B, metadata))
    assert database.query("SELECT metric FROM kpis") == [("mine",)]


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (Metadata("shop"), "a column has the name of a metadata column"),
        (Metadata("SHOP"), "a column has the name of a metadata column"),
        (Metadata("same", "same"), "a column has the name of a metadata column"),
        (Metadata("_daskae_x"), "a column has a reserved name"),
        (Metadata("_is_active"), "a column has a reserved name"),
        (Metadata(""), "a name cannot be used"),
        (Metadata("a\0"), "a name cannot be used"),
    ],
)
def test_names_that_cannot_be_used_are_refused(
    metadata: Metadata, text: str, database: Database, tmp_path: Path
) -> None:
    with pytest.raises(LoadError, match=text):
        database.sink().preflight(load(tmp_path, A, metadata))


def test_names_that_postgresql_would_cut_are_refused(postgresql: Database, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"too long for PostgreSQL(.|\n)*\[load\] metadata"):
        postgresql.sink().preflight(load(tmp_path, A, Metadata("x" * 64)))


def test_a_table_without_keys_needs_an_id(database: Database, tmp_path: Path) -> None:
    made = build_load(tmp_path, A, {"t": ((), shop("x")["kpis"][1])})
    with pytest.raises(LoadError, match=r"a table without keys needs the column|no index shows whose the rows are"):
        database.sink().preflight(replace(made, metadata=NONE))


@pytest.mark.parametrize("metadata", [NONE, HOSTILE, Metadata("_load_id", None, None)])
def test_files_have_the_columns_asked_for(metadata: Metadata, files: Folder, tmp_path: Path) -> None:
    for load_id in (A, B, A):
        assert not files.sink().publish(load(tmp_path, load_id, metadata)).already_published
        assert files.sink().publish(load(tmp_path, load_id, metadata)).already_published
    assert list(files.rows("kpis", metadata=True)[0]) == ["metric", "value", "shop", *metadata.names]
    assert {row["shop"] for row in files.rows("customer_metrics")} == {"a"}


@pytest.mark.parametrize("metadata", [NONE, HOSTILE])
@pytest.mark.parametrize("strategy", ["append", "upsert", "merge"])
def test_files_take_every_strategy_under_other_names(
    strategy: Strategy, metadata: Metadata, files: Folder, tmp_path: Path
) -> None:
    second = load(tmp_path, B, metadata, strategy, 5)
    if strategy == "append" and metadata == NONE:
        with pytest.raises(LoadError, match=r"an append needs the column that says which load"):
            files.sink().preflight(second)
        return
    flagging = LoadOptions(on_missing="flag") if strategy == "merge" else LoadOptions()
    files.sink().publish(load(tmp_path, A, metadata))
    receipt = files.sink().publish(replace(second, options=flagging))
    assert receipt.changes["customer_metrics"].inserted == (5 if strategy == "append" else 2)
    assert files.sink().publish(replace(second, options=flagging)).already_published
    third = replace(load(tmp_path, C, metadata, strategy, 1), options=flagging)
    assert files.sink().publish(third).changes["customer_metrics"].flagged == (4 if strategy == "merge" else 0)
    rows = files.rows("customer_metrics", metadata=True)
    assert len(rows) == {"append": 9, "upsert": 5, "merge": 5}[strategy]
    if strategy == "merge":
        since = {row["customer_id"]: row["_inactive_since"] for row in rows if not row["_is_active"]}
        assert since == dict.fromkeys(["C1", "C2", "C3", "C4"], "2026-03-01 12:30:00")


@pytest.mark.parametrize("strategy", ["append", "upsert"])
def test_files_with_another_name_are_refused_but_for_a_replace(
    strategy: Strategy, files: Folder, tmp_path: Path
) -> None:
    files.sink().publish(load(tmp_path, A, Metadata(), strategy))
    for load_id in (A, B):
        if files.name == "memory" and load_id == A:
            continue  # its manifest alone says that the load is there
        with pytest.raises(LoadError, match=r"other columns than the result(.|\n)*_load_id string(.|\n)*replace"):
            files.sink().publish(load(tmp_path, load_id, Metadata("load"), strategy))
    assert len(files.rows("customer_metrics")) == 3
    assert not files.sink().publish(load(tmp_path, C, Metadata("load"))).already_published
    assert {row["load"][:1] for row in files.rows("customer_metrics")} == {"c"}


def test_files_cannot_have_metadata_named_like_flags(files: Folder, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"a column has a reserved name(.|\n)*\[load\] metadata, column _is_active"):
        files.sink().preflight(load(tmp_path, A, Metadata("_is_active")))
