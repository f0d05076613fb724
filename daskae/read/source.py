"""Bytes of a local path or an fsspec URL: size, identity, a range, a stream.

Local files go through the operating system directly, anything with a protocol through fsspec. An operating-system error
becomes an :class:`~daskae.errors.InputError` that names the file, in one place.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import xxhash

from daskae.errors import InputChangedError, InputError
from daskae.masking import mask_secrets

HASH_WINDOW = 1 << 20
MAX_EXPANSION = 250
"""Bytes behind one byte of a compressed file, at most; order files of a shop take a tenth of their size (measured)."""
_NEVER_TOO_MUCH = 256 << 20
"""Bytes that any compressed file may hold; a small one that says the same again and again is no bomb."""
_NOT_REMOTE = ("__main__", "daskae", "polars", "pyarrow", "numpy", "pandas")
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}


def is_url(path: str) -> bool:
    """Whether a path names an fsspec file system rather than a local file."""
    return "://" in path or "::" in path


def compression_of(label: str) -> str:
    """Tell the compression from the ending of the name a person knows a file by; empty for none."""
    return _COMPRESSIONS.get(os.path.splitext(label)[1].lower(), "")


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Translate failures to read ``path`` into an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError("an input is gone", path, hint="run again with the files that are there now") from error
    except EOFError as error:
        raise InputError(
            "a compressed input ends too early", path, "truncated stream", hint="fetch it again"
        ) from error
    except OSError as error:
        # Masked before it is cut: of a password that is cut nobody could tell that it is one.
        raise InputError("an input cannot be read", path, mask_secrets(error.strerror or str(error))[:200]) from error
    except Exception as error:
        if not (is_url(path) and _is_foreign(error)):
            raise
        # Not its cause: such an error quotes the URL with all that is secret in it, and a worker logs it as it is.
        what = mask_secrets(f"{type(error).__name__}: {error}")[:200]
        raise InputError("an input cannot be read", path, what) from None


def _is_foreign(error: Exception) -> bool:
    """Whether an error is of a library that speaks with a remote file system."""
    module = type(error).__module__.partition(".")[0]
    return module not in _NOT_REMOTE and module not in sys.stdlib_module_names


def file_size_and_identity(path: str) -> tuple[int, str, float]:
    """Return size in bytes, identity, and modification time in seconds (0 where unknown).

    The identity changes when the file is written: size, modification time in nanoseconds and inode, or what the
    remote file system offers for it.
    """
    with reading(path):
        if not is_url(path):
            status = os.stat(path)
            return status.st_size, f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}", status.st_mtime
        fs, inner = filesystem(path)
        info = fs.info(inner)
        return int(info["size"]), str(fs.ukey(inner)), 0.0


def require_unchanged(path: str, label: str, identity: str) -> None:
    """Check after reading that a source is what it was when it was planned.

    Raises
    ------
    InputChangedError
    """
    try:
        now = file_size_and_identity(path)[1]
    except InputError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        now = "gone"
    if now != identity:
        raise InputChangedError(
            "an input changed while it was read", label, now, identity, "let the writer finish, then run again"
        )


class RangeReader:
    """Random reads of one file; a context manager."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._file: Any = None
        self._filesystem: Any = None

    def __enter__(self) -> "RangeReader":
        with reading(self.path):
            if is_url(self.path):
                # Kept as long as the file: an archive is closed with its last file system.
                self._filesystem, inner = filesystem(self.path)
                self._file = self._filesystem.open(inner, "rb")
            else:
                self._fd = os.open(self.path, os.O_RDONLY)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()
        elif self._fd >= 0:
            os.close(self._fd)

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes at ``offset``, fewer at the end of the file."""
        with reading(self.path):
            if self._file is not None:
                return self._read_remote(offset, length)
            return os.pread(self._fd, length, offset)

    def _read_remote(self, offset: int, length: int) -> bytes:
        try:
            self._file.seek(offset)
            return bytes(self._file.read(length))
        except ValueError as error:  # what fsspec says of a web server that knows no ranges
            raise InputError(
                "a part of an input cannot be read", self.path, str(error)[:200],
                hint="copy the file to this machine, or to a server that answers range requests",
            ) from error  # fmt: skip


def hash_range(reader: RangeReader, start: int, end: int) -> str:
    """Return the XXH3-128 of a byte range, read in windows."""
    state = xxhash.xxh3_128()
    for offset in range(start, end, HASH_WINDOW):
        state.update(reader.read(offset, min(HASH_WINDOW, end - offset)))
    return str(state.hexdigest())


@contextmanager
def open_stream(path: str, compression: str, max_expansion: int = MAX_EXPANSION) -> Iterator[IO[bytes]]:
    """Open a whole file for reading in order, decompressed; one that holds too much for its size is refused."""
    with reading(path):
        raw: Any
        if is_url(path):
            fs, inner = filesystem(path)
            raw = fs.open(inner, "rb")
        else:
            raw = open(path, "rb")  # noqa: SIM115
    with raw, reading(path), _decompressed(raw, compression) as stream:
        yield cast(IO[bytes], _Bounded(stream, path, max_expansion)) if compression else stream


class _Bounded:
    """A decompressed stream that ends in an error where it grows beyond what its file may hold."""

    def __init__(self, stream: IO[bytes], path: str, max_expansion: int) -> None:
        self._stream, self._path = stream, path
        size = file_size_and_identity(path)[0]
        self._size, self._allowed = size, max(_NEVER_TOO_MUCH, size * max_expansion)
        self._read = 0

    def read(self, count: int) -> bytes:
        """Return the next bytes."""
        data = self._stream.read(count)
        self._read += len(data)
        if self._read > self._allowed:
            raise InputError(
                "a compressed input holds too much for its size", self._path,
                f"more than {self._allowed:,} bytes", f"{self._allowed:,} bytes behind a file of {self._size:,}",
                "look at the file; if it is right, raise input.max_expansion",
            )  # fmt: skip
        return data


@contextmanager
def _decompressed(raw: IO[bytes], compression: str) -> Iterator[Any]:
    """Decompress; Arrow's streams are used because they notice a cut file, which zstandard's reader does not."""
    if not compression:
        yield raw
    elif compression == "xz":
        import lzma

        try:
            with lzma.LZMAFile(raw) as stream:
                yield stream
        except lzma.LZMAError as error:
            raise OSError(str(error)) from error
    else:
        import pyarrow as pa

        with pa.CompressedInputStream(pa.PythonFile(raw, "r"), compression) as stream:
            yield stream


def filesystem(path: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Raises
    ------
    InputError
        If nothing is known of the protocol, what it needs is not installed, or an archive cannot be opened.
    """
    import zipfile

    import fsspec

    try:
        fs, inner = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError("a URL cannot be opened", path, str(error)[:200]) from error
    return fs, inner
