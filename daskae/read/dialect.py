"""How a CSV source is written: the settings every reading function needs."""

import codecs
from dataclasses import dataclass
from functools import lru_cache

from daskae.errors import SettingsError

WHITESPACE = "whitespace"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Dialect:
    """CSV dialect, checked when made.

    Raises
    ------
    SettingsError
        For a delimiter or quote that is not one ASCII character, or is a line end, or an unknown encoding.
    """

    delimiter: str = ","
    """One character, ``\\t``, or ``whitespace`` for runs of blanks."""
    quote: str = '"'
    """One character; empty for sources without quoting."""
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None
    """Column names of sources without a header line; None when the first record holds them."""
    null_values: tuple[str, ...] = ()
    """Texts that mean "nothing here", beside the empty text."""
    max_record_bytes: int = 16 << 20
    """A record longer than this is taken as damaged by an unclosed quote."""

    def __post_init__(self) -> None:
        if self.delimiter != WHITESPACE and not _is_mark(self.delimiter):
            raise SettingsError(
                "the delimiter must be one ASCII character",
                "input.delimiter",
                repr(self.delimiter),
                "',', ';', '\\t' ...",
            )
        if self.quote and (not _is_mark(self.quote) or self.quote == self.delimiter):
            raise SettingsError("the quote must be one ASCII character", "input.quote", repr(self.quote))
        if not _is_text_encoding(self.encoding):
            raise SettingsError(
                "unknown encoding", "input.encoding", self.encoding, "a text codec: utf-8, latin-1, cp1252, utf-16 ..."
            )

    @property
    def is_utf8(self) -> bool:
        """Whether the bytes can be parsed as they are."""
        return codecs.lookup(self.encoding).name in ("utf-8", "ascii")

    @property
    def is_wide(self) -> bool:
        """Whether line ends, quotes and delimiters cannot be told from the bytes, so that a file is decoded first."""
        return _is_wide(codecs.lookup(self.encoding).name, self._marks)

    @property
    def _marks(self) -> str:
        blanks = self.delimiter == WHITESPACE
        return "\r\n" + (" \t" if blanks else self.delimiter + self.quote)

    @property
    def quote_byte(self) -> bytes:
        """The quote as a byte, empty without quoting."""
        return b"" if self.delimiter == WHITESPACE else self.quote.encode()

    @property
    def delimiter_byte(self) -> bytes:
        """The delimiter as the parser sees it."""
        return b" " if self.delimiter == WHITESPACE else self.delimiter.encode()


def _is_mark(text: str) -> bool:
    return len(text) == 1 and text.isascii() and text not in "\r\n"


def _is_text_encoding(name: str) -> bool:
    """Whether Python can read a file in this encoding piece by piece; ``hex`` and its like make bytes of bytes."""
    try:
        codec = codecs.lookup(name)
        "a,1\n".encode(name, "ignore")
    except (LookupError, UnicodeError, ValueError):
        return False
    return codec.incrementaldecoder is not None


@lru_cache(maxsize=32)
def _is_wide(name: str, marks: str) -> bool:
    """Whether marks and letters are other bytes than in ASCII, or their bytes may be part of other characters."""
    if name in ("utf-8", "ascii"):
        return False
    plain = marks + _LETTERS
    # utf-7 may also write a mark as letters, which its encoder never does.
    if name == "utf-7" or plain.encode(name, "replace") != plain.encode("ascii"):
        return True
    others = "".join(map(chr, [*range(128, 0xD800), *range(0xE000, 0x10000)])).encode(name, "ignore")
    return any(mark.encode() in others for mark in marks)
