"""Files that are there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, synced: bool = False) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to, which becomes ``path`` when the body ends; on any error it is removed.

    Parameters
    ----------
    path : Path
        The file to make or to replace. Its folder must exist.
    synced : bool, default False
        Whether it is to outlive a power cut: what can be made again need not.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if synced:
            sync(temporary)
        temporary.replace(path)
        if synced:
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_names(path: Path) -> None:
    """Wait until the way to a file or folder is on the disk: its name, and the names of the folders above it.

    It stops at the first folder that cannot be opened or has no such list, which nobody has made just now.
    """
    with suppress(OSError):
        for folder in path.absolute().parents:
            sync(folder)
