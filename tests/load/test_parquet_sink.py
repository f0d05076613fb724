import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from daskae.errors import LoadError
from daskae.load.base import METADATA_COLUMNS, Load, Sink
from daskae.load.ledger import Entry
from daskae.load.targets import open_sink

from .building import LOADED_AT, MONEY, A, B, C, build_load, content, one_table, read_folder, shop, write_parts


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "out"


@pytest.fixture
def sink(out: Path) -> Sink:
    return open_sink(f"{out}/")


def shops(out: Path) -> list[tuple[str, int]]:
    counts = read_folder(out / "customer_metrics").group_by("shop").aggregate([([], "count_all")])
    return sorted((row["shop"], row["count_all"]) for row in counts.to_pylist())


def statuses(out: Path) -> list[tuple[str, str]]:
    lines = (out / ".daskae/current/ledger.jsonl").read_text().splitlines()
    return [(entry.load_id[:1], entry.status) for entry in map(Entry.from_json, lines)]


def test_the_folder_reads_as_it_is(sink: Sink, out: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, A, shop("north"), "append"))
    sink.publish(build_load(tmp_path, B, shop("south"), "append"))
    place = out / "customer_metrics"
    assert ds.dataset(place, format="parquet").count_rows() == 6
    assert pl.read_parquet(place / "*.parquet")["spent"].sum() == Decimal("1.5")
    assert pl.scan_parquet(place).collect().height == 6


def test_duckdb_reads_the_folder_as_it_is(sink: Sink, out: Path, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    sink.publish(build_load(tmp_path, A, shop("north"), "append"))
    sink.publish(build_load(tmp_path, B, shop("south", 0), "append"))
    with duckdb.connect() as database:
        query = f"SELECT sum(spent), count(DISTINCT _load_id) FROM '{out}/customer_metrics/*.parquet'"
        assert database.execute(query).fetchall() == [(Decimal("0.75"), 1)]


def test_columns_types_and_metadata(sink: Sink, out: Path, tmp_path: Path) -> None:
    exact = pa.field("money", MONEY, metadata={"exact": "true"})
    columns = {
        "text": pa.array(["a", None], pa.large_string()),
        "word": pa.array(["x", "y"]).dictionary_encode(),
        "day": pa.array([date(2011, 12, 1), None]),
        "second": pa.array([datetime(2011, 12, 1, 8), None], pa.timestamp("s")),
        "fine": pa.array([datetime(2011, 12, 1, 8, 0, 0, 7), None], pa.timestamp("ns")),
        "flag": pa.array([True, None]),
        "money": pa.array([Decimal("9" * 34 + ".9999"), None], MONEY),
    }
    schema = pa.schema([exact if name == "money" else pa.field(name, column.type) for name, column in columns.items()])
    sink.publish(one_table(tmp_path, pa.table(list(columns.values()), schema.with_metadata({"pandas": "{}"}))))
    (file,) = (out / "t").iterdir()
    written = pq.ParquetFile(file)
    assert written.schema_arrow.names == [*columns, *METADATA_COLUMNS]
    assert written.schema_arrow.metadata is None
    assert written.metadata.metadata is None
    types = [pa.string(), pa.string(), pa.date32(), *[pa.timestamp("us")] * 2, pa.bool_(), MONEY]
    assert written.schema_arrow.types == [*types, pa.string(), pa.timestamp("us"), pa.int64()]
    rows = written.read().to_pylist()
    assert rows[0]["money"] == Decimal("9" * 34 + ".9999")
    assert rows[0]["fine"] == datetime(2011, 12, 1, 8, 0, 0, 7)
    assert [rows[1][name] for name in METADATA_COLUMNS] == [A, LOADED_AT, 1000]
    assert written.metadata.row_group(0).column(0).statistics.has_min_max


def test_files_and_row_groups_have_fixed_sizes(sink: Sink, out: Path, tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "p", "t", (), pa.table({"n": range(600_000)}), cuts=(5, 300_000))
    receipt = sink.publish(Load(A, "run", "replace", 0, LOADED_AT, (parts,)))
    assert receipt.rows == {"t": 600_000}
    files = sorted((out / "t").iterdir())
    assert [file.name for file in files] == [f"aaaaaaaa-0000{number}.parquet" for number in range(3)]
    metadata = [pq.read_metadata(file) for file in files]
    groups = [[found.row_group(n).num_rows for n in range(found.num_row_groups)] for found in metadata]
    assert groups == [16 * [16_384], 16 * [16_384], [*4 * [16_384], 10_176]]
    assert read_folder(out / "t")["n"].to_pylist() == list(range(600_000))


def test_an_empty_table_is_one_file_without_rows(sink: Sink, out: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north", 0))
    sink.publish(load)
    assert [path.name for path in (out / "customer_metrics").iterdir()] == ["aaaaaaaa-00000.parquet"]
    assert pl.read_parquet(out / "customer_metrics/*.parquet").shape == (0, 6)
    assert sink.publish(load).already_published


def test_the_receipt_names_the_folders(sink: Sink, out: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    assert sink.preflight(load) is None
    assert not out.exists()
    receipt = sink.publish(load)
    assert (receipt.load_id, receipt.already_published) == (A, False)
    assert receipt.rows == {"customer_metrics": 3, "kpis": 1}
    assert receipt.targets["kpis"] == str(out / "kpis")
    assert sink.preflight(load) == replace(receipt, already_published=True, seconds=0)


def test_a_preflight_needs_no_rows(sink: Sink, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    planned = replace(load, tables=tuple(replace(parts, files=(), rows=0) for parts in load.tables))
    assert sink.preflight(planned) is None
    sink.publish(load)
    receipt = sink.preflight(planned)
    assert receipt is not None
    assert receipt.rows == {"customer_metrics": 3, "kpis": 1}


def test_replace_a_b_a_publishes_three_times(sink: Sink, out: Path, tmp_path: Path) -> None:
    first, second = build_load(tmp_path, A, shop("north")), build_load(tmp_path, B, shop("south", 5))
    for load in (first, second, first):
        assert sink.preflight(load) is None
        assert not sink.publish(load).already_published
        assert sink.publish(load).already_published
    assert shops(out) == [("north", 3)]
    assert statuses(out) == [("a", "replaced"), ("b", "replaced"), ("a", "published")]


def test_append_keeps_loads_apart_until_a_replace_wipes_them(sink: Sink, out: Path, tmp_path: Path) -> None:
    first = build_load(tmp_path, A, shop("north"), "append")
    second = build_load(tmp_path, B, shop("south"), "append")
    for load in (first, second, first, second):
        sink.publish(load)
    assert shops(out) == [("north", 3), ("south", 3)]
    sink.publish(build_load(tmp_path, C, shop("west")))
    assert shops(out) == [("west", 3)]
    assert not sink.publish(first).already_published
    assert shops(out) == [("north", 3), ("west", 3)]
    assert statuses(out) == [("a", "replaced"), ("b", "replaced"), ("c", "published"), ("a", "published")]


def test_append_does_not_write_old_rows_again(sink: Sink, out: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, A, shop("north"), "append"))
    old = out / "kpis/aaaaaaaa-00000.parquet"
    inode = old.stat().st_ino
    sink.publish(build_load(tmp_path, B, shop("south"), "append"))
    assert old.stat().st_ino == inode


def test_files_are_copied_where_links_are_refused(
    sink: Sink, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    sink.publish(build_load(tmp_path, A, shop("north"), "append"))
    sink.publish(build_load(tmp_path, B, shop("south"), "append"))
    assert shops(out) == [("north", 3), ("south", 3)]


def test_a_replace_leaves_the_tables_of_other_loads(sink: Sink, out: Path, tmp_path: Path) -> None:
    sink.publish(one_table(tmp_path, pa.table({"n": [1]}), name="other", load_id=C))
    sink.publish(build_load(tmp_path, A, shop("north")))
    sink.publish(build_load(tmp_path, B, shop("south")))
    assert content(read_folder(out / "other")) == [{"n": 1}]
    assert statuses(out) == [("c", "published"), ("a", "replaced"), ("b", "published")]


def test_loads_whose_ids_begin_alike_do_not_share_files(sink: Sink, out: Path, tmp_path: Path) -> None:
    ids = ["12345678" + 56 * digit for digit in "abc"]
    loads = [build_load(tmp_path, load_id, shop(load_id[-1:]), "append") for load_id in ids]
    for load in (*loads, *loads):
        sink.publish(load)
    assert shops(out) == [("a", 3), ("b", 3), ("c", 3)]
    names = sorted(path.name for path in (out / "kpis").iterdir())
    assert names == [f"{stem}-00000.parquet" for stem in ("12345678", "12345678bbbbbbbb", "12345678cccccccc")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda out: (out / "kpis/aaaaaaaa-00000.parquet").unlink(),
        lambda out: (out / "kpis/aaaaaaaa-00000.parquet").write_bytes(b"rubbish"),
        lambda out: (out / "kpis").unlink(),
        lambda out: shutil.rmtree(out / ".daskae"),
    ],
)
def test_rows_taken_away_by_hand_come_back(
    damage: Callable[[Path], None], sink: Sink, out: Path, tmp_path: Path
) -> None:
    load = build_load(tmp_path, A, shop("north"), "append")
    sink.publish(load)
    damage(out)
    assert sink.preflight(load) is None
    assert not sink.publish(load).already_published
    assert shops(out) == [("north", 3)]
    assert content(read_folder(out / "kpis")) == [{"metric": "customers", "value": 3, "shop": "north"}]


def test_the_last_but_one_snapshot_is_kept_for_its_readers(sink: Sink, out: Path, tmp_path: Path) -> None:
    for load_id, name in ((A, "north"), (B, "south"), (C, "west")):
        sink.publish(build_load(tmp_path, load_id, shop(name)))
    snapshots = sorted(path.name for path in (out / ".daskae/snapshots").iterdir())
    assert snapshots == ["2-bbbbbbbb", "3-cccccccc"]
    assert os.readlink(out / ".daskae/current") == "snapshots/3-cccccccc"
    assert os.readlink(out / "kpis") == ".daskae/current/kpis"
    assert sorted(path.name for path in out.iterdir()) == [".daskae", "customer_metrics", "kpis"]


def test_the_folder_can_be_moved(sink: Sink, out: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    sink.publish(load)
    moved = out.rename(tmp_path / "moved")
    assert shops(moved) == [("north", 3)]
    assert open_sink(str(moved)).publish(load).already_published


def occupy_with_a_folder(out: Path) -> None:
    (out / "kpis").mkdir(parents=True)
    (out / "kpis/mine.csv").touch()


def occupy_with_a_file(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "kpis").touch()


def occupy_with_a_link(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "kpis").symlink_to("elsewhere")


@pytest.mark.parametrize("occupy", [occupy_with_a_folder, occupy_with_a_file, occupy_with_a_link])
def test_what_is_not_ours_is_not_replaced(
    occupy: Callable[[Path], None], sink: Sink, out: Path, tmp_path: Path
) -> None:
    occupy(out)
    for step in (sink.preflight, sink.publish):
        with pytest.raises(LoadError, match=r"something that daskae did not write(.|\n)*kpis"):
            step(build_load(tmp_path, A, shop("north")))
    assert os.path.lexists(out / "kpis")
    assert not os.path.lexists(out / "customer_metrics")


def test_an_empty_folder_in_the_place_of_a_table_is_taken(sink: Sink, out: Path, tmp_path: Path) -> None:
    (out / "kpis").mkdir(parents=True)
    sink.publish(build_load(tmp_path, A, shop("north")))
    assert shops(out) == [("north", 3)]


def test_a_file_in_the_place_of_the_folder_is_named(sink: Sink, out: Path, tmp_path: Path) -> None:
    out.parent.mkdir()
    out.touch()
    for step in (sink.preflight, sink.publish):
        with pytest.raises(LoadError, match=r"output folder is a file(.|\n)*deep/out"):
            step(build_load(tmp_path, A, shop("north")))


def test_a_folder_copied_without_its_links_is_named(sink: Sink, out: Path, tmp_path: Path) -> None:
    sink.publish(build_load(tmp_path, A, shop("north")))
    copied = tmp_path / "copied"
    shutil.copytree(out, copied, symlinks=False)
    with pytest.raises(LoadError, match="copied without its links"):
        open_sink(str(copied)).publish(build_load(tmp_path, B, shop("south")))


def test_other_columns_cannot_be_appended(sink: Sink, out: Path, tmp_path: Path) -> None:
    sink.publish(one_table(tmp_path, pa.table({"n": [1]})))
    load = replace(one_table(tmp_path, pa.table({"n": ["x"]}), load_id=B), strategy="append")
    for step in (sink.preflight, sink.publish):
        with pytest.raises(LoadError, match=r"other columns than the result(.|\n)*n int64(.|\n)*n string"):
            step(load)
    assert sink.preflight(replace(load, strategy="replace")) is None


def test_a_damaged_file_of_another_load_stops_an_append(sink: Sink, out: Path, tmp_path: Path) -> None:
    sink.publish(one_table(tmp_path, pa.table({"n": [1]})))
    (out / "t/aaaaaaaa-00000.parquet").write_bytes(b"rubbish")
    with pytest.raises(LoadError, match=r"file in the target is damaged(.|\n)*aaaaaaaa-00000"):
        sink.preflight(replace(one_table(tmp_path, pa.table({"n": [1]}), load_id=B), strategy="append"))


@pytest.mark.parametrize("name", ["..", ".", ".daskae", "a/b", "../up", "", "a\0b", "x" * 300])
def test_names_that_cannot_be_folders_are_refused(name: str, sink: Sink, tmp_path: Path) -> None:
    load = one_table(tmp_path, pa.table({"n": [1]}))
    with pytest.raises(LoadError, match="name"):
        sink.publish(replace(load, tables=(replace(load.tables[0], name=name),)))


def test_hostile_names_are_names_and_nothing_else(sink: Sink, out: Path, tmp_path: Path) -> None:
    names = ['a"b', "a'b", "a.b", "x; rm -rf *", "-rf", "%s", "ü\n\U0001f600", "*", "[t]", "~"]
    table = pa.table({name: [name] for name in names})
    for load_id in (A, B):
        load = build_load(tmp_path, load_id, dict.fromkeys(names, ((), table)), "append")
        sink.publish(load)
        assert sink.preflight(load) is not None
    for name in names:
        assert content(read_folder(out / name)) == [dict(zip(names, names, strict=True))] * 2


@pytest.mark.parametrize("array", [pa.array([[1]]), pa.nulls(1), pa.array([b"x"])])
def test_a_type_without_a_place_is_refused_beforehand(array: pa.Array, sink: Sink, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"not written to Parquet(.|\n)*table t, column x"):
        sink.preflight(one_table(tmp_path, pa.table({"x": array})))


def test_rows_that_do_not_add_up_are_refused(sink: Sink, out: Path, tmp_path: Path) -> None:
    load = one_table(tmp_path, pa.table({"n": [1, 2]}))
    with pytest.raises(LoadError, match=r"do not add up(.|\n)*2 rows in its parts(.|\n)*3 rows announced"):
        sink.publish(replace(load, tables=(replace(load.tables[0], rows=3),)))
    assert list(out.glob(".daskae/snapshots/*")) == []


def test_a_damaged_ledger_is_named(sink: Sink, out: Path, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"))
    sink.publish(load)
    (out / ".daskae/current/ledger.jsonl").write_text("rubbish\n")
    with pytest.raises(LoadError, match="ledger of the target is gone, or not as it was written"):
        sink.preflight(load)
    (out / ".daskae/current/contents.json").unlink()
    with pytest.raises(LoadError, match=r"ledger of the target is damaged(.|\n)*rubbish"):
        sink.preflight(load)
