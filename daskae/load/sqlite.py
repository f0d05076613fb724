"""The SQLite sink: stage, then one transaction that takes the old rows out, the new rows in, and writes the ledger.

What holds, whatever is killed and whenever:

- A reader sees the tables of one load or those of the load before it, all of them together, never a part.
- A load is in the database once; :mod:`daskae.load.ledger` has the rule. The ledger is table ``_daskae_loads``.
- The transaction proves before it commits that the rows staged are the rows announced, that as many arrived, and that
  the keys are unique: by a unique index on the keys (``replace``) or on keys and ``_load_id`` (``append``).
- An existing table stays the same object. Columns it lacks are added; further columns that may be null stay null.

How values are stored is told in :mod:`daskae.load.sqlite_values`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.faults import crash_point
from daskae.load.base import METADATA_COLUMNS, Load, Receipt, TableParts
from daskae.load.checks import check_load
from daskae.load.ledger import add_entry, find_held, iso_text
from daskae.load.lock import publisher_lock
from daskae.load.sql_ledger import read_ledger, write_ledger
from daskae.load.sqlite_failures import sqlite_translated
from daskae.load.sqlite_session import connect, transaction
from daskae.load.sqlite_stage import drop_stages, fill_stage, repeated_keys, stage_name
from daskae.load.sqlite_tables import (
    check_declaration,
    check_table,
    create_or_extend,
    drop_key_index,
    ensure_key_index,
    find_table,
    quote,
)


class SqliteSink:
    """Publish loads into a SQLite database file.

    Parameters
    ----------
    url : sqlalchemy.URL
        ``sqlite:///path.db``.
    timeout : float, default 30
        Seconds to wait for another publisher or writer before :class:`~daskae.errors.TargetBusyError`.
    """

    def __init__(self, url: sa.URL, timeout: float = 30.0) -> None:
        self._target = url.render_as_string(hide_password=True)
        # Two names of one file must lead to one lock.
        self._path = Path(url.database or "").resolve()
        self._timeout = timeout

    def preflight(self, load: Load) -> Receipt | None:
        """Check that the database can take the load; see :class:`daskae.load.base.Sink`."""
        check_load(load)
        with sqlite_translated(self._target, self._timeout):
            self._check_place()
            for parts in load.tables:
                check_declaration(parts)
            if not self._path.exists():
                return None
            with connect(self._path, self._timeout) as connection:
                if receipt := self._find_receipt(connection, load):
                    return receipt
                for parts in load.tables:
                    check_table(connection, parts)
        return None

    def publish(self, load: Load) -> Receipt:
        """Make the load visible in one transaction; see :class:`daskae.load.base.Sink`."""
        check_load(load)
        with sqlite_translated(self._target, self._timeout):
            self._check_place()
            with self._locked(), connect(self._path, self._timeout, create=True) as connection:
                drop_stages(connection)
                if receipt := self._find_receipt(connection, load):
                    return receipt
                for parts in load.tables:
                    check_table(connection, parts)
                with _staged(connection, load):
                    crash_point("sqlite.staged")
                    _publish_staged(connection, load)
                    crash_point("sqlite.committed")
        return self._receipt(load, already=False)

    def _locked(self) -> AbstractContextManager[None]:
        lock = self._path.with_name(f"{self._path.name}-daskae-lock")
        return publisher_lock(lock, self._timeout, self._target)

    def _check_place(self) -> None:
        folder = self._path.parent
        if not folder.is_dir():
            raise LoadError(
                "the folder of the database does not exist", where=str(folder), hint="create it, or correct the path"
            )
        if self._path.is_dir():
            raise LoadError("the path of the database is a folder", where=str(self._path), hint="name a file in it")
        # A journal is written beside the database, so the folder must be writable too.
        for place in (folder, self._path):
            if place.exists() and not os.access(place, os.W_OK):
                raise LoadError(
                    "the database cannot be written", where=str(place), hint="give write access, or choose another path"
                )

    def _find_receipt(self, connection: sa.Connection, load: Load) -> Receipt | None:
        entry = find_held(read_ledger(connection), load)
        if entry is None:
            return None
        there = all(_count_load(connection, name, load.load_id) == rows for name, rows in entry.tables.items())
        return self._receipt(load, already=True, rows=entry.tables) if there else None

    def _receipt(self, load: Load, already: bool, rows: Mapping[str, int] | None = None) -> Receipt:
        rows = rows or {parts.name: parts.rows for parts in load.tables}
        return Receipt(load.load_id, already, dict(rows), {name: f"{self._target}: {name}" for name in rows})


@contextmanager
def _staged(connection: sa.Connection, load: Load) -> Iterator[None]:
    try:
        for parts in load.tables:
            fill_stage(connection, load, parts)
        yield
    finally:
        # What happened is decided by now; tables that cannot be dropped are dropped by the next run.
        with suppress(sa.exc.DBAPIError):
            drop_stages(connection)


def _publish_staged(connection: sa.Connection, load: Load) -> None:
    try:
        with transaction(connection):
            entries = read_ledger(connection)
            again = any(entry.load_id == load.load_id for entry in entries)
            for parts in load.tables:
                _move(connection, load, parts, again)
            write_ledger(connection, entries, add_entry(entries, load))
            crash_point("sqlite.uncommitted")
    except sa.exc.IntegrityError as error:
        if repeated := repeated_keys(connection, load):
            raise repeated from error
        raise


def _move(connection: sa.Connection, load: Load, parts: TableParts, again: bool) -> None:
    staged = _count(connection, stage_name(load, parts))
    if staged != parts.rows:
        raise _row_error(parts, f"{staged} rows staged", f"{parts.rows} rows announced")
    table = create_or_extend(connection, parts)
    if load.strategy == "replace":
        connection.exec_driver_sql(f"DELETE FROM {quote(table.name)}")
    elif again:  # rows of a publish that was replaced in another table only
        connection.exec_driver_sql(f"DELETE FROM {quote(table.name)} WHERE _load_id = ?", (load.load_id,))
    crash_point("sqlite.deleted")
    before = _count(connection, table.name)
    if before:
        ensure_key_index(connection, parts, load.strategy)
    else:
        drop_key_index(connection, parts)  # building an index afterwards is faster than filling it
    _copy(connection, load, parts, table.name)
    arrived = _count(connection, table.name) - before
    if arrived != staged:
        raise _row_error(parts, f"{arrived} rows arrived", f"{staged} rows staged")
    ensure_key_index(connection, parts, load.strategy)


def _copy(connection: sa.Connection, load: Load, parts: TableParts, table: str) -> None:
    names = ", ".join(map(quote, (*parts.schema.names, *METADATA_COLUMNS)))
    query = f"INSERT INTO {quote(table)} ({names}) SELECT *, ?, ?, ? FROM {quote(stage_name(load, parts))}"
    connection.exec_driver_sql(query, (load.load_id, iso_text(load.loaded_at), load.source_rows))


def _count(connection: sa.Connection, table: str) -> int:
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM {quote(table)}").scalar_one())


def _count_load(connection: sa.Connection, table: str, load_id: str) -> int:
    found = find_table(connection, table)
    if found is None or not found.has("_load_id"):
        return -1
    query = f"SELECT count(*) FROM {quote(found.name)} WHERE _load_id = ?"
    return int(connection.exec_driver_sql(query, (load_id,)).scalar_one())


def _row_error(parts: TableParts, got: str, allowed: str) -> LoadError:
    return LoadError(
        "the rows of a table do not add up",
        where=f"table {parts.name}",
        got=got,
        allowed=allowed,
        hint="the target is unchanged; run again with --fresh",
    )
