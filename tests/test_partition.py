import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.partition import ExchangeFile, PartitionRef, PartitionResult, Segment, starting_rows

SEGMENT = Segment("/in/a.csv", "a.csv", "csv", 0, 100, 100, "d1", ("id", "n"), "100-1-2", "", True)
RESULT = PartitionResult(
    "p", ("s1", "s2"), (3, 4), (1, 0), {"positive": 1}, {"positive": {"checked": 7, "affected": 1}},
    {"rows": ExchangeFile("rows-1.arrow", 6, 100, "c")},
)  # fmt: skip


def test_what_makes_the_content_of_a_segment() -> None:
    same = [replace(SEGMENT, path="/else/a.csv"), replace(SEGMENT, identity="x"), replace(SEGMENT, nbytes=7)]
    assert {segment.content_id for segment in same} == {SEGMENT.content_id}
    others = [
        replace(SEGMENT, label="b.csv"),
        replace(SEGMENT, kind="parquet"),
        replace(SEGMENT, start=1),
        replace(SEGMENT, end=99),
        replace(SEGMENT, digest="d2"),
        replace(SEGMENT, columns=("idn",)),
        replace(SEGMENT, columns=("n", "id")),
        replace(SEGMENT, compression="gzip"),
    ]
    assert len({segment.content_id for segment in [SEGMENT, *others]}) == 9
    assert SEGMENT.content_id == "70cf6a174a613daaaad3b2e1a349132b"


def test_a_partition_is_its_segments_in_their_order() -> None:
    other = replace(SEGMENT, label="b.csv", nbytes=5)
    ref = PartitionRef((SEGMENT, other))
    assert (ref.nbytes, str(ref)) == (105, "a.csv [0:100] and 1 more")
    assert str(PartitionRef((SEGMENT,))) == "a.csv [0:100]"
    assert len({ref.content_id, PartitionRef((other, SEGMENT)).content_id, PartitionRef((SEGMENT,)).content_id}) == 3
    assert pickle.loads(pickle.dumps(ref)).content_id == ref.content_id


def test_a_result_comes_back_from_json() -> None:
    assert PartitionResult.from_json(json.loads(json.dumps(RESULT.to_json()))) == RESULT
    assert (RESULT.rows, RESULT.rejected) == (7, 1)


@pytest.mark.parametrize("key", ["part_id", "segment_ids", "segment_rows", "files", "rule_states"])
def test_a_result_with_a_part_missing(key: str) -> None:
    data = RESULT.to_json()
    del data[key]
    with pytest.raises((KeyError, TypeError), match=key):
        PartitionResult.from_json(data)


def test_a_result_with_too_much_in_it() -> None:
    with pytest.raises(TypeError, match="more"):
        PartitionResult.from_json({**RESULT.to_json(), "more": 1})


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 5)), unique=True, max_size=12), st.data())
@settings(max_examples=60)
def test_rows_are_numbered_in_path_order(places: list[tuple[str, int]], data: st.DataObject) -> None:
    segments = [replace(SEGMENT, label=label, start=start) for label, start in places]
    rows = [data.draw(st.integers(0, 4)) for _ in segments]
    overall, in_file = starting_rows(segments, rows)
    for i, place in enumerate(places):
        before = [j for j, other in enumerate(places) if other < place]
        assert overall[i] == sum(rows[j] for j in before)
        assert in_file[i] == sum(rows[j] for j in before if places[j][0] == place[0])
