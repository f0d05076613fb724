"""Stable hashes: of bytes for identities, of text columns for buckets.

Where a row goes, and in which order customers are written, depends on these values, so they are our own definition and
not a library's in-memory hash, which may change with its version. The text hash reads eight bytes at a time as a
little-endian word, folds each word into the state with a multiply and a shift (the finaliser of MurmurHash3, Appleby
2011, public domain) and starts from the length, so ``"a"`` and ``"a\\0"`` differ. It is not a defence against chosen
input; it only spreads customers.

To find equal rows and keys, Polars' own row hash is used: it is seven times faster, and Polars promises it to be stable
within a version, which is part of every fingerprint.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

U64 = NDArray[np.uint64]

_READ_WINDOW = 4 << 20

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_SHIFT = np.uint64(33)
_NULL = np.uint64(0x6A09E667F3BCC908)


def digest_bytes(data: Any) -> str:
    """Return the XXH3-128 of a bytes-like object as 32 hex digits."""
    return str(xxhash.xxh3_128_hexdigest(data))


def file_checksum(path: Path) -> tuple[int, str]:
    """Return size and XXH3-128 of a file."""
    with path.open("rb", buffering=0) as file:
        return stream_checksum(file)


def stream_checksum(file: Any) -> tuple[int, str]:
    """Return size and XXH3-128 of what is left of an open file that has ``readinto``."""
    state, size = xxhash.xxh3_128(), 0
    buffer = bytearray(_READ_WINDOW)
    while count := file.readinto(buffer):
        state.update(memoryview(buffer)[:count])
        size += count
    return size, str(state.hexdigest())


def digest_texts(*parts: str) -> str:
    """Return one digest for a sequence of texts; the sequence matters, not only the joined text."""
    state = xxhash.xxh3_128()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return str(state.hexdigest())


def hash_text(column: pl.Series) -> U64:
    """Hash a text column.

    Parameters
    ----------
    column : polars.Series of String, shape (n,)

    Returns
    -------
    ndarray of uint64, shape (n,)
    """
    arrow = column.to_arrow()
    if not len(arrow):
        return np.empty(0, np.uint64)
    offsets = np.frombuffer(arrow.buffers()[1], np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    lengths = np.diff(offsets)
    words = _words(arrow.buffers()[2], int(offsets[-1]))
    state: U64 = lengths.astype(np.uint64) * _GOLDEN
    rows: Any = slice(None)
    position, left = offsets[:-1], lengths
    for done in range(0, int(lengths.max()), 8):
        if int(left.min()) <= done:
            rows = np.flatnonzero(lengths > done)
            position, left = offsets[rows], lengths[rows]
        word = words[position + done]
        if int(left.min()) - done < 8:
            word = _low_bits(word, np.minimum(left - done, 8))
        part = (state[rows] ^ word) * _FIRST
        state[rows] = part ^ (part >> _SHIFT)
    state *= _SECOND
    state ^= state >> _SHIFT
    if arrow.null_count:
        state[column.is_null().to_numpy()] = _NULL
    return state


_MASKS = np.array([(1 << (8 * count)) - 1 for count in range(9)], np.uint64)


def _low_bits(word: U64, count: NDArray[np.int64]) -> U64:
    """Keep the low ``count`` bytes of each word."""
    return word & _MASKS[count]


def _words(buffer: Any, used: int) -> U64:
    """View a byte buffer as overlapping eight-byte words, one starting at each byte that is used."""
    data = np.frombuffer(buffer, np.uint8) if buffer is not None else np.empty(0, np.uint8)
    if data.size < used + 8:
        data = np.concatenate([data[:used], np.zeros(8, np.uint8)])
    return np.ndarray((used + 1,), "<u8", data, 0, (1,))


def bucket_of(hashes: U64, buckets: int) -> NDArray[np.uint16]:
    """Map hashes to buckets by their high bits.

    Buckets are ranges of the hash, so customers ordered by (bucket, hash) are ordered by hash whatever the number of
    buckets: that is what makes the output bytes independent of it.

    Parameters
    ----------
    hashes : ndarray of uint64
    buckets : int
        A power of two, at most 65,536.
    """
    bits = buckets.bit_length() - 1
    if bits == 0:
        return np.zeros(len(hashes), np.uint16)
    return (hashes >> np.uint64(64 - bits)).astype(np.uint16)
