"""Metadata columns by setting: fewer, under other names, none; and what is refused because loads must be told apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from daskae.errors import LoadError
from daskae.load.base import Load, Strategy
from daskae.load.shape import Metadata

from .building import A, B, C, build_load, shop
from .databases import Database

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


def test_files_always_have_all_of_them(tmp_path: Path) -> None:
    folder = Database("parquet", str(tmp_path / "out"), "")
    with pytest.raises(LoadError, match=r"does not take this setting(.|\n)*\[load\] metadata"):
        folder.sink().preflight(load(tmp_path, A, NONE))
