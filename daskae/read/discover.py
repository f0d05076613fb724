"""From what a person names (files, globs, folders, URLs) to segments with content ids."""

import glob
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from daskae.durable import replacing
from daskae.errors import InputError
from daskae.faults import crash_point
from daskae.hashing import digest_texts
from daskae.masking import mask_secrets
from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.read.parquet import scan_parquet
from daskae.read.scan import scan_csv
from daskae.read.source import file_size_and_identity, filesystem, is_url
from daskae.sealed import seal, unseal

_ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".pq")
_PACKED = ("", ".gz", ".zst", ".bz2", ".xz")
_SCAN_FORMAT = "1"
_SETTLED_SECONDS = 2.0


@dataclass(frozen=True)
class SourceFile:
    """One input file."""

    path: str
    label: str
    """Its path below what was named, so that moving the whole input changes nothing."""


def find_files(inputs: Sequence[str]) -> list[SourceFile]:
    """List the files that a person means, in path order.

    A folder stands for the CSV and Parquet files below it; names that begin with ``_`` or ``.`` are left out, as
    elsewhere in the field. A file named itself is taken whatever its name. Files of one name are told apart by their
    whole path.

    Raises
    ------
    InputError
        If a path does not exist, or stands for no file at all.
    """
    found: dict[str, tuple[str, str]] = {}
    for text in inputs:
        for path, label in _expand(text):
            found.setdefault(path if is_url(path) else os.path.realpath(path), (path, mask_secrets(label)))
    counts = Counter(label for _, label in found.values())
    files = [
        SourceFile(path, label if counts[label] == 1 else mask_secrets(_whole(given)))
        for path, (given, label) in found.items()
    ]
    return sorted(files, key=lambda file: file.label)


def _whole(path: str) -> str:
    """Return a path from the root on; of a link its own, whose ending tells the compression."""
    return path if is_url(path) else os.path.abspath(path)


def _expand(text: str) -> list[tuple[str, str]]:
    if text.startswith(("file://", "local://")) and "::" not in text:
        text = str(filesystem(text)[1])
    if is_url(text):
        return _expand_url(text)
    if os.path.isdir(text):
        paths = sorted(str(path) for path in Path(text).rglob("*") if path.is_file() and _is_data(path, Path(text)))
        if not paths:
            raise InputError("a folder holds no CSV or Parquet file", text, allowed=", ".join(_ENDINGS))
        return [(path, Path(path).relative_to(text).as_posix()) for path in paths]
    if os.path.exists(text):
        return [(text, os.path.basename(text))]
    paths = sorted(path for path in glob.glob(text, recursive=True) if os.path.isfile(path))
    if not paths:
        raise InputError("no such file, folder or pattern", text, hint=f"looked from {os.getcwd()}")
    return [(path, os.path.relpath(path, _pattern_root(text) or ".")) for path in paths]


def _pattern_root(text: str) -> str:
    """Return the folder in front of a pattern's first letter with a meaning."""
    return os.path.dirname(re.split(r"[*?\[]", text, maxsplit=1)[0])


def _is_data(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    name = path.name.lower()
    return not any(part.startswith(("_", ".")) for part in parts) and any(
        name.endswith(ending + packed) for ending in _ENDINGS for packed in _PACKED
    )


def _expand_url(text: str) -> list[tuple[str, str]]:
    fs, inner = filesystem(text)
    try:
        if fs.isdir(inner):
            names = [name for name in fs.find(inner) if _is_data(Path(name), Path(inner))]
            root = inner
        elif fs.exists(inner):  # its name may hold the letters of a pattern
            names, root = [inner], os.path.dirname(inner)
        else:
            names, root = fs.glob(inner), _pattern_root(inner)
    except OSError as error:
        raise InputError("an input cannot be listed", text, str(error)[:200]) from error
    if not names:
        raise InputError("no such file, folder or pattern", text)
    chained = "::" in text
    return [
        (_chained(text, name, inner) if chained else fs.unstrip_protocol(name), name.removeprefix(root).lstrip("/"))
        for name in sorted(names)
    ]


def _chained(text: str, name: str, inner: str) -> str:
    """Return the URL of one file that a chain of file systems, such as ``zip://*.csv::shop.zip``, stands for."""
    if name == inner:
        return text
    first, _, rest = text.partition("::")
    protocol, found, _ = first.partition("://")
    if not found:
        raise InputError(
            "several files behind a chained URL cannot be read", text, name, "one file, or an archive's protocol first",
            "name the files one by one",
        )  # fmt: skip
    return f"{protocol}://{name}::{rest}"


@dataclass(frozen=True)
class ScanCache:
    """What earlier scans found, a file each."""

    folder: Path
    keeps: bool = True
    """Whether what is found now is added."""


def scan_files(
    files: Sequence[SourceFile], dialect: Dialect, block_size: int, cache: ScanCache | None, threads: int
) -> list[Segment]:
    """Cut every file into segments, using what earlier scans of unchanged files found.

    Parameters
    ----------
    files : sequence of SourceFile
    dialect : Dialect
    block_size : int
        Bytes a segment is to have, roughly.
    cache : ScanCache or None
        Earlier scans; None looks at every byte again.
    threads : int
    """
    settings = digest_texts(_SCAN_FORMAT, str(block_size), repr(dialect))
    with ThreadPoolExecutor(threads) as outer, ThreadPoolExecutor(threads) as inner:
        scans = outer.map(lambda file: _scan(file, dialect, block_size, cache, settings, inner), files)
        return [segment for segments in scans for segment in segments]


def _scan(
    file: SourceFile,
    dialect: Dialect,
    block_size: int,
    cache: ScanCache | None,
    settings: str,
    pool: ThreadPoolExecutor,
) -> list[Segment]:
    _, identity, modified = file_size_and_identity(file.path)
    key = digest_texts(settings, file.path, file.label, identity)
    secret = mask_secrets(file.path) != file.path
    entry = None if cache is None or secret else cache.folder / f"{key}.json"
    if entry is not None and (known := _load(entry)) is not None:
        return known
    started = time.time()
    if file.label.lower().endswith((".parquet", ".pq")):
        segments = scan_parquet(file.path, file.label, block_size)
    else:
        segments = scan_csv(file.path, file.label, dialect, block_size, pool)
    # A file written just before the scan may be written again without a visible change of its time.
    if cache is not None and cache.keeps and entry is not None and started - modified > _SETTLED_SECONDS:
        with replacing(entry) as temporary:
            temporary.write_text(seal([asdict(segment) for segment in segments]))
            crash_point("scan.before_rename")
    return segments


def _load(entry: Path) -> list[Segment] | None:
    """Return what an earlier scan found; None if there was none, or not a byte of it may be trusted."""
    try:
        rows: list[dict[str, Any]] = unseal(entry.read_text())
        if not rows:
            return None
        return [Segment(**{**row, "columns": tuple(row["columns"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
