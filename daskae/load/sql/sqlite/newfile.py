"""A database that is not there yet is made under another name, and appears when its first load is in.

Nobody can read it before, so that load needs no write-ahead log, which would write every page twice: a first million of
customers takes 3.4 s instead of 4.1 s (``python -m benchmarks.load --databases sqlite``).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from daskae.durable import sync
from daskae.errors import TargetBusyError
from daskae.faults import crash_point
from daskae.load.sql.sqlite.session import begin_log

_JOURNALS = ("-journal", "-wal", "-shm")


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield the path to open: the database itself if there is a file, else one that takes its name when the body ends.

    Must be called under the publisher's lock. After an error the database appears too, with what the body committed,
    which is the note of the failure.

    Raises
    ------
    TargetBusyError
        When another program has made a database of that name meanwhile, and has put something in.
    """
    aside = path.with_name(f"{path.name}-daskae-new")
    _remove(aside)  # of a run that was killed
    if path.exists():
        yield path
        return
    try:
        yield aside
    except BaseException:
        with suppress(OSError, sqlite3.Error, TargetBusyError):
            _give_name(aside, path)
        raise
    else:
        _give_name(aside, path)
    finally:
        _remove(aside)


def _give_name(aside: Path, path: Path) -> None:
    if not aside.exists() or not aside.stat().st_size:
        return
    with closing(sqlite3.connect(aside)) as database:
        begin_log(database)
    crash_point("sqlite.built")
    try:
        _link(aside, path)
    except FileExistsError:
        _copy(aside, path)
    sync(path.parent)
    crash_point("sqlite.named")


def _link(aside: Path, path: Path) -> None:
    """Give a file its name, unless that is taken."""
    try:
        os.link(aside, path)
    except FileExistsError:
        raise
    except OSError:  # this file system has no links
        if path.exists():
            raise FileExistsError(path) from None
        aside.rename(path)


def _copy(aside: Path, path: Path) -> None:
    """Copy into an empty file, which a reader makes by looking for the database, and may hold open."""
    with closing(sqlite3.connect(aside)) as source, closing(sqlite3.connect(path)) as target:
        if target.execute("PRAGMA page_count").fetchone()[0]:
            raise TargetBusyError(
                "another program has made the database meanwhile", str(path), hint="run the same command again"
            )
        begin_log(target)
        source.backup(target)


def _remove(aside: Path) -> None:
    for suffix in ("", *_JOURNALS):
        aside.with_name(f"{aside.name}{suffix}").unlink(missing_ok=True)
