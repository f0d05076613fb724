"""Bytes of whole records as text columns, and the records that cannot be split into them.

Records that are malformed or not valid text are taken out before pyarrow's parser sees the bytes; rows with a wrong
number of fields are caught by it. All are kept as broken rows.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from daskae.batch import Broken
from daskae.read.dialect import WHITESPACE, Dialect
from daskae.read.frames import to_frame
from daskae.read.marks import ends_in_escape, with_long_delimiter, with_short_delimiter
from daskae.read.records import Records


def split_cells(
    text: bytes, records: Records | None, names: Sequence[str], dialect: Dialect, columns: Sequence[str]
) -> tuple[pl.DataFrame, list[Broken]]:
    """Split UTF-8 bytes into cells.

    Parameters
    ----------
    text : bytes
        Whole records.
    records : Records or None
        Those records; None where :func:`is_plain` says that they need not be looked for.
    names : sequence of str
        Columns of the source.
    dialect : Dialect
    columns : sequence of str
        Columns to build.

    Returns
    -------
    cells : DataFrame of String
    broken : list of Broken
        In rising order; together with the rows of ``cells`` they are all records.
    """
    broken: list[Broken] = []
    if records is not None:
        broken = _unparsable(text, records, dialect)
        text = _cut_out(text, records, [item.row for item in broken])
    cells, wrong = _parse(text, names, dialect, columns)
    return cells, _merge(broken, wrong)


def is_plain(text: bytes, dialect: Dialect) -> bool:
    """Whether the parser may have the bytes unseen: no quotes or escapes, valid UTF-8, no overlong record."""
    if dialect.escape_byte and dialect.escape_byte in text:
        return False
    if dialect.quote_byte and dialect.quote_byte in text:
        return False
    return len(text) <= dialect.max_record_bytes and _is_utf8(text)


def _is_utf8(text: bytes) -> bool:
    """Let Arrow look: it is faster than a decoder, makes no text, and lets other threads run."""
    whole = pa.LargeStringArray.from_buffers(1, pa.py_buffer(np.array([0, len(text)])), pa.py_buffer(text))
    try:
        whole.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _can_be_decoded(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unparsable(text: bytes, records: Records, dialect: Dialect) -> list[Broken]:
    """Name the records that are malformed or hold bytes that are not valid text."""
    message = "a quoted field is not closed, or is followed by other text"
    found = {row: Broken(row, "malformed_quoting", message) for row in np.flatnonzero(records.malformed).tolist()}
    if ends_in_escape(text, dialect):
        last = len(records.starts) - 1
        found[last] = Broken(last, "malformed_quoting", "an escape is the last character of the input")
    if not _is_utf8(text):
        # An error's position costs a copy of all that follows it, so each record with more than ASCII is tried alone.
        high = np.flatnonzero(np.frombuffer(text, np.uint8) > 127)
        for row in np.unique(np.searchsorted(records.starts, high, side="right") - 1).tolist():
            if not _can_be_decoded(text[int(records.starts[row]) : int(records.ends[row])]):
                invalid = Broken(row, "invalid_encoding", "the bytes are not valid in the declared encoding")
                found.setdefault(row, invalid)
    return [found[row] for row in sorted(found)]


def _cut_out(text: bytes, records: Records, rows: list[int]) -> bytes:
    """Return the bytes without some records."""
    if not rows:
        return text
    starts, ends = records.starts[rows].tolist(), records.ends[rows].tolist()
    kept = zip([0, *ends], [*starts, len(text)], strict=True)
    view = memoryview(text)
    return b"".join([view[start:end] for start, end in kept])


def _merge(broken: list[Broken], wrong: list[Broken]) -> list[Broken]:
    """Join rows broken before parsing with rows the parser refused, whose numbers do not count the former."""
    if not broken:
        return wrong
    taken = [item.row for item in broken]
    merged, shift = list(broken), 0
    for item in wrong:
        while shift < len(taken) and taken[shift] <= item.row + shift:
            shift += 1
        merged.append(Broken(item.row + shift, item.reason, item.message))
    return sorted(merged, key=lambda item: item.row)


_BLANKS = re.compile(rb"[ \t]+")
_ONLY_LINE_ENDS = re.compile(rb"[\r\n]*")
_EDGE_BLANKS = re.compile(rb"(?:(?<=[\r\n])|\A)[ \t]+|[ \t]+(?=[\r\n]|\Z)")


def _parse(
    text: bytes, names: Sequence[str], dialect: Dialect, columns: Sequence[str]
) -> tuple[pl.DataFrame, list[Broken]]:
    """Split valid bytes into text columns; rows with a wrong number of fields come back apart."""
    wrong: list[Broken] = []

    def refuse(row: Any) -> str:
        message = f"{row.expected_columns} fields expected, {row.actual_columns} found"
        wrong.append(Broken(int(row.number) - 1, "wrong_field_count", message))
        return "skip"

    if dialect.delimiter == WHITESPACE:
        text = _BLANKS.sub(b" ", _EDGE_BLANKS.sub(b"", text))
    if _ONLY_LINE_ENDS.fullmatch(text):
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String)), wrong
    quoted = bool(dialect.quote_byte) and dialect.quote_byte in text
    text, delimiter = with_short_delimiter(text, dialect)
    table = pacsv.read_csv(
        pa.BufferReader(text),
        pacsv.ReadOptions(use_threads=False, column_names=list(names), block_size=len(text) + 1),
        pacsv.ParseOptions(
            delimiter=delimiter,
            quote_char=dialect.quote if dialect.quote_byte else False,
            escape_char=dialect.escape or False,
            newlines_in_values=quoted or bool(dialect.escape),
            invalid_row_handler=refuse,
        ),
        pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=list(columns),
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    cells = to_frame(table)
    return with_long_delimiter(cells, delimiter, dialect) if quoted else cells, wrong
