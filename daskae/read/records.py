"""Where records begin and end in CSV bytes, whatever is in the quotes.

A record is one data line, or several when a quoted field holds line ends. The rules, which make the record ends of a
file a property of its bytes alone and so the same for every block size:

- A quote opens a field only at the field's start; elsewhere in an unquoted field it is an ordinary character.
- A quoted field ends at a quote that is not doubled; a delimiter, a line end or the end of the input must follow.
- A record that breaks this, never closes its quote, or is longer than ``max_record_bytes``, is *malformed*: its first
  physical line is one rejected record, and reading resumes at the next line.
- What follows an escape, where the dialect has one, is an ordinary character anywhere; a record that the source ends
  behind an escape is malformed as a whole.

Bytes without quotes never reach the slow path. Where there are quotes, line ends inside and outside of them are told
apart by quote parity with array operations; at a quote that stands where none may, that one record is matched by itself
and parity starts anew behind it. Only bytes where irregular quotes are the rule are matched record by record.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskae.read.dialect import WHITESPACE, Dialect
from daskae.read.marks import ends_in_escape, with_plain_marks

Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Records:
    """The records found at the start of a buffer.

    ``starts[i]:ends[i]`` is record i with its line end. Blank lines are no records.
    """

    starts: Offsets
    ends: Offsets
    malformed: NDArray[np.bool_]
    consumed: int
    """Bytes up to the end of the last whole record, blank lines included."""


def find_records(data: bytes, dialect: Dialect, *, final: bool) -> Records:
    """Find all whole records in bytes that begin at a record start.

    Parameters
    ----------
    data : bytes
    dialect : Dialect
    final : bool
        Whether the source ends here; if not, what may go on in later bytes is left over.
    """
    return _find(with_plain_marks(data, dialect, final=final), dialect, final)


def _find(data: bytes, dialect: Dialect, final: bool) -> Records:
    """Find the records of bytes with plain marks."""
    ends = line_ends(data, final)
    malformed = np.empty(0, np.int64)
    if dialect.quote_byte and dialect.quote_byte in data:
        ends, malformed = _quoted_ends(data, ends, dialect, final)
    if _too_long(ends, dialect):
        ends, malformed = _matched_ends(data, dialect, final)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends
    flags = np.zeros(len(ends), bool)
    flags[np.searchsorted(ends, malformed)] = True
    if final and ends_in_escape(data, dialect):
        flags[-1] = True
    keep = _not_blank(data, starts, ends, dialect) | flags
    return Records(starts[keep], ends[keep], flags[keep], int(ends[-1]) if len(ends) else 0)


def last_record_end(data: bytes, dialect: Dialect, *, final: bool) -> int:
    """Return how many leading bytes are whole records; cheaper than :func:`find_records` where nothing is quoted."""
    if final:
        return len(data)
    data = with_plain_marks(data, dialect, final=final)
    if dialect.quote_byte and dialect.quote_byte in data:
        return _quoted_last_end(data, dialect)
    return _last_line_end(data, 0, len(data))


def _last_line_end(data: bytes, start: int, stop: int) -> int:
    """Return the end of the last line that ends in ``[start, stop)``, or ``start``; half a CRLF is none."""
    usable = stop - 1 if stop == len(data) and data.endswith(b"\r") else stop
    return max(data.rfind(b"\n", start, usable), data.rfind(b"\r", start, usable), start - 1) + 1


def first_record_end(data: bytes, dialect: Dialect, *, final: bool) -> int:
    """Return the end of the first record, or 0 when it is not whole yet."""
    data = with_plain_marks(data, dialect, final=final)
    if dialect.quote_byte and dialect.quote_byte in data:
        consumed = 0
        for end, _ in _matched(data, dialect, final):
            consumed = end
            break
        return consumed
    line = _LINE_END.search(data)
    if line is None or (not final and line.end() == len(data) and line[0] == b"\r"):
        return len(data) if final else 0
    return line.end()


def header_end(data: bytes, dialect: Dialect) -> int:
    """Return the end of the first record that is not blank."""
    start = len(data) - len(data.lstrip(b"\r\n"))
    return start + first_record_end(data[start:], dialect, final=True)


def lines_end(data: bytes, count: int) -> int:
    """Return the end of the first physical lines, whatever is in them; 0 when there are not so many, or half a CRLF."""
    end = 0
    for _ in range(count):
        line = _LINE_END.search(data, end)
        if line is None or (line.end() == len(data) and line[0] == b"\r"):
            return 0
        end = line.end()
    return end


_LINE_END = re.compile(rb"\r\n|\n|\r")


def line_ends(data: bytes, final: bool) -> Offsets:
    """Offsets just after each line end; after the last byte too where the source ends."""
    array = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(array == 10) + 1
    if b"\r" in data:
        returns = np.flatnonzero(array == 13) + 1
        if not final:
            returns = returns[returns < len(data)]
        lone = returns[(returns == len(data)) | (array[np.minimum(returns, len(data) - 1)] != 10)]
        ends = np.sort(np.concatenate([ends, lone])) if len(lone) else ends
    if final and len(data) and (not len(ends) or ends[-1] != len(data)):
        ends = np.append(ends, len(data))
    return ends.astype(np.int64, copy=False)


class _Quotes:
    """All quotes of a buffer, and which of them stand where a quote of their role may not.

    Counted from the start of a record, quotes open and close in turn. An opening quote follows a separator, a closing
    one precedes one; two adjacent quotes inside a field (a doubled quote) close and open again. Both possible countings
    (a record may begin at an even or an odd quote) are judged at once.
    """

    def __init__(self, data: bytes, dialect: Dialect) -> None:
        array = np.frombuffer(data, np.uint8)
        self.positions = np.flatnonzero(array == dialect.quote_byte[0])
        at = self.positions
        separator = np.zeros(256, bool)
        separator[[10, 13, dialect.delimiter_byte[0]]] = True
        adjacent = at[1:] - at[:-1] == 1
        may_open = separator[array[at - 1]] | (at == 0)
        may_open[1:] |= adjacent
        may_close = separator[array[np.minimum(at + 1, len(array) - 1)]] | (at == len(array) - 1)
        may_close[:-1] |= adjacent
        even = np.arange(len(at)) % 2 == 0
        self.wrong = [np.flatnonzero(~np.where(even == (parity == 0), may_open, may_close)) for parity in (0, 1)]

    def first_wrong(self, base: int) -> int:
        """Return the first quote in a wrong place when quote ``base`` opens; the number of quotes if there is none."""
        wrong = self.wrong[base % 2]
        i = int(np.searchsorted(wrong, base))
        return int(wrong[i]) if i < len(wrong) else len(self.positions)


_MANY = 20
"""One irregular quote in so many lines is too many to be treated one by one."""


def _quoted_ends(data: bytes, lines: Offsets, dialect: Dialect, final: bool) -> tuple[Offsets, Offsets]:
    """Record ends among line ends, and the ends of malformed records."""
    quotes = _Quotes(data, dialect)
    at, count = quotes.positions, len(quotes.positions)
    if min(len(wrong) for wrong in quotes.wrong) * _MANY > len(lines) + _MANY:
        return _matched_ends(data, dialect, final)
    before = np.cumsum(np.bincount(np.searchsorted(lines, at, side="right"), minlength=len(lines))[: len(lines)])
    keep = np.zeros(len(lines), bool)
    malformed: list[int] = []
    base = first = start = 0
    while first < len(lines):
        wrong = quotes.first_wrong(base)
        if wrong == count and (count - base) % 2 and _never_closed(int(at[-1]), data, dialect, final):
            wrong = count - 1
        limit = len(lines) if wrong == count else int(np.searchsorted(lines, at[wrong], side="right"))
        keep[first:limit] = (before[first:limit] - base) % 2 == 0
        if wrong == count:
            break
        good = np.flatnonzero(keep[first:limit])
        start = int(lines[first + good[-1]]) if len(good) else start
        found = next(_matched(data, dialect, final, start), None)
        if found is None:
            break
        start = found[0]
        first = int(np.searchsorted(lines, start, side="right"))
        keep[first - 1] = True
        base = int(np.searchsorted(at, start))
        if found[1]:
            malformed.append(start)
    return lines[keep], np.array(malformed, np.int64)


def _quoted_last_end(data: bytes, dialect: Dialect) -> int:
    """Return the end of the last whole record, looking at quotes but not at every line."""
    quotes = _Quotes(data, dialect)
    at, count = quotes.positions, len(quotes.positions)
    if min(len(wrong) for wrong in quotes.wrong) > _MANY:
        return _find(data, dialect, False).consumed
    base = start = 0
    while True:
        wrong = quotes.first_wrong(base)
        if wrong == count and (count - base) % 2 and _never_closed(int(at[-1]), data, dialect, False):
            wrong = count - 1
        end = len(data) if wrong == count else int(at[wrong])
        while (end := _last_line_end(data, start, end)) > start and (int(np.searchsorted(at, end)) - base) % 2:
            end -= 1  # this line end is inside quotes
        if wrong == count:
            return end
        found = next(_matched(data, dialect, False, end), None)
        if found is None:
            return end
        start = found[0]
        base = int(np.searchsorted(at, start))


def _never_closed(quote: int, data: bytes, dialect: Dialect, final: bool) -> bool:
    """Whether an open quote is known to stay open, or has been open for too long."""
    return final or len(data) - quote > dialect.max_record_bytes


def _matched_ends(data: bytes, dialect: Dialect, final: bool) -> tuple[Offsets, Offsets]:
    """Record ends found one by one; for bytes where irregular quotes are the rule."""
    found = list(_matched(data, dialect, final))
    return np.array([end for end, _ in found], np.int64), np.array([end for end, bad in found if bad], np.int64)


def _too_long(ends: Offsets, dialect: Dialect) -> bool:
    return bool(len(ends)) and int(np.diff(ends, prepend=0).max()) > dialect.max_record_bytes


def _not_blank(data: bytes, starts: Offsets, ends: Offsets, dialect: Dialect) -> NDArray[np.bool_]:
    """Which records hold anything but their line end."""
    keep = np.ones(len(starts), bool)
    if dialect.delimiter == WHITESPACE:
        doubtful, blanks = np.isin(np.frombuffer(data, np.uint8)[starts], [9, 10, 13, 32]), b" \t\r\n"
    else:
        doubtful, blanks = ends - starts <= 2, b"\r\n"
    for i in np.flatnonzero(doubtful):
        keep[i] = bool(data[starts[i] : ends[i]].strip(blanks))
    return keep


@lru_cache(maxsize=8)
def _record_pattern(quote: bytes, delimiter: bytes) -> re.Pattern[bytes]:
    q, d = re.escape(quote), re.escape(delimiter)
    quoted = rb"%b[^%b]*+(?:%b%b[^%b]*+)*+%b(?=[%b\r\n]|\Z)" % (q, q, q, q, q, q, d)
    plain = rb"(?:[^%b%b\r\n][^%b\r\n]*+)?+" % (q, d, d)
    field = rb"(?:%b|%b(?!%b))" % (quoted, plain, q)
    return re.compile(rb"%b(?:%b%b)*+(\r\n|\n|\r|\Z)" % (field, d, field))


def _matched(data: bytes, dialect: Dialect, final: bool, start: int = 0) -> Iterator[tuple[int, bool]]:
    """Yield (end, malformed) of each record from ``start``, blank lines included; stop where more bytes are needed."""
    pattern = _record_pattern(dialect.quote_byte or b"\0", dialect.delimiter_byte)
    position, size = start, len(data)
    while position < size:
        match = pattern.match(data, position)
        good = match is not None and match.end() - position <= dialect.max_record_bytes
        if match is not None and good:
            if not final and match.end() == size and match[1] != b"\n" and match[1] != b"\r\n":
                return
            position = match.end()
        else:
            # Without the end of the source in sight, a quote may still be closed by bytes to come.
            if (
                not final
                and match is None
                and size - position <= dialect.max_record_bytes
                and _open(data, position, dialect)
            ):
                return
            line = _LINE_END.search(data, position)
            if not final and (line is None or (line.end() == size and line[0] == b"\r")):
                return
            position = line.end() if line else size
        yield position, not good


def _open(data: bytes, position: int, dialect: Dialect) -> bool:
    """Whether the record at ``position`` runs to the end of the bytes inside a quote that may still be closed."""
    q, d = re.escape(dialect.quote_byte), re.escape(dialect.delimiter_byte)
    prefix = _open_pattern(q, d)
    return prefix.match(data, position) is not None


@lru_cache(maxsize=8)
def _open_pattern(q: bytes, d: bytes) -> re.Pattern[bytes]:
    quoted = rb"%b[^%b]*+(?:%b%b[^%b]*+)*+%b(?=%b)" % (q, q, q, q, q, q, d)
    plain = rb"(?:[^%b%b\r\n][^%b\r\n]*+)?+(?=%b)" % (q, d, d, d)
    return re.compile(rb"(?:(?:%b|%b)%b)*+%b[^%b]*+(?:%b%b[^%b]*+)*+%b?\Z" % (quoted, plain, d, q, q, q, q, q, q))


def first_fields(data: bytes, dialect: Dialect) -> list[str]:
    """Split one record, given as bytes in the source's encoding, into its fields."""
    import csv
    import io

    text = data.decode(dialect.encoding if not dialect.is_wide else "utf-8").rstrip("\r\n")
    if dialect.delimiter == WHITESPACE:
        return text.split()
    options: dict[str, Any] = {"quotechar": dialect.quote} if dialect.quote else {"quoting": csv.QUOTE_NONE}
    short = dialect.delimiter
    if dialect.has_long_delimiter:  # the module takes one character: any that the text has not
        short = next(letter for letter in map(chr, range(0xE000, 0x110000)) if letter not in text)
    lines = io.StringIO(text.replace(dialect.delimiter, short), newline="")
    fields = next(csv.reader(lines, delimiter=short, escapechar=dialect.escape or None, **options), [])
    return [field.replace(short, dialect.delimiter) for field in fields]
