import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.hashing import bucket_of, digest_bytes, digest_texts, hash_text

# Where rows go and in which order customers stand depends on these: a change here changes every output.
KNOWN: dict[str | None, int] = {
    "": 0x0000000000000000,
    "a": 0xDCA5278A47B45560,
    "C1": 0x2AE89D5219BB0C81,
    "C2": 0xEA6A5F06C28F2B60,
    "12345": 0xE6E8DCDF5A233339,
    "007": 0xCD7E8AA5F43B3549,
    "customer-42@mail.example": 0x6C46F8F286706560,
    "Ĉ5": 0xEF501771F07D16FF,
    "a\0": 0xB96172911D23A605,
    None: 0x6A09E667F3BCC908,
    "x" * 100: 0x15DF2DDD5A2F6C78,
}
DIGESTS: dict[tuple[str, ...], str] = {
    (): "99aa06d3014798d86001c324468d497f",
    ("",): "d3d6486a90aeaa167eda146a64d327f8",
    ("a",): "be4a360e8566866391ddda47919279f2",
    ("a", "b"): "6d9c4da24648e62c97910860d0177cd9",
    ("ab",): "e51a3be34ba7babb7d3cc0692f3a3d45",
    ("é", ""): "2f90ff15a771e7f6cb46560a01c4bd64",
}


def hash_one(text: str | None) -> int:
    return int(hash_text(pl.Series([text], dtype=pl.String))[0])


@pytest.mark.parametrize("text", KNOWN)
def test_known_hashes(text: str | None) -> None:
    assert hash_one(text) == KNOWN[text]


@pytest.mark.parametrize("texts", DIGESTS)
def test_known_digests(texts: tuple[str, ...]) -> None:
    assert digest_texts(*texts) == DIGESTS[texts]


def test_digests_of_bytes() -> None:
    assert digest_bytes(b"") == "99aa06d3014798d86001c324468d497f"
    assert digest_bytes(memoryview(b"abc")) == digest_bytes(b"abc") == digest_bytes(np.frombuffer(b"abc", np.uint8))


def naive_hash(text: str | None) -> int:
    """The definition, one text at a time in Python's integers."""
    if text is None:
        return 0x6A09E667F3BCC908
    data, mask = text.encode(), 2**64 - 1
    state = len(data) * 0x9E3779B97F4A7C15 & mask
    for i in range(0, len(data), 8):
        state = (state ^ int.from_bytes(data[i : i + 8], "little")) * 0xFF51AFD7ED558CCD & mask
        state ^= state >> 33
    state = state * 0xC4CEB9FE1A85EC53 & mask
    return state ^ (state >> 33)


TEXTS = st.none() | st.text(max_size=30) | st.text("ab\0", max_size=20)


@given(st.lists(TEXTS, max_size=20))
@settings(max_examples=100)
def test_the_fast_way_is_the_definition(texts: list[str | None]) -> None:
    assert hash_text(pl.Series(texts, dtype=pl.String)).tolist() == [naive_hash(text) for text in texts]


@given(st.lists(TEXTS, max_size=20), st.integers(0, 20), st.integers(0, 20))
@settings(max_examples=100)
def test_a_slice_hashes_as_the_whole(texts: list[str | None], start: int, length: int) -> None:
    series = pl.Series(texts, dtype=pl.String)
    whole = hash_text(series).tolist()
    assert hash_text(series.slice(start, length)).tolist() == whole[start : start + length]
    assert (
        hash_text(series.filter(pl.Series([i % 2 == 0 for i in range(len(texts))], dtype=pl.Boolean))).tolist()
        == whole[::2]
    )
    assert hash_text(pl.concat([series.head(start), series.tail(-start)]) if start else series).tolist() == whole


def test_texts_that_only_look_alike() -> None:
    texts = ["", "\0", "a", "a\0", "a\0\0\0\0\0\0\0", "aaaaaaaa", "aaaaaaaa\0", None, "A", "ä", "a\u0308"]
    hashes = hash_text(pl.Series(texts, dtype=pl.String)).tolist()
    assert len(set(hashes)) == len(texts)


def test_a_text_behind_a_mask_leaves_no_trace() -> None:
    frame = pl.DataFrame({"t": ["secret", "b"]})
    masked = frame.select(pl.when(pl.col("t") != "secret").then(pl.col("t")))["t"]
    assert hash_text(masked).tolist() == [naive_hash(None), naive_hash("b")]


@pytest.mark.parametrize("form", ["C{}", "{:08d}", "customer-{}@mail.example", "{}", "{}.0"])
@pytest.mark.parametrize("buckets", [2, 16, 256])
def test_ids_spread_over_buckets(form: str, buckets: int) -> None:
    rows = 20_000
    hashes = hash_text(pl.Series([form.format(i) for i in range(rows)]))
    assert len(np.unique(hashes)) == rows
    counts = np.bincount(bucket_of(hashes, buckets), minlength=buckets)
    expected = rows / buckets
    # Chi-squared has a mean of buckets - 1 and a deviation of sqrt(2 (buckets - 1)); six deviations are not luck.
    chi = float(((counts - expected) ** 2 / expected).sum())
    assert chi < buckets - 1 + 6 * (2 * (buckets - 1)) ** 0.5


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
@settings(max_examples=50)
def test_buckets_are_ranges_of_the_hash(values: list[int]) -> None:
    hashes = np.array(values, np.uint64)
    for buckets in (1, 2, 256, 65_536):
        assert bucket_of(hashes, buckets).tolist() == [value * buckets >> 64 for value in values]


def test_digests_tell_sequences_apart() -> None:
    assert (
        len(
            {
                digest_texts(),
                digest_texts(""),
                digest_texts("", ""),
                digest_texts("ab"),
                digest_texts("a", "b"),
                digest_texts("1:a"),
            }
        )
        == 6
    )
    assert digest_texts("\udcff") == digest_texts("\udcff")
