"""Where records begin and end in CSV bytes, whatever is in the quotes.

A record is one data line, or several when a quoted field holds line ends. The rules, which make the record ends of a file
a property of its bytes alone and so the same for every block size:

- A quote opens a field only at the field's start; elsewhere in an unquoted field it is an ordinary character.
- A quoted field ends at a quote that is not doubled; a delimiter, a line end or the end of the input must follow.
- A record that breaks this, never closes its quote, or is longer than ``max_record_bytes``, is *malformed*: its first
  physical line is one rejected record, and reading resumes at the next line.

Bytes without quotes, nearly all of them in practice, never reach the slow path; bytes whose quotes are all regular are
solved with array operations by quote parity; only irregular bytes are matched record by record.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskae.read.dialect import Dialect

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
    ends = _regular_ends(data, dialect, final)
    if ends is None:
        return _match_records(data, dialect, final)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends
    consumed = int(ends[-1]) if len(ends) else 0
    keep = _not_blank(data, starts, ends, dialect)
    starts, ends = starts[keep], ends[keep]
    return Records(starts, ends, np.zeros(len(starts), bool), consumed)


def last_record_end(data: bytes, dialect: Dialect, *, final: bool) -> int:
    """Return how many leading bytes are whole records; cheaper than :func:`find_records` where nothing is quoted."""
    if final:
        return len(data)
    if dialect.quote_byte and dialect.quote_byte in data:
        return find_records(data, dialect, final=False).consumed
    # A carriage return at the very end may be half of a CRLF.
    usable = len(data) - 1 if data.endswith(b"\r") else len(data)
    return max(data.rfind(b"\n", 0, usable), data.rfind(b"\r", 0, usable)) + 1


def first_record_end(data: bytes, dialect: Dialect, *, final: bool) -> int:
    """Return the end of the first record, or 0 when it is not whole yet."""
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


_LINE_END = re.compile(rb"\r\n|\n|\r")


def line_ends(data: bytes, final: bool) -> Offsets:
    """Offsets just after each line end; after the last byte too where the source ends."""
    array = np.frombuffer(data, np.uint8)
    found = array == 10
    if b"\r" in data:
        lone = array == 13
        lone[:-1] &= ~found[1:]
        if not final and len(lone):
            lone[-1] = False
        found |= lone
    ends = np.flatnonzero(found) + 1
    if final and len(data) and (not len(ends) or ends[-1] != len(data)):
        ends = np.append(ends, len(data))
    return ends.astype(np.int64, copy=False)


def _regular_ends(data: bytes, dialect: Dialect, final: bool) -> Offsets | None:
    """Record ends by quote parity, or None where a quote is not where a quote may be."""
    ends = line_ends(data, final)
    if not dialect.quote_byte or dialect.quote_byte not in data:
        return ends
    array = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(array == dialect.quote_byte[0])
    separators = np.zeros(256, bool)
    separators[[10, 13, dialect.delimiter_byte[0]]] = True
    opening, closing = quotes[0::2], quotes[1::2]
    before = separators[array[np.maximum(opening - 1, 0)]] | (opening == 0)
    before[1:] |= opening[1:] - 1 == closing[: len(opening) - 1]
    after = separators[array[np.minimum(closing + 1, len(array) - 1)]] | (closing == len(array) - 1)
    doubled = opening[1:] - 1 == closing[: len(opening) - 1]
    after[: len(doubled)] |= doubled
    closed = len(opening) == len(closing)
    if not before.all() or not after.all() or (final and not closed):
        return None
    if not closed and len(data) - int(opening[-1]) > dialect.max_record_bytes:
        return None
    inside = np.searchsorted(quotes, ends) % 2 == 1
    ends = ends[~inside]
    if not final and len(quotes) and len(ends) and int(quotes[-1]) == len(data) - 1:
        # The last quote may be the first of a doubled one; what it closes is decided by the next byte.
        ends = ends[ends <= int(quotes[-1])]
    return None if _too_long(ends, dialect) else ends


def _too_long(ends: Offsets, dialect: Dialect) -> bool:
    return bool(len(ends)) and int(np.diff(ends, prepend=0).max()) > dialect.max_record_bytes


def _not_blank(data: bytes, starts: Offsets, ends: Offsets, dialect: Dialect) -> NDArray[np.bool_]:
    """Which records hold anything but their line end."""
    lengths = ends - starts
    keep = np.ones(len(starts), bool)
    limit = 2 if dialect.delimiter != "whitespace" else 80
    for i in np.flatnonzero(lengths <= limit):
        text = data[starts[i] : ends[i]]
        keep[i] = bool(text.strip(b"\r\n") if limit == 2 else text.strip())
    return keep


@lru_cache(maxsize=8)
def _record_pattern(quote: bytes, delimiter: bytes) -> re.Pattern[bytes]:
    q, d = re.escape(quote), re.escape(delimiter)
    quoted = rb"%b[^%b]*+(?:%b%b[^%b]*+)*+%b(?=[%b\r\n]|\Z)" % (q, q, q, q, q, q, d)
    plain = rb"(?:[^%b%b\r\n][^%b\r\n]*+)?+" % (q, d, d)
    field = rb"(?:%b|%b(?!%b))" % (quoted, plain, q)
    return re.compile(rb"%b(?:%b%b)*+(\r\n|\n|\r|\Z)" % (field, d, field))


def _matched(data: bytes, dialect: Dialect, final: bool) -> Iterator[tuple[int, bool]]:
    """Yield (end, malformed) of each record in turn, blank lines included; stop where more bytes are needed."""
    pattern = _record_pattern(dialect.quote_byte, dialect.delimiter_byte)
    position, size = 0, len(data)
    while position < size:
        match = pattern.match(data, position)
        good = match is not None and match.end() - position <= dialect.max_record_bytes
        if match is not None and good:
            if not final and match.end() == size and match[1] != b"\n" and match[1] != b"\r\n":
                return
            position = match.end()
        else:
            # Without the end of the source in sight, a quote may still be closed by bytes to come.
            if not final and match is None and size - position <= dialect.max_record_bytes and _open(data, position, dialect):
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


def _match_records(data: bytes, dialect: Dialect, final: bool) -> Records:
    """Find records one by one; for bytes whose quotes are irregular."""
    found: list[tuple[int, bool]] = list(_matched(data, dialect, final))
    ends = np.array([end for end, _ in found], np.int64)
    malformed = np.array([bad for _, bad in found], bool)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends
    keep = _not_blank(data, starts, ends, dialect) | malformed
    consumed = int(ends[-1]) if len(ends) else 0
    return Records(starts[keep], ends[keep], malformed[keep], consumed)


def first_fields(data: bytes, dialect: Dialect) -> list[str]:
    """Split one record, given as bytes in the source's encoding, into its fields."""
    import csv
    import io

    text = data.decode(dialect.encoding if not dialect.is_wide else "utf-8").rstrip("\r\n")
    if dialect.delimiter == "whitespace":
        return text.split()
    options: dict[str, Any] = {"quotechar": dialect.quote} if dialect.quote else {"quoting": csv.QUOTE_NONE}
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, **options), [])
