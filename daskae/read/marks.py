"""Escapes and delimiters of several characters, put in terms of one-byte marks.

The record finder knows quotes, one-byte delimiters and line ends. It is shown bytes of the same length in which what an
escape makes ordinary is no mark, and every byte of a long delimiter is a one-byte delimiter: records begin and end at
the same places. The parser, which knows escapes, is shown a short delimiter that is nowhere else in the text.
"""

import re
from functools import lru_cache

import polars as pl

from daskae.errors import InputError
from daskae.read.dialect import LONG_DELIMITER, Dialect

_ORDINARY = b"\xfe"
_UNUSED = bytes([31, 30, 29, 28, *range(1, 9), 11, 12, *range(14, 28), 127, *b"~^|`!#%&*+;<=>?@[]_{}$:'"])
"""Candidates for a short delimiter, the least likely in a text first."""


def with_plain_marks(data: bytes, dialect: Dialect, *, final: bool) -> bytes:
    """Return bytes in which records begin and end at the same places, told by one-byte marks alone.

    Parameters
    ----------
    data : bytes
        Bytes that begin at a record start.
    dialect : Dialect
    final : bool
        Whether the source ends here; if not, half a delimiter at the end is taken for a whole one.
    """
    if dialect.escape_byte:
        if dialect.escape_byte in data:
            data = _escaped(dialect.escape_byte).sub(_ORDINARY * 2, data)
    elif dialect.has_long_delimiter:
        long = dialect.delimiter.encode()
        data = data.replace(LONG_DELIMITER, _ORDINARY).replace(long, LONG_DELIMITER * len(long))
        half = 0 if final else next((n for n in range(len(long) - 1, 0, -1) if data.endswith(long[:n])), 0)
        data = data[: len(data) - half] + LONG_DELIMITER * half if half else data
    return data


@lru_cache(maxsize=8)
def _escaped(escape: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"%b." % re.escape(escape), re.DOTALL)


def ends_in_escape(data: bytes, dialect: Dialect) -> bool:
    """Whether the last byte is an escape that has nothing to stand before."""
    if not dialect.escape_byte:
        return False
    return (len(data) - len(data.rstrip(dialect.escape_byte))) % 2 == 1


def with_short_delimiter(text: bytes, dialect: Dialect) -> tuple[bytes, str]:
    """Return a text as the parser can read it, and the delimiter in it.

    Raises
    ------
    InputError
        If every character that might stand for the delimiter is in the text.
    """
    if not dialect.has_long_delimiter:
        return text, dialect.delimiter_byte.decode()
    quote = dialect.quote.encode()
    short = next((bytes([byte]) for byte in _UNUSED if byte not in text and byte not in quote), None)
    if short is None:
        raise InputError(
            "a text holds every control character and mark", "a window of an input", allowed="at least one unused",
            hint="use a delimiter of one character",
        )  # fmt: skip
    return text.replace(dialect.delimiter.encode(), short), short.decode()


def with_long_delimiter(cells: pl.DataFrame, short: str, dialect: Dialect) -> pl.DataFrame:
    """Give quoted cells back what was shortened in them."""
    if not dialect.has_long_delimiter:
        return cells
    return cells.with_columns(pl.all().str.replace_all(short, dialect.delimiter, literal=True))
