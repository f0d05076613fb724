"""Look at a source once: its columns, where it can be cut, and a hash of every piece.

A plain CSV file is cut near multiples of the block size, each time at the first record end at or after it, so appending
to a file leaves its earlier pieces as they were. Pieces are scanned in parallel: each thread takes the first line end
after its mark as a record end, and the chain of pieces is then checked from the front; a piece whose guess was wrong
(its mark lay inside quotes) is scanned again from where its predecessor ended.
"""

import codecs
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import xxhash

from daskae.errors import InputError
from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.read.records import first_fields, first_record_end, last_record_end, line_ends, lines_end
from daskae.read.source import (
    HASH_WINDOW,
    RangeReader,
    compression_of,
    file_size_and_identity,
    hash_range,
    open_stream,
)

_BOM = b"\xef\xbb\xbf"
_HEADER_LIMIT = 1 << 20


@dataclass(frozen=True)
class _Piece:
    start: int
    end: int
    digest: str


def scan_csv(path: str, label: str, dialect: Dialect, block_size: int, pool: ThreadPoolExecutor) -> list[Segment]:
    """Cut a CSV file into segments.

    Raises
    ------
    InputError
        If the file is empty, cannot be read, or its header is not usable.
    """
    size, identity, _ = file_size_and_identity(path)
    compression = compression_of(label)
    if size == 0:
        raise InputError("an input file is empty", label, "0 bytes", "a header line at least", "remove or refetch it")
    if compression or dialect.is_wide:
        head = _stream_head(path, label, compression, dialect)
        with RangeReader(path) as reader:
            pieces = [_Piece(0, size, hash_range(reader, 0, size))]
        columns = _header(head[_header_start(head, label, dialect) :], label, dialect)
    else:
        with RangeReader(path) as reader:
            head = reader.read(0, min(size, _HEADER_LIMIT))
            first = len(_BOM) if dialect.is_utf8 and head.startswith(_BOM) else 0
            first += _header_start(head[first:], label, dialect)
            columns = _header(head[first:], label, dialect)
            pieces = _cut(path, first, size, dialect, block_size, pool)
    return [
        Segment(
            path, label, "csv", piece.start, piece.end, piece.end - piece.start, piece.digest, columns, identity,
            compression, skip_header=dialect.header is None and i == 0,
        )
        for i, piece in enumerate(pieces)
    ]  # fmt: skip


def _stream_head(path: str, label: str, compression: str, dialect: Dialect) -> bytes:
    with open_stream(path, compression, dialect.max_expansion) as stream:
        head = bytes(stream.read(_HEADER_LIMIT))
    if not head:
        raise InputError("an input file is empty", label, "0 bytes after decompression", hint="remove or refetch it")
    if dialect.is_wide:
        text = codecs.getincrementaldecoder(dialect.encoding)("replace").decode(head)
        # An encoding that names its byte order, such as utf-16-le, leaves the mark in the text.
        return text.removeprefix("\ufeff").encode("utf-8", "replace")
    return head.removeprefix(_BOM)


def _header_start(head: bytes, label: str, dialect: Dialect) -> int:
    """Return the length of the lines to skip and the blank lines that a file begins with."""
    skipped = lines_end(head, dialect.skip_rows)
    if dialect.skip_rows and not skipped:
        raise InputError(
            "an input file ends before its header", label, f"no line behind the first {dialect.skip_rows}",
            f"a header within {_HEADER_LIMIT} bytes", "check input.skip_rows",
        )  # fmt: skip
    return len(head) - len(head[skipped:].lstrip(b"\r\n"))


def _header(head: bytes, label: str, dialect: Dialect) -> tuple[str, ...]:
    """Return the column names."""
    if dialect.header is not None:
        return dialect.header
    if not head:
        raise InputError(
            "an input file holds no header", label, "blank lines only", hint="check input.header and input.skip_rows"
        )
    end = first_record_end(head, dialect, final=True)
    try:
        names = [name.strip() for name in first_fields(head[:end], dialect)]
    except UnicodeDecodeError as error:
        raise InputError(
            "the header line is not valid in the declared encoding", label, str(error)[:120], dialect.encoding,
            "set input.encoding, for example to latin-1 or utf-16",
        ) from None  # fmt: skip
    if not any(names) or any("\0" in name for name in names):
        raise InputError(
            "the header line is not readable", label, repr(head[:80]), hint="check input.encoding and input.header"
        )
    names = [name or f"_column{i + 1}" for i, name in enumerate(names)]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InputError(
                "two columns have the same name", label, f"{name!r} at positions {names.index(name) + 1} and {i + 1}",
                hint="name the columns yourself with input.header, and leave this line out with input.skip_rows",
            )  # fmt: skip
    return tuple(names)


def _cut(path: str, first: int, size: int, dialect: Dialect, block: int, pool: ThreadPoolExecutor) -> list[_Piece]:
    """Cut ``[first, size)`` near multiples of ``block``."""
    marks = [first, *range(block, size, block), size]
    guesses = list(
        pool.map(lambda i: _guessed_piece(path, marks[i], marks[i + 1], size, dialect, i == 0), range(len(marks) - 1))
    )
    pieces: list[_Piece] = []
    position = first
    for i, guess in enumerate(guesses):
        if position >= marks[i + 1] and i + 1 < len(guesses):
            continue  # a record longer than a block has eaten this one
        if guess is None or guess.start != position:
            with RangeReader(path) as reader:
                guess = _piece(reader, position, marks[i + 1], size, dialect)
        if guess.end > guess.start:
            pieces.append(guess)
        position = guess.end
    return pieces


def _guessed_piece(path: str, mark: int, target: int, size: int, dialect: Dialect, known: bool) -> _Piece | None:
    with RangeReader(path) as reader:
        start = mark if known else _next_line(reader, mark, size)
        return None if start is None or start >= target else _piece(reader, start, target, size, dialect)


def _next_line(reader: RangeReader, mark: int, size: int) -> int | None:
    """Return the offset just after the first line end at or after ``mark - 1``; None when it is not near."""
    data = reader.read(mark - 1, 1 << 16)
    ends = line_ends(data, mark - 1 + len(data) >= size)
    return mark - 1 + int(ends[0]) if len(ends) else None


def _piece(reader: RangeReader, start: int, target: int, size: int, dialect: Dialect) -> _Piece:
    """Scan from a record start to the first record end at or after ``target``, hashing on the way."""
    state = xxhash.xxh3_128()
    position, window = start, HASH_WINDOW
    while position < target:
        length = min(window, target - position)
        data = reader.read(position, length)
        used = last_record_end(data, dialect, final=position + length == size)
        if used:
            state.update(data[:used])
            position, window = position + used, HASH_WINDOW
        elif position + length < target:
            window *= 2
        else:
            break
    if position < target:
        length = _straddling(reader, position, target, size, dialect)
        state.update(reader.read(position, length))
        position += length
    return _Piece(start, position, str(state.hexdigest()))


def piece_from(reader: RangeReader, start: int, target: int, size: int, dialect: Dialect) -> tuple[int, str]:
    """Return the first record end at or after ``target`` from a record start on, and the hash of the bytes up to it."""
    piece = _piece(reader, start, target, size, dialect)
    return piece.end, piece.digest


def _straddling(reader: RangeReader, start: int, target: int, size: int, dialect: Dialect) -> int:
    """Length of the records from ``start`` on up to the first that ends at or after ``target``."""
    length = max(target - start, 1) + 4096
    while True:
        length = min(length, size - start)
        data = reader.read(start, length)
        final = start + length == size
        done = 0
        while done < length:
            end = first_record_end(data[done:], dialect, final=final)
            done += end
            if not end or start + done >= target:
                break
        if start + done >= target or final:
            return done
        length *= 2
