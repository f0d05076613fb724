"""The operating system's errors in the words of a person who has to do something about them, and no secrets in them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from daskae.errors import LoadError
from daskae.masking import mask_secrets as mask_secrets

_REASONS = {
    errno.ENOSPC: ("the disk of the target is full", "free some space, then run the same command again"),
    errno.EDQUOT: ("the disk quota of the target is used up", "free some space, then run the same command again"),
    errno.EROFS: ("the target is on a read-only disk", "choose another target"),
    errno.EACCES: ("access to the target was refused", "give write access, or choose another target"),
    errno.EPERM: ("access to the target was refused", "give write access, or choose another target"),
    errno.ENAMETOOLONG: ("a name is too long for the target", "use a shorter table name or path"),
}
_UNKNOWN = ("the target cannot be written", "check the path and the disk")


@contextmanager
def translated(target: str) -> Iterator[None]:
    """Turn ``OSError`` and Arrow's errors into :class:`LoadError`, naming the target. Our own errors pass."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        what, hint = _REASONS.get(getattr(error, "errno", None) or 0, _UNKNOWN)
        raise LoadError(what, where=target, got=str(error), hint=hint) from error


def plain_message(error: object) -> str:
    """Return what a database says of an error, without the values of the row that PostgreSQL tells beside it."""
    return getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
