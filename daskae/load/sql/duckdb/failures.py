"""DuckDB's errors in the words of a person who has to do something about them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import sqlalchemy as sa

from daskae.errors import LoadError, TargetBusyError
from daskae.load.failures import translated

# DuckDB gives no codes, so the texts decide.
_REASONS = {
    "no space left|out of disk|disk is full": (
        "the disk of the database is full",
        "free some space, then run the same command again",
    ),
    "permission denied|read-only": ("the database cannot be written", "give write access to the file and its folder"),
    "not a valid DuckDB|different version": (
        "the file is not a database that this DuckDB reads",
        "choose another path, or another version of duckdb",
    ),
    "constraint": ("a rule of the database refuses the rows", "look at its constraints and indexes"),
    "out of memory|failed to allocate": ("the database has too little memory", "free some, then run again"),
}
_UNKNOWN = ("the database refuses the load", "look at the table and its indexes")


@contextmanager
def duckdb_translated(target: str) -> Iterator[None]:
    """Turn the errors of DuckDB, SQLAlchemy and the operating system into :class:`LoadError`, naming the target."""
    try:
        with translated(target):
            yield
    except (sa.exc.DBAPIError, duckdb.Error) as error:
        found = _load_error(error.orig if isinstance(error, sa.exc.DBAPIError) else error, target)
        raise found from (None if isinstance(found, TargetBusyError) else error)


def _load_error(error: BaseException | None, target: str) -> LoadError:
    message = str(error).strip()
    what, hint = next(
        (reason for words, reason in _REASONS.items() if re.search(words, message, re.IGNORECASE)), _UNKNOWN
    )
    if isinstance(error, duckdb.TransactionException) and re.search(r"(?i)conflict", message):
        hint = "wait for it, then run the same command again"
        return TargetBusyError("another connection changed the same rows or tables", target, message, hint=hint)
    return LoadError(what, where=target, got=message, hint=hint)
