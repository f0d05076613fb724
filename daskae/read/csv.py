"""CSV segments as batches of text cells.

Each window of a few megabytes ends at a true record end and is parsed into text columns; small windows keep the
parser's memory in the processor's cache (half the time of a 64 MB window, measured). Where a record begins is computed
only for windows from which a row is rejected.
"""

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

from daskae.batch import Batch, RawRows, RowNumbers, Span
from daskae.errors import InputError
from daskae.partition import Segment
from daskae.read.cells import is_plain, split_cells
from daskae.read.dialect import Dialect
from daskae.read.raw import decode_texts
from daskae.read.records import Records, find_records, first_fields, header_end, last_record_end, lines_end
from daskae.read.source import RangeReader, open_stream

WINDOW = 8 << 20
_RAW_WINDOW = 1 << 20
"""Smaller, for all records of it are looked for, which takes many times its bytes for a moment."""
_ENDLESS = 64 << 20
"""Decompressed bytes without a line end that are no order any more, whatever the settings."""
_NOT_UTF8 = "not-utf8"


@dataclass(frozen=True)
class _Piece:
    """Where a segment's bytes stand in a window."""

    segment: int
    start: int
    offset: int | None
    """Offset in the file of its first byte."""


@dataclass(frozen=True)
class _Window:
    """Whole records to be parsed at once, of one segment or of several small ones with the same columns."""

    data: bytes
    pieces: tuple[_Piece, ...]
    columns: tuple[str, ...]
    records: Records | None = None
    """Found already where finding the window's end took it."""


def read_batches(
    segments: Sequence[Segment], dialect: Dialect, columns: Callable[[Segment], Sequence[str]], window: int = WINDOW
) -> Iterator[Batch]:
    """Read the data records of CSV segments, in their order.

    Parameters
    ----------
    segments : sequence of Segment
    dialect : Dialect
    columns : callable
        Columns to give back of a segment; the others are split but not built.
    window : int
        Bytes to parse at once.

    Raises
    ------
    InputError
        If a source cannot be read to its end.
    """
    for item in _windows(segments, dialect, window):
        yield _batch(item, dialect, columns(segments[item.pieces[0].segment]))


def parse_records(texts: Sequence[str], names: Sequence[str], dialect: Dialect, columns: Sequence[str]) -> Batch:
    """Read texts, each of them one whole record, as the rows of one batch; their places are unknown."""
    data = "\n".join(texts).encode("utf-8", "surrogatepass")
    return _batch(_Window(data, (_Piece(0, 0, None),), tuple(names)), replace(dialect, encoding="utf-8"), columns)


def raw_batches(segment: Segment, dialect: Dialect, window: int = _RAW_WINDOW) -> Iterator[tuple[int, RawRows]]:
    """Yield (records, function that gives their raw text) of each window, without parsing cells."""
    for item in _windows([segment], dialect, window):
        records = item.records or find_records(item.data, dialect, final=True)
        yield len(records.starts), _RawRecords(item, dialect, records)


def _windows(segments: Sequence[Segment], dialect: Dialect, window: int) -> Iterator[_Window]:
    """Put small pieces together: parsing many tiny files one by one costs more than what is in them."""
    held: list[bytes] = []
    pieces: list[_Piece] = []
    size = 0
    for index, segment in enumerate(segments):
        for offset, data, records in _data_windows(segment, dialect, window):
            alone = len(data) > window // 2 or _leaks(data, dialect, records)
            full = size + len(data) > window
            if held and (alone or full or segment.columns != segments[pieces[0].segment].columns):
                yield _Window(b"".join(held), tuple(pieces), segments[pieces[0].segment].columns)
                held, pieces, size = [], [], 0
            if alone:
                yield _Window(data, (_Piece(index, 0, offset),), segment.columns, records)
                continue
            if held and not held[-1].endswith((b"\n", b"\r")):
                held.append(b"\n")
                size += 1
            held.append(data)
            pieces.append(_Piece(index, size, offset))
            size += len(data)
    if held:
        whole = held[0] if len(held) == 1 else b"".join(held)
        yield _Window(whole, tuple(pieces), segments[pieces[0].segment].columns)


def _leaks(data: bytes, dialect: Dialect, records: Records | None) -> bool:
    """Whether what is put behind these bytes might be taken as part of them, by an open quote or an escape."""
    if dialect.escape_byte and dialect.escape_byte in data[-2:]:
        return True
    if not dialect.quote_byte or dialect.quote_byte not in data:
        return False
    return bool((records or find_records(data, dialect, final=True)).malformed.any())


_Found = tuple[int | None, bytes, Records | None]


def _data_windows(segment: Segment, dialect: Dialect, window: int) -> Iterator[_Found]:
    """Windows without the header record."""
    skip = segment.skip_header
    for offset, data, records in record_windows(segment, dialect, window):
        if skip and data.strip(b"\r\n"):
            skip = False
            end = header_end(data, dialect)
            offset, data, records = None if offset is None else offset + end, data[end:], None
        if data:
            yield offset, data, records


def record_windows(segment: Segment, dialect: Dialect, window: int) -> Iterator[_Found]:
    """Yield (offset, bytes, records if they were looked for) of windows that hold whole records.

    The offset is None where the bytes are not those of the file, because it is compressed or in a wide encoding.
    """
    if segment.compression or dialect.is_wide:
        yield from _stream_windows(segment, dialect, window)
        return
    with RangeReader(segment.path) as reader:
        position, size = segment.start, window
        while position < segment.end:
            length = min(size, segment.end - position)
            data = reader.read(position, length)
            if len(data) < length:
                raise InputError("an input is shorter than it was when planned", segment.label, hint="run again")
            used, records = _whole_records(data, dialect, position + length == segment.end)
            if not used:
                size *= 2  # one record fills the window
                continue
            yield position, data if used == len(data) else data[:used], records
            position, size = position + used, window


def _whole_records(data: bytes, dialect: Dialect, final: bool) -> tuple[int, Records | None]:
    """Return how many leading bytes are whole records, and the records where quotes made it necessary to find them."""
    if not dialect.quote_byte or dialect.quote_byte not in data:
        return last_record_end(data, dialect, final=final), None
    records = find_records(data, dialect, final=final)
    return (len(data) if final else records.consumed), records


def _stream_windows(segment: Segment, dialect: Dialect, window: int) -> Iterator[_Found]:
    decoder = codecs.getincrementaldecoder(dialect.encoding)(_NOT_UTF8) if dialect.is_wide else None
    rest, first, final, skip = b"", True, False, dialect.skip_rows
    with open_stream(segment.path, segment.compression, dialect.max_expansion) as stream:
        while not final:
            piece = bytes(stream.read(window))
            final = not piece
            if decoder is not None:
                piece = decoder.decode(piece, final).encode("utf-8", "surrogatepass")
            rest = rest + piece if rest or not first else piece.removeprefix(codecs.BOM_UTF8)
            first = False
            if skip:
                if not (skipped := lines_end(rest, skip)):
                    continue
                rest, skip = rest[skipped:], 0
            used = last_record_end(rest, dialect, final=final)
            if used:
                yield None, rest[:used], None
                rest = rest[used:]
            elif len(rest) > max(_ENDLESS, 4 * dialect.max_record_bytes):
                raise InputError(
                    "a line of an input has no end", segment.label, f"{len(rest):,} bytes without a line end",
                    f"{dialect.max_record_bytes:,} bytes a record", "look at the file, or raise input.max_record_bytes",
                )  # fmt: skip


def _keep_as_invalid(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: stand in a lone surrogate, whose bytes are not valid UTF-8 and so reject just that row."""
    return "\udcff", error.end if isinstance(error, UnicodeDecodeError) else 0


codecs.register_error(_NOT_UTF8, _keep_as_invalid)


def _batch(window: _Window, dialect: Dialect, columns: Sequence[str]) -> Batch:
    """Parse one window; see the module's text."""
    data = window.data
    text = data if dialect.is_utf8 or dialect.is_wide else _transcode(data, dialect)
    records = window.records if text is data else None
    if records is None and not is_plain(text, dialect):
        records = find_records(text, dialect, final=True)
    cells, broken = split_cells(text, records, window.columns, dialect, columns)
    raw = _RawRecords(window, dialect, records if dialect.is_utf8 or dialect.is_wide else None)
    count = cells.height + len(broken)
    batch = Batch(cells, count, raw, raw.spans(count), broken, starts=raw.known_starts)
    return _with_headers_marked(batch, window.columns, dialect)


def _transcode(data: bytes, dialect: Dialect) -> bytes:
    return data.decode(dialect.encoding, _NOT_UTF8).encode("utf-8", "surrogatepass")


class _RawRecords:
    """Finds records of a window, their raw text and their places, when somebody asks."""

    def __init__(self, window: _Window, dialect: Dialect, records: Records | None) -> None:
        self._window, self._dialect, self._found = window, dialect, records

    @property
    def _records(self) -> Records:
        if self._found is None:
            self._found = find_records(self._window.data, self._dialect, final=True)
        return self._found

    def known_starts(self) -> RowNumbers | None:
        """Return the places in the files of all records, if they have been looked for."""
        if self._found is None or self._window.pieces[0].offset is None:
            return None
        return self._shifted(self._found.starts)

    def spans(self, count: int) -> tuple[Span, ...]:
        """Say how many records each piece of the window has; ``count`` is how many there are in all."""
        pieces = self._window.pieces
        if len(pieces) == 1:
            return (Span(pieces[0].segment, count),)
        first = np.searchsorted(self._records.starts, [piece.start for piece in pieces])
        rows = np.diff(first, append=count).tolist()
        return tuple(Span(piece.segment, rows) for piece, rows in zip(pieces, rows, strict=True))

    def __call__(self, rows: RowNumbers) -> tuple[pl.Series, pl.Series]:
        """Return (texts, byte offsets) of the rows with these indices."""
        starts = self._records.starts
        # Blank lines between records go to the record before them and are stripped with its line end.
        bounds = np.append(starts, self._records.ends[-1:])
        whole = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(starts), [None, pa.py_buffer(bounds), pa.py_buffer(self._window.data)]
        )
        texts = decode_texts(
            whole.take(pl.Series(rows).to_arrow()), "utf-8" if self._dialect.is_wide else self._dialect.encoding
        )
        return texts.str.strip_chars_end("\r\n"), self._offsets(starts[rows])

    def _offsets(self, starts: RowNumbers) -> pl.Series:
        if self._window.pieces[0].offset is None:
            return pl.repeat(None, len(starts), dtype=pl.Int64, eager=True)
        return pl.Series(self._shifted(starts), dtype=pl.Int64)

    def _shifted(self, starts: RowNumbers) -> RowNumbers:
        """Turn places in the window into places in the files."""
        pieces = self._window.pieces
        shift = np.array([(item.offset or 0) - item.start for item in pieces])
        piece = np.searchsorted([item.start for item in pieces], starts, side="right") - 1
        shifted: RowNumbers = starts + shift[piece]
        return shifted


def _with_headers_marked(batch: Batch, names: Sequence[str], dialect: Dialect) -> Batch:
    """Mark rows that are the header line once more."""
    cells = batch.cells
    if dialect.header is not None or not cells.height or not cells.width:
        return batch
    # Comparing takes a third of the time that a search for the name does: it stands at the beginning, unless there are
    # blanks or a mark before it.
    first, name = pl.col(cells.columns[0]), cells.columns[0]
    may_be = first.str.starts_with(name) | (first < "!") | (first >= "\ufeff")
    candidates = cells.select(may_be).to_series().arg_true()
    if not len(candidates):
        return batch
    # Names were stripped of blanks when the header was read, and files put together by cat have a mark before it.
    shown = cells[candidates].with_columns(pl.all().str.strip_chars(" \t\ufeff"))
    candidates = candidates.filter(shown.select(pl.all_horizontal(pl.col(c) == c for c in cells.columns)).to_series())
    if cells.width < len(names) and len(candidates):  # the columns that were not built may tell it from the header
        plain = replace(dialect, encoding="utf-8")
        texts, _ = batch.raw(batch.row_numbers()[candidates.to_numpy()])
        same = [_stripped(first_fields(text.encode(), plain)) == list(names) for text in texts]
        candidates = candidates.filter(pl.Series(same))
    if not len(candidates):
        return batch
    return replace(batch, is_header=pl.repeat(False, cells.height, eager=True).scatter(candidates, True))


def _stripped(fields: list[str]) -> list[str]:
    return [field.strip(" \t\ufeff") for field in fields]
