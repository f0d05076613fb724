from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daskae.read.records as records
from daskae.read.dialect import Dialect
from daskae.read.records import find_records, first_fields, first_record_end, last_record_end

from .naive import Record, data_records, naive_records

PLAIN = Dialect()
ALPHABET = b'a,"\n\r'
TEXTS = st.lists(st.sampled_from(list(ALPHABET)), max_size=30).map(bytes)
REGULAR = st.lists(
    st.sampled_from([b"a", b",", b"\n", b"\r\n", b'"a"', b'"a,a"', b'"a\na"', b'"""a"', b'""', b'"', b'"a\r'])
).map(b"".join)
ONE_BY_ONE, BY_PARITY = 10**9, 0


@pytest.fixture(params=["one by one", "by parity", "as shipped"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in which quotes are told apart; a huge number of allowed faults leaves only the parity path."""
    name = str(request.param)
    if name != "as shipped":
        monkeypatch.setattr(records, "_MANY", ONE_BY_ONE if name == "one by one" else BY_PARITY)
    return name


def found(data: bytes, dialect: Dialect = PLAIN, *, final: bool = True) -> tuple[list[tuple[int, int, bool]], int]:
    result = find_records(data, dialect, final=final)
    rows = zip(result.starts.tolist(), result.ends.tolist(), result.malformed.tolist(), strict=True)
    return list(rows), result.consumed


def as_found(items: list[Record]) -> list[tuple[int, int, bool]]:
    return [(item.start, item.end, item.malformed) for item in items]


def check_whole(data: bytes, dialect: Dialect = PLAIN) -> None:
    rows, consumed = found(data, dialect)
    assert rows == as_found(data_records(data, dialect.max_record_bytes))
    assert consumed == len(data)
    assert last_record_end(data, dialect, final=True) == len(data)
    if data:
        assert first_record_end(data, dialect, final=True) == naive_records(data, dialect.max_record_bytes)[0].end


def check_prefix(data: bytes, cut: int, dialect: Dialect = PLAIN) -> None:
    """What is found in a prefix is what the whole has there, and nothing that the whole has not."""
    everything = naive_records(data, dialect.max_record_bytes)
    ends = {0, *(item.end for item in everything)}
    rows, consumed = found(data[:cut], dialect, final=False)
    last = last_record_end(data[:cut], dialect, final=False)
    assert {consumed, last} <= ends
    assert max(consumed, last) <= cut
    assert rows == [row for row in as_found(data_records(data, dialect.max_record_bytes)) if row[1] <= consumed]
    for item in everything:
        if item.malformed or item.end >= cut:
            break
        assert consumed >= item.end, "a good record that is followed by another byte is whole"
        assert last >= item.end
    first = first_record_end(data[:cut], dialect, final=False)
    assert first == 0 or first == everything[0].end


@pytest.mark.usefixtures("way")
def test_every_short_text() -> None:
    for length in range(5):
        for letters in product(ALPHABET, repeat=length):
            check_whole(bytes(letters))


@pytest.mark.usefixtures("way")
def test_every_short_text_with_every_prefix() -> None:
    for letters in product(ALPHABET, repeat=4):
        for cut in range(5):
            check_prefix(bytes(letters), cut)


@given(data=TEXTS | REGULAR)
@settings(max_examples=150)
@pytest.mark.parametrize("many", [ONE_BY_ONE, BY_PARITY, records._MANY])
def test_whole_texts(many: int, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_MANY", many)
        check_whole(data)


@given(data=TEXTS | REGULAR, share=st.floats(0, 1))
@settings(max_examples=150)
@pytest.mark.parametrize("many", [ONE_BY_ONE, BY_PARITY, records._MANY])
def test_prefixes(many: int, data: bytes, share: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_MANY", many)
        check_prefix(data, round(share * len(data)))


@given(data=TEXTS | REGULAR, share=st.floats(0, 1), limit=st.integers(1, 12))
@settings(max_examples=150)
@pytest.mark.parametrize("many", [ONE_BY_ONE, BY_PARITY, records._MANY])
def test_a_small_bound_on_records(many: int, data: bytes, share: float, limit: int) -> None:
    dialect = Dialect(max_record_bytes=limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_MANY", many)
        check_whole(data, dialect)
        check_prefix(data, round(share * len(data)), dialect)


@given(data=TEXTS)
@settings(max_examples=100)
def test_without_quoting_every_line_is_a_record(data: bytes) -> None:
    dialect = Dialect(quote="")
    lines = [line for line in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if line]
    rows, consumed = found(data, dialect)
    assert [data[start:end].rstrip(b"\r\n") for start, end, _ in rows] == lines
    assert not any(malformed for _, _, malformed in rows)
    assert consumed == len(data)


@given(data=TEXTS, cuts=st.lists(st.integers(1, 9), min_size=1, max_size=12))
@settings(max_examples=200)
def test_reading_on_from_what_was_consumed_finds_everything(data: bytes, cuts: list[int]) -> None:
    rows: list[tuple[int, int, bool]] = []
    start = 0
    for stop in [*(sum(cuts[: i + 1]) for i in range(len(cuts))), len(data)]:
        stop, final = min(stop, len(data)), stop >= len(data)
        piece, consumed = found(data[start:stop], final=final)
        rows += [(start + first, start + last, bad) for first, last, bad in piece]
        start += consumed
        if final:
            break
    assert rows == as_found(data_records(data))


def test_one_unclosed_quote_costs_one_line() -> None:
    rows, _ = found(b'1,"open\n2,b\n3,c\n')
    assert rows == [(0, 8, True), (8, 12, False), (12, 16, False)]


def test_a_lone_return_at_the_end_may_be_half_a_line_end() -> None:
    assert found(b"a\r", final=False) == ([], 0)
    assert found(b"a\r") == ([(0, 2, False)], 2)
    assert last_record_end(b"a\nb\r", PLAIN, final=False) == 2
    assert first_record_end(b"a\r", PLAIN, final=False) == 0


def test_an_open_quote_waits_no_longer_than_the_bound() -> None:
    dialect = Dialect(max_record_bytes=8)
    assert found(b'"aaa\n', dialect, final=False) == ([], 0)
    assert found(b'"aaa\nb\nc\nd', dialect, final=False) == ([(0, 5, True), (5, 7, False), (7, 9, False)], 9)


@pytest.mark.parametrize(
    ("data", "dialect", "fields"),
    [
        (b'a,"b,c",\n', PLAIN, ["a", "b,c", ""]),
        (b'"a""b"\r\n', PLAIN, ['a"b']),
        (b"a;'b;c'\n", Dialect(";", "'"), ["a", "b;c"]),
        (b'a,"b\n', Dialect(quote=""), ["a", '"b']),
        (b" a \t b\n", Dialect("whitespace"), ["a", "b"]),
        (b"caf\xe9,b", Dialect(encoding="latin-1"), ["café", "b"]),
        (b"", PLAIN, []),
    ],
)
def test_first_fields(data: bytes, dialect: Dialect, fields: list[str]) -> None:
    assert first_fields(data, dialect) == fields
