"""One CSV record as a person edits it: whether it is exactly one, its fields, and back."""

import csv
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from daskae.errors import SettingsError
from daskae.read.dialect import WHITESPACE, Dialect
from daskae.read.records import find_records, first_fields


def as_utf8(dialect: Dialect) -> Dialect:
    """Return the dialect of text that has been decoded already."""
    return replace(dialect, encoding="utf-8")


def is_one_record(text: str, dialect: Dialect) -> bool:
    """Whether a text is exactly one record with its quotes closed."""
    return bool(are_records([text], dialect)[0])


def are_records(texts: Sequence[str], dialect: Dialect) -> NDArray[np.bool_]:
    """Tell for each text whether it is exactly one record with its quotes closed."""
    data = [text.encode("utf-8", "surrogatepass") for text in texts]
    plain = as_utf8(dialect)
    # Looking for records costs much more for each text than for all of them in one.
    starts = np.cumsum([0, *(len(item) + 1 for item in data)])[:-1]
    found = find_records(b"\n".join(data), plain, final=True)
    if np.array_equal(found.starts, starts) and not found.malformed.any():
        return np.ones(len(data), bool)
    return np.array([_is_one(item, plain) for item in data], bool)


def _is_one(data: bytes, dialect: Dialect) -> bool:
    found = find_records(data, dialect, final=True)
    return len(found.starts) == 1 and not found.malformed.any()


def split_record(text: str, dialect: Dialect, width: int) -> list[str] | None:
    """Return the fields of a record, or None where it is not one record of ``width`` fields."""
    if not is_one_record(text, dialect):
        return None
    try:
        fields = first_fields(text.encode("utf-8", "surrogatepass"), as_utf8(dialect))
    except csv.Error:  # a field longer than that module takes
        return None
    return fields if len(fields) == width and _joined(fields, dialect) is not None else None


def join_record(fields: Sequence[str], dialect: Dialect) -> str:
    """Write fields as one record, quoted where it is needed.

    Raises
    ------
    SettingsError
        If the dialect has no way to write a field.
    """
    text = _joined(fields, dialect)
    if text is None:
        raise SettingsError(
            "a field cannot be written in the source's dialect", "", repr(list(fields))[:120],
            hint="correct the whole record in _raw",
        )  # fmt: skip
    return text


def _joined(fields: Sequence[str], dialect: Dialect) -> str | None:
    """Write fields as one record; None where it would not be read as these fields again."""
    delimiter = " " if dialect.delimiter == WHITESPACE else dialect.delimiter
    quote = dialect.quote_byte.decode()
    written = []
    for field in fields:
        text = field.replace(dialect.escape, dialect.escape * 2) if dialect.escape else field
        if quote and any(mark in field for mark in (*delimiter, quote, "\r", "\n")):
            text = quote + text.replace(quote, quote * 2) + quote
        written.append(text)
    text = delimiter.join(written) or quote * 2
    try:
        same = is_one_record(text, dialect) and first_fields(text.encode(), as_utf8(dialect)) == list(fields)
    except csv.Error:
        return None
    return text if same else None
