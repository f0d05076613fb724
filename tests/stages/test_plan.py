from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.partition import PartitionRef, PartitionResult, Segment
from daskae.read.dialect import Dialect
from daskae.run.inputs import Source
from daskae.run.plan import BUCKET_BYTES, arrange, bucket_count

Known = dict[tuple[str, ...], PartitionResult]


def segment(label: str, nbytes: int = 10, start: int = 0) -> Segment:
    return Segment(f"/in/{label}", label, "csv", start, start + nbytes, nbytes, f"{label}-{start}", ("id",), "")


def known_from(refs: tuple[PartitionRef, ...]) -> Known:
    """What a run of these partitions leaves for later runs."""
    found: Known = {}
    for ref in refs:
        ids = tuple(item.content_id for item in ref.segments)
        found[ids] = PartitionResult(ref.content_id, ids, (1,) * len(ids), (0,) * len(ids), {}, {})
    return found


def labels(refs: tuple[PartitionRef, ...]) -> list[list[str]]:
    return [[item.label for item in ref.segments] for ref in refs]


FILES = [segment(name) for name in "abcdefgh"]


def test_small_files_are_packed_in_path_order() -> None:
    refs, reused = arrange(list(reversed(FILES)), {}, 30)
    assert labels(refs) == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]
    assert reused == {}


def test_a_large_segment_stands_alone() -> None:
    refs, _ = arrange([segment("a"), segment("b", 100), segment("c"), segment("d")], {}, 30)
    assert labels(refs) == [["a"], ["b"], ["c", "d"]]


def test_segments_of_one_file_stay_in_their_order() -> None:
    refs, _ = arrange([segment("a", 10, 30), segment("b"), segment("a", 10, 4)], {}, 10)
    assert [ref.segments[0].start for ref in refs] == [4, 30, 0]


def test_the_same_input_again_runs_nothing() -> None:
    before, _ = arrange(FILES, {}, 30)
    after, reused = arrange(FILES, known_from(before), 30)
    assert after == before
    assert set(reused) == {ref.content_id for ref in before}


@pytest.mark.parametrize("name", ["_", "cc", "z"])
def test_a_new_file_keeps_the_earlier_packs(name: str) -> None:
    before, _ = arrange(FILES, {}, 30)
    after, reused = arrange([*FILES, segment(name)], known_from(before), 30)
    assert [ref for ref in after if ref.content_id not in reused] == [PartitionRef((segment(name),))]
    assert sorted(labels(after)) == sorted([*labels(before), [name]])
    assert list(after) == sorted(after, key=lambda ref: ref.segments[0].order)


def test_a_removed_file_dissolves_only_its_own() -> None:
    before, _ = arrange(FILES, {}, 30)
    after, reused = arrange([item for item in FILES if item.label != "e"], known_from(before), 30)
    assert labels(after) == [["a", "b", "c"], ["d", "f"], ["g", "h"]]
    assert [ref.content_id in reused for ref in after] == [True, False, True]


def test_a_changed_file_dissolves_only_its_own() -> None:
    before, _ = arrange(FILES, {}, 30)
    changed = [replace(item, digest="new") if item.label == "a" else item for item in FILES]
    after, reused = arrange(changed, known_from(before), 30)
    assert labels(after) == labels(before)
    assert [ref.content_id in reused for ref in after] == [False, True, True]


def test_results_that_overlap_are_not_both_taken() -> None:
    whole, _ = arrange(FILES[:4], {}, 100)
    halves, _ = arrange(FILES[:4], {}, 20)
    after, _ = arrange(FILES[:4], {**known_from(halves), **known_from(whole)}, 100)
    assert after == whole


def test_a_result_of_no_segments_is_passed_over() -> None:
    empty = PartitionResult("x", (), (), (), {}, {})
    refs, reused = arrange(FILES[:2], {(): empty}, 100)
    assert (labels(refs), reused) == ([["a", "b"]], {})


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    kept=st.sets(st.integers(0, 11)),
    first=st.integers(1, 80),
    second=st.integers(1, 80),
)
@settings(max_examples=60)
def test_every_segment_is_in_one_partition(sizes: list[int], kept: set[int], first: int, second: int) -> None:
    everything = [segment(f"{i:02d}", size) for i, size in enumerate(sizes)]
    before, _ = arrange([item for i, item in enumerate(everything) if i in kept], {}, first)
    after, reused = arrange(everything, known_from(before), second)
    assert sorted(item.label for ref in after for item in ref.segments) == [item.label for item in everything]
    assert set(reused) == {ref.content_id for ref in before}
    assert all(ref.nbytes <= second or len(ref.segments) == 1 for ref in after if ref.content_id not in reused)


def source(*segments: Segment) -> Source:
    return Source(segments, Dialect(), ("id",), len(segments), sum(item.nbytes for item in segments))


@pytest.mark.parametrize(
    ("nbytes", "buckets"),
    [
        (1, 1), (BUCKET_BYTES, 1), (BUCKET_BYTES + 1, 2), (2 * BUCKET_BYTES, 2), (2 * BUCKET_BYTES + 1, 4),
        (100 * BUCKET_BYTES, 128), (10**6 * BUCKET_BYTES, 256),
    ],
)  # fmt: skip
def test_buckets_follow_the_bytes(nbytes: int, buckets: int) -> None:
    assert bucket_count(source(segment("a", nbytes))) == buckets
    half = nbytes // 2
    if half:
        assert bucket_count(source(segment("a", half), segment("b", nbytes - half))) == buckets


def test_packed_bytes_count_for_more() -> None:
    packed = replace(segment("a", BUCKET_BYTES), compression="gzip")
    assert bucket_count(source(packed)) == 8
    assert bucket_count(source(replace(segment("a", BUCKET_BYTES), kind="parquet"))) == 8


def test_no_bytes_known() -> None:
    assert bucket_count(source(segment("a", 0))) == 1
