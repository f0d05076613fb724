import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from daskae.errors import LoadError
from daskae.load.base import Load, LoadOptions, Strategy
from daskae.load.parquet.remote import RemoteParquetSink
from daskae.load.targets import open_sink
from tests.fault_log import fault

from .building import A, B, C, build_load, one_table, shop


@pytest.fixture
def url() -> Iterator[str]:
    url = f"memory://{uuid.uuid4().hex}/out"
    yield url
    files, root = fsspec.url_to_fs(url)
    if files.exists(root):
        files.rm(root, recursive=True)


def names(url: str, table: str = "customer_metrics") -> list[str]:
    files, root = fsspec.url_to_fs(f"{url}/{table}")
    return sorted(path.rsplit("/", 1)[-1] for path in files.find(root))


def shops(url: str) -> list[str]:
    files, root = fsspec.url_to_fs(f"{url}/customer_metrics")
    tables = [pq.read_table(BytesIO(files.cat_file(path))) for path in files.find(root)]
    return sorted(set(pa.concat_tables(tables)["shop"].to_pylist()))


def manifest(url: str) -> dict[str, object]:
    files, root = fsspec.url_to_fs(url)
    document: dict[str, object] = json.loads(files.cat_file(f"{root}/_daskae/manifest.json"))
    return document


def test_replace_append_and_the_ledger(url: str, tmp_path: Path) -> None:
    sink = open_sink(url)
    first, second = (build_load(tmp_path, key, shop(name)) for key, name in ((A, "north"), (B, "south")))
    assert sink.preflight(first) is None
    receipt = sink.publish(first)
    assert not receipt.already_published
    assert receipt.targets["kpis"] == f"{url}/kpis"
    assert sink.preflight(first) == replace(receipt, already_published=True, seconds=0)
    assert sink.publish(first).already_published

    sink.publish(second)
    assert shops(url) == ["south"]
    assert names(url) == ["bbbbbbbb-00000.parquet"]
    sink.publish(replace(first, strategy="append"))
    assert sink.publish(replace(first, strategy="append")).already_published
    assert shops(url) == ["north", "south"]
    assert manifest(url)["tables"] == {
        table: ["bbbbbbbb-00000.parquet", "aaaaaaaa-100000.parquet"] for table in ("customer_metrics", "kpis")
    }
    assert not sink.publish(second).already_published
    assert shops(url) == ["south"]


def test_several_files_are_all_named(url: str, tmp_path: Path) -> None:
    table = pa.table({"n": range(270_000)})
    open_sink(url).publish(build_load(tmp_path, A, {"t": (("n",), table)}))
    assert names(url, "t") == ["aaaaaaaa-00000.parquet", "aaaaaaaa-00001.parquet"] == manifest(url)["tables"]["t"]  # type: ignore[index]


def test_other_columns_cannot_be_appended(url: str, tmp_path: Path) -> None:
    open_sink(url).publish(one_table(tmp_path, pa.table({"n": [1]})))
    load = replace(one_table(tmp_path, pa.table({"n": ["x"]}), load_id=B), strategy="append")
    for step in (open_sink(url).preflight, open_sink(url).publish):
        with pytest.raises(LoadError, match=r"other columns than the result(.|\n)*n int64(.|\n)*n string"):
            step(load)
    assert open_sink(url).preflight(replace(load, strategy="replace")) is None


class FailingFiles(MemoryFileSystem):  # type: ignore[misc]
    """A memory file system whose connection breaks at a chosen request."""

    cachable = False
    protocol = "failing"
    breaks_at = ""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: object) -> None:
        if self.breaks_at and self.breaks_at in path:
            fault("cut connection", f"at the write of {self.breaks_at.partition('/')[0]}", "publisher", "memory")
            raise ConnectionError("the connection was cut")
        super().pipe_file(path, value, mode=mode, **options)

    def rm_file(self, path: str) -> None:
        if self.breaks_at == "delete":
            fault("cut connection", "at the removal of old files", "publisher", "memory")
            raise ConnectionError("the connection was cut")
        super().rm_file(path)


@pytest.mark.parametrize(
    ("breaks_at", "published"),
    [("customer_metrics/bbbb", False), ("kpis/bbbb", False), ("manifest", False), ("delete", True)],
)
@pytest.mark.parametrize("strategy", ["replace", "merge"])
def test_cut_off_anywhere_then_run_again(
    strategy: Strategy, breaks_at: str, published: bool, url: str, tmp_path: Path
) -> None:
    files = FailingFiles()

    def build(load_id: str, name: str) -> Load:
        load = build_load(tmp_path, load_id, shop(name), strategy)
        return replace(load, options=LoadOptions(on_missing="delete"))

    sink = RemoteParquetSink(files, url.removeprefix("memory:/"), url)
    sink.publish(build(A, "north"))
    before = manifest(url)["tables"]
    files.breaks_at = breaks_at
    load = build(B, "south")
    with pytest.raises(LoadError, match=r"cannot be read or written(.|\n)*ConnectionError: the connection was cut"):
        sink.publish(load)
    assert (manifest(url)["tables"] == before) == (not published)
    files.breaks_at = ""
    assert sink.preflight(load) is None
    assert sink.publish(load).already_published == published
    assert shops(url) == ["south"]
    sink.publish(build(C, "west"))
    assert shops(url) == ["west"]
    assert names(url) == ["cccccccc-00000.parquet"]


def test_missing_files_are_written_again(url: str, tmp_path: Path) -> None:
    load = build_load(tmp_path, A, shop("north"), "append")
    open_sink(url).publish(load)
    files, root = fsspec.url_to_fs(url)
    files.rm_file(f"{root}/kpis/aaaaaaaa-00000.parquet")
    assert open_sink(url).preflight(load) is None
    assert not open_sink(url).publish(load).already_published
    assert names(url, "kpis") == ["aaaaaaaa-100000.parquet"]


def test_what_is_not_ours_is_not_touched(url: str, tmp_path: Path) -> None:
    files, root = fsspec.url_to_fs(url)
    files.pipe_file(f"{root}/kpis/mine.parquet", b"x")
    for step in (open_sink(url).preflight, open_sink(url).publish):
        with pytest.raises(LoadError, match=r"something that daskae did not write(.|\n)*kpis(.|\n)*mine\.parquet"):
            step(build_load(tmp_path, A, shop("north")))
    assert names(url, "kpis") == ["mine.parquet"]


@pytest.mark.parametrize("name", ["a/b", "..", "_daskae"])
def test_names_that_cannot_be_folders_are_refused(name: str, url: str, tmp_path: Path) -> None:
    load: Load = build_load(tmp_path, A, {name: ((), pa.table({"n": [1]}))})
    with pytest.raises(LoadError, match="name that cannot be a folder"):
        open_sink(url).preflight(load)
