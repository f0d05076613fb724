"""How a CSV source is written: the settings every reading function needs."""

import codecs
from dataclasses import dataclass

from daskae.errors import SettingsError

WHITESPACE = "whitespace"
_WIDE = ("utf-16", "utf-32", "utf-7", "utf_16", "utf_32", "utf_7", "utf-8-sig")


@dataclass(frozen=True)
class Dialect:
    """CSV dialect, checked when made.

    Raises
    ------
    SettingsError
        For a delimiter or quote that is not one ASCII character, or an unknown encoding.
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
        if self.delimiter != WHITESPACE and (len(self.delimiter) != 1 or not self.delimiter.isascii()):
            raise SettingsError(
                "the delimiter must be one ASCII character",
                "input.delimiter",
                repr(self.delimiter),
                "',', ';', '\\t' ...",
            )
        if self.quote and (len(self.quote) != 1 or not self.quote.isascii() or self.quote == self.delimiter):
            raise SettingsError("the quote must be one ASCII character", "input.quote", repr(self.quote))
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise SettingsError(
                "unknown encoding",
                "input.encoding",
                self.encoding,
                "a Python codec: utf-8, latin-1, cp1252, utf-16 ...",
            ) from None

    @property
    def is_utf8(self) -> bool:
        """Whether the bytes can be parsed as they are."""
        return codecs.lookup(self.encoding).name in ("utf-8", "ascii")

    @property
    def is_wide(self) -> bool:
        """Whether line ends are not single ASCII bytes, so that a file must be decoded before it is cut."""
        return self.encoding.lower().startswith(_WIDE) and codecs.lookup(self.encoding).name != "utf-8"

    @property
    def quote_byte(self) -> bytes:
        """The quote as a byte, empty without quoting."""
        return b"" if self.delimiter == WHITESPACE else self.quote.encode()

    @property
    def delimiter_byte(self) -> bytes:
        """The delimiter as the parser sees it."""
        return b" " if self.delimiter == WHITESPACE else self.delimiter.encode()
