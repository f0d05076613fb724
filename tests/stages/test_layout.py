from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.partition import ExchangeFile, PartitionRef, PartitionResult, Segment
from daskae.stages.layout import Layout, build_layout

Part = list[tuple[str, int, int]]
"""Label, start and rows of each segment of a partition."""


def layout_of(parts: list[Part]) -> Layout:
    refs, results = [], []
    for i, part in enumerate(parts):
        segments = tuple(Segment("", label, "csv", start, start + 1, 1, "", (), "") for label, start, _ in part)
        refs.append(PartitionRef(segments))
        files = {"rows": ExchangeFile(f"rows-{i}", 1, 1, "")} if i != 1 else {}
        rows = tuple(count for _, _, count in part)
        results.append(PartitionResult("p", tuple(str(s) for s in part), rows, (0,) * len(part), {}, {}, files))
    return build_layout(refs, results, [Path(f"/maps/{i}") for i in range(len(parts))])


PLACES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 4)),
    unique_by=lambda x: x[:2],
    min_size=1,
    max_size=9,
)


@given(places=PLACES, cuts=st.lists(st.booleans(), min_size=9, max_size=9))
@settings(max_examples=80)
def test_a_row_has_the_place_it_has_in_the_whole_input(places: Part, cuts: list[bool]) -> None:
    parts: list[Part] = [[]]
    for place, new in zip(places, cuts, strict=False):
        if new and parts[-1]:
            parts.append([])
        parts[-1].append(place)
    layout = layout_of(parts)
    everything = [(label, start, row) for label, start, rows in sorted(places) for row in range(rows)]
    for i, part in enumerate(parts):
        rows = [(label, start, row) for label, start, count in part for row in range(count)]
        found = layout.positions(i, pl.Series(range(len(rows)), dtype=pl.UInt32))
        assert found.tolist() == [everything.index(row) for row in rows]


def test_what_tasks_are_told(tmp_path: Path) -> None:
    layout = layout_of([[("a", 0, 3), ("b", 0, 2)], [("a", 7, 4)], [("c", 0, 0)]])
    assert layout.parts[0].starts == (0, 3)
    assert (layout.parts[0].overall, layout.parts[0].in_file) == ((0, 7), (0, 0))
    assert (layout.parts[1].overall, layout.parts[1].in_file) == ((3,), (3,))
    assert layout.paths("rows") == [(0, Path("/maps/0/rows-0")), (2, Path("/maps/2/rows-2"))]
    assert layout.paths("keys-0") == []
    layout.save(tmp_path / "layout.json")
    assert Layout.load(tmp_path / "layout.json") == layout
