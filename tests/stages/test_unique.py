from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.exchange import SLOTS, ExchangeWriter, load_manifest, read_frame
from daskae.stages.layout import Layout, PartLayout
from daskae.stages.unique import UniqueTask, find_duplicates, repeated_values

Row = tuple[str, str, int]
"""The two parts of a key, and the customer slot of the row."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unique")


def write_part(folder: Path, rows: list[Row], hashes: list[int], overall: int) -> PartLayout:
    frame = pl.DataFrame(
        {
            "seq": range(len(rows)),
            "slot": [slot for _, _, slot in rows],
            "key_hash": hashes,
            "key_0_0": [first for first, _, _ in rows],
            "key_0_1": [second for _, second, _ in rows],
        },
        schema={"seq": pl.UInt32, "slot": pl.UInt16, "key_hash": pl.UInt64, "key_0_0": pl.String, "key_0_1": pl.String},
    )
    files = {}
    with ExchangeWriter(folder, "keys-0") as writer:
        if rows:
            writer.append(frame, (frame["key_hash"] // 2**56).cast(pl.UInt16).to_numpy())
            file = writer.finish()
            files = {"keys-0": file.name} if file else {}
    return PartLayout(str(folder), files, (0,), (overall,), (0,))


def find(
    folder: Path, parts: list[list[Row]], hashes: list[list[int]], order: list[int], tasks: int = 1
) -> set[tuple[int, int]]:
    """Rows that are named as repeated; ``order`` says in which order the parts stand in the input."""
    before = {part: sum(len(parts[other]) for other in order[:place]) for place, part in enumerate(order)}
    layout = Layout(tuple(write_part(folder, rows, hashes[i], before[i]) for i, rows in enumerate(parts)))
    layout.save(folder / "layout.json")
    found: set[tuple[int, int]] = set()
    width = SLOTS // tasks
    for first in range(0, SLOTS, width):
        target = folder / f"task-{first}-{np.random.default_rng().integers(2**60)}"
        manifest = find_duplicates(UniqueTask(0, first, first + width, target), folder / "layout.json")
        assert load_manifest(target) == manifest
        if manifest["file"] is None:
            assert manifest["affected"] == 0
            continue
        named = read_frame([target / manifest["file"]])
        assert named.height == manifest["affected"]
        for part, seq in named.select("part", "seq").rows():
            slot = parts[part][seq][2]
            here = read_frame([target / manifest["file"]], slot, slot + 1).select("part", "seq").rows()
            assert (part, seq) in here, "a row is named in its customer's slot"
        found |= set(named.select("part", "seq").rows())
    return found


def expected(parts: list[list[Row]], order: list[int]) -> set[tuple[int, int]]:
    seen: set[tuple[str, str]] = set()
    repeated = set()
    for part in order:
        for seq, (first, second, _) in enumerate(parts[part]):
            if (first, second) in seen:
                repeated.add((part, seq))
            seen.add((first, second))
    return repeated


ROW = st.tuples(st.sampled_from(["A", "B", ""]), st.sampled_from(["A", "B", ""]), st.integers(0, SLOTS - 1))
PARTS = st.lists(st.lists(ROW, max_size=6), min_size=1, max_size=3)
HASHES = [0, 2**55, 2**63, 2**64 - 1]


@given(parts=PARTS, data=st.data())
@settings(max_examples=60)
def test_different_keys_may_share_a_hash(folder: Path, parts: list[list[Row]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(parts))))
    keys = sorted({row[:2] for rows in parts for row in rows})
    hash_of = {key: data.draw(st.sampled_from(HASHES)) for key in keys}
    hashes = [[hash_of[row[:2]] for row in rows] for rows in parts]
    found = find(folder, parts, hashes, order, data.draw(st.sampled_from([1, 2, 16])))
    assert found == expected(parts, order)


def test_no_keys_at_all(folder: Path) -> None:
    assert find(folder, [[], []], [[], []], [0, 1]) == set()


def test_the_counts(tmp_path: Path) -> None:
    rows: list[Row] = [("A", "x", 1), ("A", "x", 2), ("B", "x", 3), ("A", "x", 4)]
    layout = Layout((write_part(tmp_path, rows, [5, 5, 5, 5], 0),))
    layout.save(tmp_path / "layout.json")
    manifest = find_duplicates(UniqueTask(0, 0, SLOTS, tmp_path / "task"), tmp_path / "layout.json")
    assert (manifest["affected"], manifest["checked"]) == (2, 4)


@given(st.lists(st.integers(0, 5), max_size=15))
@settings(max_examples=40)
def test_repeated_values(values: list[int]) -> None:
    found = repeated_values(pl.Series(values, dtype=pl.UInt64)).to_list()
    assert sorted(found) == sorted({value for value in values if values.count(value) > 1})
