"""How a CSV source is written: the settings every reading function needs."""

import codecs
from dataclasses import dataclass, field
from functools import lru_cache

from daskae.errors import SettingsError
from daskae.read.source import MAX_EXPANSION

WHITESPACE = "whitespace"
LONG_DELIMITER = b"\xff"
"""What stands for each byte of a delimiter of several characters where records are found; no part of UTF-8 text."""
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Dialect:
    """CSV dialect, checked when made.

    Raises
    ------
    SettingsError
        For a delimiter, quote or escape that is not ASCII, or is a line end or another mark, or an unknown encoding.
    """

    delimiter: str = ","
    """One character or a few, such as ``\\t`` or ``||``, or ``whitespace`` for runs of blanks."""
    quote: str = '"'
    """One character; empty for sources without quoting."""
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None
    """Column names of sources without a header line; None when the first record holds them."""
    null_values: tuple[str, ...] = ()
    """Texts that mean "nothing here", beside the empty text."""
    max_record_bytes: int = 16 << 20
    """A record longer than this is taken as damaged by an unclosed quote."""
    escape: str = ""
    """One character that makes the character behind it an ordinary one, in quotes and outside; empty for none."""
    skip_rows: int = 0
    """Lines at the start of every file that are left out, before its header."""
    max_expansion: int = field(default=MAX_EXPANSION, repr=False, compare=False)
    """Bytes behind one byte of a compressed file, at most; decides nothing about what is read."""

    def __post_init__(self) -> None:
        if not self._is_blanks and not _is_delimiter(self.delimiter):
            raise SettingsError(
                "the delimiter must be one ASCII character, or a few that are no letters",
                "input.delimiter",
                repr(self.delimiter),
                "',', ';', '\\t', '||' ...",
            )
        if self.quote and (not _is_mark(self.quote) or (self.quote in self.delimiter and not self._is_blanks)):
            raise SettingsError("the quote must be one ASCII character", "input.quote", repr(self.quote))
        if self.escape:
            self._check_escape()
        names = self.header
        if names is not None and (not names or "" in names or len(set(names)) < len(names)):
            raise SettingsError("the names of columns must be there and differ", "input.header", repr(names)[:120])
        if not _is_text_encoding(self.encoding):
            raise SettingsError(
                "unknown encoding", "input.encoding", self.encoding, "a text codec: utf-8, latin-1, cp1252, utf-16 ..."
            )

    def _check_escape(self) -> None:
        if not _is_mark(self.escape) or self.escape in (self.delimiter, self.quote):
            raise SettingsError(
                "the escape must be one ASCII character", "input.escape", repr(self.escape),
                hint="a doubled quote needs no escape" if self.escape == self.quote else "",
            )  # fmt: skip
        if len(self.delimiter) > 1:
            raise SettingsError(
                "an escape needs a delimiter of one character", "input.escape", repr(self.escape),
                hint=f"the delimiter is {self.delimiter!r}",
            )  # fmt: skip

    @property
    def is_utf8(self) -> bool:
        """Whether the bytes can be parsed as they are."""
        return codecs.lookup(self.encoding).name in ("utf-8", "ascii")

    @property
    def is_wide(self) -> bool:
        """Whether line ends, quotes and delimiters cannot be told from the bytes, so that a file is decoded first."""
        return _is_wide(codecs.lookup(self.encoding).name, self._marks)

    @property
    def _is_blanks(self) -> bool:
        return self.delimiter == WHITESPACE

    @property
    def _marks(self) -> str:
        return "\r\n" + (" \t" if self._is_blanks else self.delimiter + self.quote + self.escape)

    @property
    def quote_byte(self) -> bytes:
        """The quote as a byte, empty without quoting."""
        return b"" if self._is_blanks else self.quote.encode()

    @property
    def escape_byte(self) -> bytes:
        """The escape as a byte, empty without one."""
        return self.escape.encode()

    @property
    def has_long_delimiter(self) -> bool:
        """Whether the delimiter is several characters, which neither the record finder nor the parser knows."""
        return len(self.delimiter) > 1 and not self._is_blanks

    @property
    def delimiter_byte(self) -> bytes:
        """The delimiter as the record finder sees it, see :mod:`daskae.read.marks`."""
        if self.has_long_delimiter:
            return LONG_DELIMITER
        return b" " if self._is_blanks else self.delimiter.encode()


_LONGEST = 8


def _is_delimiter(text: str) -> bool:
    """Whether a text can part fields; several letters are rather a name, such as ``tab``, or half an escape."""
    if len(text) == 1:
        return _is_mark(text)
    return 1 < len(text) <= _LONGEST and all(_is_mark(letter) and not letter.isalnum() for letter in text)


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
