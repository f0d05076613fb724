import gzip
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daskae.errors import InputChangedError, InputError
from daskae.partition import Segment
from daskae.read.discover import ScanCache, find_files, scan_files
from daskae.read.reader import raw_batches, read_segments
from daskae.read.source import open_stream
from daskae.sealed import seal, unseal

from .reading import PLAIN, cells, cut, read, rows_of_batch, settle


def write(path: Path, text: str = "id,n\n1,a\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    settle(path)
    return path


def labels(*inputs: str | Path) -> list[str]:
    return [file.label for file in find_files([str(text) for text in inputs])]


def scan(*inputs: str | Path, cache: Path | None = None, block: int = 1 << 20) -> list[Segment]:
    return scan_files(find_files([str(text) for text in inputs]), PLAIN, block, ScanCache(cache) if cache else None, 1)


def test_a_folder_stands_for_its_data_files(tmp_path: Path) -> None:
    wanted = ["a.csv", "b/c.CSV.gz", "b/d.tsv.zst", "e.txt.xz", "f.parquet", "g.pq", "h.csv.bz2"]
    for name in [*wanted, "_SUCCESS", "_tmp/x.csv", ".hidden.csv", ".git/x.csv", "b/_x.csv", "readme.md", "x.csv.tmp"]:
        write(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    assert labels(tmp_path) == wanted
    assert labels(f"{tmp_path}/") == wanted


def test_a_leading_underscore_above_the_folder_named_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "_data" / ".x" / "a.csv")
    assert labels(tmp_path / "_data" / ".x") == ["a.csv"]


def test_a_file_named_itself_is_taken_whatever_its_name(tmp_path: Path) -> None:
    assert labels(write(tmp_path / "_orders.dat")) == ["_orders.dat"]


def test_patterns(tmp_path: Path) -> None:
    for name in ["2023/a.csv", "2024/a.csv", "2024/b.csv", "2024/c.txt"]:
        write(tmp_path / name)
    assert labels(tmp_path / "*" / "a.csv") == ["2023/a.csv", "2024/a.csv"]
    assert labels(tmp_path / "**" / "*.csv") == ["2023/a.csv", "2024/a.csv", "2024/b.csv"]
    assert labels(tmp_path / "2024" / "[ab].csv") == ["a.csv", "b.csv"]
    assert labels(tmp_path / "202?" / "b.csv") == ["2024/b.csv"]


def test_a_name_with_pattern_letters_in_it(tmp_path: Path) -> None:
    assert labels(write(tmp_path / "a[1]*.csv")) == ["a[1]*.csv"]


def test_files_come_in_path_order_whatever_the_order_named(tmp_path: Path) -> None:
    a, b = write(tmp_path / "x" / "a.csv"), write(tmp_path / "y" / "b.csv")
    assert labels(b, a) == labels(a, b) == ["a.csv", "b.csv"]


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    a, b = write(tmp_path / "x" / "a.csv"), write(tmp_path / "y" / "a.csv")
    assert labels(b, a) == [str(a), str(b)]


def test_overlapping_inputs_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = write(tmp_path / "o" / "a.csv")
    (tmp_path / "link.csv").symlink_to(a)
    monkeypatch.chdir(tmp_path)
    assert len(find_files(["o", "o/a.csv", "o/*.csv", str(a), "./o/../o/a.csv", "link.csv"])) == 1


def test_a_path_and_its_file_url_are_one_file(tmp_path: Path) -> None:
    a = write(tmp_path / "a.csv")
    assert len(find_files([str(a), f"file://{a}"])) == 1


def test_a_link_is_read_as_its_own_name_says(tmp_path: Path) -> None:
    (tmp_path / "blob-81f2").write_bytes(gzip.compress(b"id,n\n1,a\n"))
    (tmp_path / "orders.csv.gz").symlink_to(tmp_path / "blob-81f2")
    (segment,) = scan(tmp_path / "orders.csv.gz")
    assert (segment.label, segment.compression) == ("orders.csv.gz", "gzip")
    assert cells(read([segment])) == [("1", "a")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", r"(?s)no such file, folder or pattern.*nothing.*looked from"),
        ("*.csv", r"(?s)no such file, folder or pattern.*\*\.csv"),
        ("empty", r"(?s)a folder holds no CSV or Parquet file.*empty.*\.csv, \.tsv"),
    ],
)
def test_what_is_not_there(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=text):
        find_files([str(tmp_path / name)])


@pytest.mark.parametrize("url", ["memory://nothing/a.csv", "memory://nothing/*.csv", "file:///nothing/at/all.csv"])
def test_a_url_that_stands_for_nothing(url: str) -> None:
    with pytest.raises(InputError, match="no such file, folder or pattern"):
        find_files([url])


@pytest.fixture
def memory() -> Any:
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    with files.open("/shop/b/x.csv", "wb") as file:
        file.write(b"id,n\n1,a\n")
    with files.open("/shop/a.csv.gz", "wb") as file:
        file.write(gzip.compress(b"id,n\n2,b\n"))
    with files.open("/shop/_x.csv", "wb") as file:
        file.write(b"id,n\n9,z\n")
    yield files
    files.store.clear()


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory://shop", ["a.csv.gz", "b/x.csv"]),
        ("memory://shop/b/x.csv", ["x.csv"]),
        ("memory://shop/b/*.csv", ["x.csv"]),
        ("memory://shop/*/x.csv", ["b/x.csv"]),
        ("memory://shop/[b]/x.csv", ["b/x.csv"]),
        ("memory://shop/?/x.csv", ["b/x.csv"]),
    ],
)
def test_urls(url: str, expected: list[str]) -> None:
    assert labels(url) == expected


@pytest.mark.usefixtures("memory")
def test_urls_are_read(tmp_path: Path) -> None:
    write(tmp_path / "c.csv", "id,n\n3,c\n4,d\n")
    segments = scan("memory://shop", f"file://{tmp_path}", block=4)
    batches = read_segments(segments, PLAIN, lambda segment: segment.columns)
    rows = [row for batch in batches for row in rows_of_batch(batch)]
    assert cells(rows) == [("2", "b"), ("1", "a"), ("3", "c"), ("4", "d")]


def test_a_file_inside_an_archive(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "o"), "zip", write(tmp_path / "in" / "a.csv").parent)
    segments = scan(f"zip://a.csv::{tmp_path}/o.zip")
    assert cells(read(segments)) == [("1", "a")]


def test_content_ids_do_not_depend_on_where_the_folder_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "here" / "b" / "a.csv")
    write(tmp_path / "here" / "c.csv")
    shutil.copytree(tmp_path / "here", tmp_path / "else" / "where")
    monkeypatch.chdir(tmp_path / "else")
    ids = [[segment.content_id for segment in scan(place)] for place in (tmp_path / "here", "where", "where/**/*.csv")]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[0])) == 2
    by_url = scan(f"file://{tmp_path}/here")
    assert [segment.content_id for segment in by_url] == ids[0]


def test_appending_leaves_the_earlier_segments_as_they_were(tmp_path: Path) -> None:
    text = "id,n\n" + "".join(f'{i},"{i}\n"\n' for i in range(40))
    path = write(tmp_path / "a.csv", text)
    before = cut(path, block=64)
    write(path, text + '40,"x"\n41,y\n')
    after = cut(path, block=64)
    # The last segment ended with the file, not at a block's end.
    assert [item.content_id for item in after][: len(before) - 1] == [item.content_id for item in before][:-1]
    assert len(after) >= len(before)


def test_another_byte_is_another_content_id(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,n\n1,a\n2,b\n3,c\n")
    before = cut(path, block=5)
    write(path, "id,n\n1,a\n2,x\n3,c\n")
    after = cut(path, block=5)
    same = [old.content_id == new.content_id for old, new in zip(before, after, strict=True)]
    assert same == [not old.start <= len("id,n\n1,a\n2,") < old.end for old in before]
    assert same.count(False) == 1


# ---------------------------------------------------------------------------------------------- the cache of scans


def poison(cache: Path) -> None:
    """Change what the cache says, so that its use can be seen."""
    (entry,) = cache.iterdir()
    rows = unseal(entry.read_text())
    rows[0]["digest"] = "poisoned"
    entry.write_text(seal(rows))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    return folder


def test_an_unchanged_file_is_not_looked_at_again(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.csv")
    fresh = scan(path, cache=cache)
    assert scan(path, cache=cache) == fresh
    poison(cache)
    assert scan(path, cache=cache)[0].digest == "poisoned"
    assert scan(path, cache=None) == fresh


def test_a_changed_file_is_noticed(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.csv")
    scan(path, cache=cache)
    poison(cache)
    write(path, "id,n\n1,b\n")
    os.utime(path, (1_000_000, 1_000_000))
    (segment,) = scan(path, cache=cache)
    assert segment.digest == cut(path)[0].digest


def test_a_file_put_in_its_place_with_the_same_size_and_time_is_noticed(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "a.csv")
    times = path.stat()
    scan(path, cache=cache)
    other = write(tmp_path / "b.csv", "id,n\n1,b\n")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)
    assert scan(path, cache=cache)[0].digest == cut(path)[0].digest


def test_another_block_size_or_name_is_another_entry(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "o" / "a.csv")
    scan(path, cache=cache)
    poison(cache)
    assert scan(path, cache=cache, block=5)[0].digest != "poisoned"
    assert scan(path, path.parent, cache=cache)[0].digest == "poisoned"


def test_a_file_written_a_moment_ago_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,n\n1,a\n")
    scan(path, cache=cache)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '[{"path": "x"}]', '[{"columns": 3}]', "null", '{"body": 3}'])
def test_a_torn_entry_is_read_over(tmp_path: Path, cache: Path, text: str) -> None:
    path = write(tmp_path / "a.csv")
    fresh = scan(path, cache=cache)
    (entry,) = cache.iterdir()
    entry.write_text(text)
    assert scan(path, cache=cache) == fresh
    assert json.loads(json.loads(entry.read_text())["body"])[0]["digest"] == fresh[0].digest


# ---------------------------------------------------------------------------------------------- one door to all kinds


def test_csv_and_parquet_together(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "id,n\n1,a\nx\n")
    pq.write_table(pa.table({"n": ["b"], "id": [2]}), tmp_path / "b.parquet")
    write(tmp_path / "c.csv", "n,id\nc,3\n")
    segments = scan(tmp_path)
    batches = list(read_segments(segments, PLAIN, lambda _: ["id", "n"]))
    rows = [row for batch in batches for row in rows_of_batch(batch)]
    assert [(row.segment, row.cells) for row in rows] == [(0, ("1", "a")), (0, None), (1, (2, "b")), (2, ("3", "c"))]
    assert [row.raw for row in rows] == ["1,a", "x", '{"n":"b","id":2}', "c,3"]
    counts = [[count for count, _ in raw_batches(item, PLAIN, lambda _: ["id"])] for item in segments]
    assert counts == [[2], [1], [1]]


def test_a_source_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    segments = scan(path)
    batches = read_segments(segments, PLAIN, lambda segment: segment.columns)
    next(batches)
    with path.open("a") as file:
        file.write("2,b\n")
    with pytest.raises(
        InputChangedError, match=r"(?s)an input changed while it was read.*a\.csv.*let the writer finish"
    ):
        next(batches)


def test_a_source_that_is_gone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    segments = scan(path)
    path.unlink()
    with pytest.raises(InputError, match=r"(?s)an input is gone.*a\.csv"):
        read(segments)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="root may read everything")
def test_a_source_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    path.chmod(0)
    with pytest.raises(InputError, match=r"(?s)an input cannot be read.*Permission denied"):
        scan(path)


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"(?s)an input cannot be read.*Is a directory"),
        open_stream(str(tmp_path), ""),
    ):
        pass
