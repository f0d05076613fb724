"""SQLite's errors in the words of a person who has to do something about them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from daskae.errors import LoadError, TargetBusyError
from daskae.load.failures import translated

_REASONS = {
    sqlite3.SQLITE_READONLY: ("the database cannot be written", "give write access to the file and its folder"),
    sqlite3.SQLITE_PERM: ("access to the database was refused", "give access to the file and its folder"),
    sqlite3.SQLITE_CANTOPEN: ("the database cannot be opened", "check the path and the access to file and folder"),
    sqlite3.SQLITE_FULL: ("the disk of the database is full", "free some space, then run the same command again"),
    sqlite3.SQLITE_IOERR: ("the disk of the database reports an error", "check the disk, then run the command again"),
    sqlite3.SQLITE_NOTADB: ("the file is not a SQLite database", "choose another path, or move the file away"),
    sqlite3.SQLITE_CORRUPT: ("the database is damaged", "restore it from a copy, or move the file away and run again"),
    sqlite3.SQLITE_CONSTRAINT: ("a rule of the database refuses the rows", "look at its unique indexes and triggers"),
}
_UNKNOWN = ("the database refuses the load", "look at the table, its indexes and triggers")


@contextmanager
def sqlite_translated(target: str, timeout: float) -> Iterator[None]:
    """Turn the errors of SQLite, SQLAlchemy and the operating system into :class:`LoadError`, naming the target."""
    try:
        with translated(target):
            yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        found = _load_error(error.orig if isinstance(error, sa.exc.DBAPIError) else error, target, timeout)
        raise found from (None if isinstance(found, TargetBusyError) else error)


def _load_error(error: BaseException | None, target: str, timeout: float) -> LoadError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return TargetBusyError(
            f"another program is writing to the database; waited {timeout:g} s",
            where=target,
            hint="close it or wait for it, then run the same command again",
        )
    what, hint = _REASONS.get(code, _UNKNOWN)
    return LoadError(what, where=target, got=str(error), hint=hint)
