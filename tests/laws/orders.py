"""Strategies: small order files as bytes, with the dirt that real ones have."""

from hypothesis import Phase, settings
from hypothesis import strategies as st

from tests.support import HEADER


def whole_runs(count: int) -> settings:
    """Settings for a property whose every example is a whole run: too slow to look for the smallest that fails."""
    return settings(max_examples=count, phases=(Phase.explicit, Phase.generate))


HEADER_LINE = ",".join(HEADER).encode()
FIELDS = len(HEADER)

ORDER_IDS = st.sampled_from([b"O1", b"O2", b"O3", b"O4", b"O5", b"O6", b"NA", b'"O7"'])
CUSTOMERS = st.sampled_from([b"C1", b"C2", b"00C3", b"C4", b"None", "Ĉ5".encode(), b'"C6"', b"C7 ", b"", b"  ", b'""'])
BAD_DATES = {"2023-02-30", "tomorrow", "", "01/02/2023"}
GOOD_DATES = [
    "2023-01-31", "2023-02-01 00:00:00", "2023-02-28 23:59:59", "2024-02-29T12:00:00", "2024-03-01 08:15",
    "2022-12-31 10:00:00.5", " 2023-05-05 ", '"2023-06-06"',
]  # fmt: skip
BAD_AMOUNTS = {"oops", "0.00001", "nan", "1,5", "", "abc", "1_000"}
GOOD_AMOUNTS = ["5", "10.00", "0.1", "0.2", "12.3456", " 7.5 ", "-3.25", "1e2", '"99.99"', "100000000.01"]
BAD_QUANTITIES = {"many"}
LOW_QUANTITIES = {"0", "-1"}


def _sampled(good: list[str], bad: set[str]) -> st.SearchStrategy[bytes]:
    return st.sampled_from([text.encode() for text in [*good, *sorted(bad)]])


DATES = _sampled(GOOD_DATES, BAD_DATES)
AMOUNTS = _sampled([*GOOD_AMOUNTS, '"1,5"'], BAD_AMOUNTS)
QUANTITIES = _sampled(["1", "2", "", "3.0"], BAD_QUANTITIES | LOW_QUANTITIES)
PLAIN_NOTES = st.sampled_from([b"", b"plain", b"a b", "say ¡hi".encode(), b"5' tall", b'in"side'])
QUOTED_TEXT = st.text(st.sampled_from(list('ab,"\n\r é')), max_size=8)


def quoted(text: str) -> bytes:
    """Write a text as a quoted field."""
    return b'"' + text.replace('"', '""').encode() + b'"'


NOTES = PLAIN_NOTES | QUOTED_TEXT.map(quoted)
INVALID = st.sampled_from([b"caf\xe9", b"\xff\xfe", b"ok\x80", b'"\xc3("'])


def _cells(note: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    return st.tuples(ORDER_IDS, CUSTOMERS, DATES, AMOUNTS, QUANTITIES, note).map(list)


# Most cells of a row should be good, or nothing would ever get past the contract.
GOOD = st.tuples(
    st.sampled_from([b"O1", b"O2", b"O3", b"O4"]),
    st.sampled_from([b"C1", b"C2", b"C3", b"00C3", b'"C,4"']),
    st.sampled_from([b"2023-01-31", b"2023-02-01 00:00:00", b"2024-02-29 12:00:00"]),
    st.sampled_from([b"5", b"10.00", b"0.1", b"12.3456"]),
    st.sampled_from([b"1", b"2"]),
    NOTES,
).map(list)
SHORT = _cells(NOTES).flatmap(lambda cells: st.integers(1, FIELDS - 1).map(lambda count: cells[:count]))
LONG = _cells(NOTES).map(lambda cells: [*cells, b"extra"])
ROWS = st.one_of(
    GOOD, GOOD, GOOD, _cells(NOTES), _cells(NOTES), _cells(INVALID), SHORT, LONG, st.just([HEADER_LINE])
).map(b",".join)  # fmt: skip
MALFORMED = st.sampled_from(
    [b'O9,"open', b'O9,C1,2023-01-01,5,1,"a"b', b'"O9', b'O9,C1,"2023-01-01"x,5,1,""', b'O9,""",']
)
ENDS = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r\n", b"\n\n", b"\r\n\r\n\n"])


@st.composite
def records(
    draw: st.DrawFn, rows: st.SearchStrategy[bytes] = ROWS, ends: st.SearchStrategy[bytes] = ENDS
) -> list[bytes]:
    """Records with their line ends, some of them again; what is whole in itself may be cut anywhere between them."""
    found = draw(st.lists(st.tuples(rows, ends).map(b"".join), min_size=1, max_size=14))
    again = draw(st.lists(st.sampled_from(found), max_size=4))
    # A last copy never runs into the next row, since each carries its own line end.
    return draw(st.permutations(found + again)) if again else found


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A header line, with a byte order mark or without."""
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + HEADER_LINE + draw(st.sampled_from([b"\n", b"\r\n"]))
