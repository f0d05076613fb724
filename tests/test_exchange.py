import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.errors import DaskaeError, ExchangeError
from daskae.exchange import (
    MANIFEST,
    SLOTS,
    ExchangeWriter,
    commit,
    files_are_whole,
    load_manifest,
    read_frame,
    read_slots,
    slots_of,
)
from daskae.hashing import file_checksum
from daskae.partition import ExchangeFile

Slots = np.ndarray[tuple[int], np.dtype[np.uint16]]


def write(folder: Path, *batches: list[int], buckets: int = 1) -> ExchangeFile:
    """Write batches of rows with these slots; a row is numbered over all of them."""
    done = 0
    with ExchangeWriter(folder, "rows", buckets) as writer:
        for slots in batches:
            frame = pl.DataFrame(
                {"n": range(done, done + len(slots)), "s": slots}, schema={"n": pl.Int64, "s": pl.Int64}
            )
            writer.append(frame, np.array(slots, np.uint16))
            done += len(slots)
        file = writer.finish()
    assert file is not None
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exchange")


SLOT = st.integers(0, 5) | st.integers(0, SLOTS - 1)


@given(batches=st.lists(st.lists(SLOT, max_size=12), max_size=3).filter(any), first=SLOT, width=st.integers(1, SLOTS))
@settings(max_examples=60)
def test_slots_come_back_in_order(folder: Path, batches: list[list[int]], first: int, width: int) -> None:
    path = folder / write(folder, *batches).name
    last = min(SLOTS, first + width)
    flat = [(n, slot) for n, slot in enumerate(slot for batch in batches for slot in batch)]
    expected, done = [], 0
    for batch in batches:
        rows = flat[done : done + len(batch)]
        expected += sorted((row for row in rows if first <= row[1] < last), key=lambda row: row[1])
        done += len(batch)
    found = [tuple(row.values()) for table in read_slots(path, first, last) for row in table.to_pylist()]
    assert found == expected
    assert read_frame([path], first, last).height == len(expected)
    path.unlink()


@pytest.mark.parametrize(("buckets", "groups"), [(1, 2), (8, 8), (256, 32)])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (3, 17), (64, 128), (255, SLOTS), (0, SLOTS)])
def test_a_file_of_many_batches_is_read_where_needed(
    tmp_path: Path, first: int, last: int, buckets: int, groups: int
) -> None:
    slots = np.random.default_rng(1).integers(0, SLOTS, 40_000).tolist()
    path = tmp_path / write(tmp_path, slots, slots[:9], slots[::-1], buckets=buckets).name
    with pa.OSFile(str(path)) as source:
        assert pa.ipc.open_file(source).num_record_batches == 3 * groups
    frame = read_frame([path], first, last)
    assert sorted(frame["n"]) == [n for n, slot in enumerate(slots + slots[:9] + slots[::-1]) if first <= slot < last]
    assert read_frame([path], first, last, ["s"]).equals(frame.select("s"))


def test_some_columns_of_several_files(tmp_path: Path) -> None:
    paths = [tmp_path / write(tmp_path, [3, 1]).name, tmp_path / write(tmp_path, [1, 0]).name]
    assert read_frame(paths, 1, 2, ["n"]).to_dict(as_series=False) == {"n": [1, 0]}
    assert read_frame(paths, 7, 9).shape == (0, 0)
    assert read_frame([]).shape == (0, 0)


def test_rows_of_no_slot(tmp_path: Path) -> None:
    with ExchangeWriter(tmp_path, "rejects") as writer:
        writer.append_unsorted(pl.DataFrame({"n": [3, 1, 2]}))
        file = writer.finish()
    assert file is not None
    assert read_frame([tmp_path / file.name])["n"].to_list() == [3, 1, 2]
    assert read_frame([tmp_path / file.name], 0, 1)["n"].to_list() == [3, 1, 2]
    assert read_frame([tmp_path / file.name], 1, SLOTS).height == 0


def test_nothing_written_is_no_file(tmp_path: Path) -> None:
    with ExchangeWriter(tmp_path, "rows") as writer:
        assert writer.finish() is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_described(tmp_path: Path) -> None:
    file = write(tmp_path, [1, 2, 3])
    path = tmp_path / file.name
    assert (file.rows, file.nbytes) == (3, path.stat().st_size)
    assert (file.nbytes, file.checksum) == file_checksum(path)
    assert file.name.startswith("rows-")
    assert files_are_whole(tmp_path, [file], thorough=True)


def test_the_bytes_depend_on_the_rows_only(tmp_path: Path) -> None:
    assert write(tmp_path, [5, 1, 5]).checksum == write(tmp_path, [5, 1, 5]).checksum


@pytest.mark.parametrize("place", [0, 8, 60, -30, -1])
def test_a_flipped_bit_is_found(tmp_path: Path, place: int) -> None:
    file = write(tmp_path, list(range(50)))
    data = bytearray((tmp_path / file.name).read_bytes())
    data[place] ^= 1
    (tmp_path / file.name).write_bytes(data)
    assert files_are_whole(tmp_path, [file], thorough=False)
    assert not files_are_whole(tmp_path, [file], thorough=True)


def test_a_file_of_another_size_or_none(tmp_path: Path) -> None:
    file = write(tmp_path, [1])
    assert not files_are_whole(tmp_path, [replace(file, nbytes=file.nbytes + 1)], thorough=False)
    (tmp_path / file.name).unlink()
    assert not files_are_whole(tmp_path, [file], thorough=False)
    assert files_are_whole(tmp_path, [], thorough=True)


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "text"])
def test_a_file_that_cannot_be_read(tmp_path: Path, damage: str) -> None:
    path = tmp_path / write(tmp_path, list(range(99))).name
    whole = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes({"empty": b"", "cut": whole[:-40], "text": b"not arrow" * 99}[damage])
    with pytest.raises(ExchangeError, match=rf"(?s)an intermediate file is damaged or gone.*{path.name}"):
        list(read_slots(path, 0, SLOTS))


def test_slots_are_the_high_bits() -> None:
    hashes = np.array([0, 2**56 - 1, 2**56, 2**64 - 1], np.uint64)
    assert slots_of(hashes).tolist() == [0, 0, 1, 255]


# ------------------------------------------------------------------------------------------------------- the commit


def test_the_first_attempt_wins(tmp_path: Path) -> None:
    first, second = {"file": "one"}, {"file": "two"}
    assert commit(tmp_path, first) == first
    assert commit(tmp_path, second) == first
    assert load_manifest(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def result(token: str, checksum: str = "aa", nbytes: int = 9, rows: int = 3, **more: Any) -> dict[str, Any]:
    file = {"name": f"rows-{token * 16}.arrow", "rows": 3, "nbytes": nbytes, "checksum": checksum}
    return {"file": file["name"], "rows": rows, "files": [file], **more}


@pytest.mark.parametrize(
    ("second", "named"),
    [(result("b", checksum="bb"), r"rows\.arrow"), (result("b", rows=4), "rows"), (result("b", parts=[1, 2]), "parts")],
)
def test_an_attempt_with_another_result_is_told(second: dict[str, Any], named: str, tmp_path: Path) -> None:
    first = result("a", parts=[1, 3])
    commit(tmp_path, first)
    with pytest.raises(DaskaeError, match=rf"gave another result(.|\n)*another value of {named}"):
        commit(tmp_path, {"parts": [1, 3], **second})
    assert load_manifest(tmp_path) == first
    assert commit(tmp_path, second, compare=False) == first


def test_attempts_may_differ_in_names_times_and_the_cut_of_their_files(tmp_path: Path) -> None:
    first = result("a", states={"rule": {"seconds": 0.5}})
    commit(tmp_path, first)
    assert commit(tmp_path, result("b", states={"rule": {"seconds": 0.7}})) == first
    assert commit(tmp_path, result("b", checksum="bb", nbytes=11)) == first
    assert commit(tmp_path, {**result("b"), "files": {"rows": result("b")["files"][0]}}) == first


def test_no_manifest(tmp_path: Path) -> None:
    assert load_manifest(tmp_path) is None
    assert load_manifest(tmp_path / "nothing") is None


def torn(whole: str) -> list[str]:
    outer = json.loads(whole)
    return [
        "", whole[:-1], whole[: len(whole) // 2], "{}", "[]", "null", "7", '{"body": 1, "checksum": "x"}',
        json.dumps({**outer, "body": outer["body"].replace("one", "two")}), json.dumps({**outer, "checksum": "0" * 32}),
    ]  # fmt: skip


@pytest.mark.parametrize("which", range(10))
def test_a_torn_manifest_is_none_and_is_written_over(tmp_path: Path, which: int) -> None:
    commit(tmp_path, {"file": "one"})
    path = tmp_path / MANIFEST
    path.write_text(torn(path.read_text())[which])
    assert load_manifest(tmp_path) is None
    assert commit(tmp_path, {"file": "two"}) == {"file": "two"}
    assert load_manifest(tmp_path) == {"file": "two"}
    assert [item.name for item in tmp_path.iterdir()] == [MANIFEST]


def test_bytes_that_are_no_text_are_a_torn_manifest(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe\x00")
    assert load_manifest(tmp_path) is None


def test_an_attempt_that_fails_before_the_link_leaves_nothing_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no link")

    with monkeypatch.context() as patch:
        patch.setattr("os.link", fail)
        with pytest.raises(OSError, match="no link"):
            commit(tmp_path, {"file": "one"})
    assert list(tmp_path.iterdir()) == []
    assert commit(tmp_path, {"file": "two"}) == {"file": "two"}
