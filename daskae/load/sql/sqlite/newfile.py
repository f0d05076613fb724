"""A database that is not there yet is made under another name, and appears when its first load is in.

Nobody can read it before, so that load needs no write-ahead log, which would write every page twice: a first million of
customers takes 3.4 s instead of 4.1 s (``python -m benchmarks.load --databases sqlite``).
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from daskae.durable import sync
from daskae.errors import TargetBusyError
from daskae.faults import crash_point
from daskae.load.sql.ledger import LEDGER
from daskae.load.sql.sqlite.session import begin_log

_LOGS = ("-journal", "-wal", "-shm")


@contextmanager
def appearing(path: Path, timeout: float) -> Iterator[Path]:
    """Yield the path to open: the database itself if there is a file, else one that takes its name when the body ends.

    Must be called under the publisher's lock. After an error the database appears only if a failure was noted in it.

    Raises
    ------
    TargetBusyError
        When another program has made a database of that name meanwhile, and has put something in or keeps it locked.
    """
    aside = path.with_name(f"{path.name}-daskae-new")
    with suppress(OSError):  # what somebody else has left in a folder of many may stay
        _remove(aside)  # of a run that was killed
    if path.exists():
        yield path
        return
    try:
        yield aside
    except BaseException:
        with suppress(OSError, sqlite3.Error, TargetBusyError):
            if _holds_a_history(aside):
                _give_name(aside, path, timeout)
        raise
    else:
        _give_name(aside, path, timeout)
    finally:
        _remove(aside)


def _holds_a_history(aside: Path) -> bool:
    with closing(sqlite3.connect(aside)) as database:
        query = "SELECT count(*) FROM sqlite_master WHERE name = ?"
        return bool(database.execute(query, (LEDGER,)).fetchone()[0])


def _give_name(aside: Path, path: Path, timeout: float) -> None:
    if not aside.exists() or not aside.stat().st_size:
        return
    with closing(sqlite3.connect(aside)) as database:
        begin_log(database)
    crash_point("sqlite.built")
    if not path.exists():
        _remove_logs(path)  # of a database that somebody has removed: SQLite would take them for this one's
    try:
        _link(aside, path)
    except FileExistsError:
        _copy(aside, path, timeout)
    with suppress(OSError):  # not every file system has it
        sync(path.parent)
    crash_point("sqlite.named")


def _link(aside: Path, path: Path) -> None:
    """Give a file its name, unless that is taken."""
    try:
        os.link(aside, path)
    except FileExistsError:
        if not path.samefile(aside):  # over a network an answer that was lost is asked for again
            raise
    except OSError:  # this file system has no links
        if path.exists():
            raise FileExistsError(path) from None
        aside.rename(path)


def _copy(aside: Path, path: Path, timeout: float) -> None:
    """Copy into an empty file, which a reader makes by looking for the database, and may hold open."""
    end = time.monotonic() + timeout

    def wait(status: int, remaining: int, total: int) -> None:
        if status == sqlite3.SQLITE_BUSY and time.monotonic() > end:
            raise TargetBusyError(f"another program reads or writes the database; waited {timeout:g} s", str(path))

    with closing(sqlite3.connect(aside)) as source, closing(sqlite3.connect(path, timeout=timeout)) as target:
        _require_empty(target, path)
        begin_log(target)
        source.backup(target, progress=wait)


def _require_empty(database: sqlite3.Connection, path: Path) -> None:
    if database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise TargetBusyError(
            "another program has made the database meanwhile", str(path), hint="run the same command again"
        )


def _remove(aside: Path) -> None:
    aside.unlink(missing_ok=True)
    _remove_logs(aside)


def _remove_logs(path: Path) -> None:
    for suffix in _LOGS:
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
