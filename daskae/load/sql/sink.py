"""The sink of every database: lock, look into the ledger, stage, then one transaction; see :mod:`.publish`.

What holds, whatever is killed and whenever:

- A reader sees the tables of one load or those of the load before it, all of them together, never a part.
- A load is in the database once; :mod:`daskae.load.ledger` has the rule. The ledger is table ``_daskae_loads``.
- The transaction proves before it commits that the rows staged are the rows announced, that they all arrived, and that
  the keys are unique: by a unique index on the keys, or on keys and ``_load_id`` where loads are appended.
- An existing table stays the same object. Columns it lacks are added; further columns that may be null stay null.
- Where the connection is lost while committing, the ledger tells what became of the load.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from daskae.errors import DaskaeError, LoadError, TargetBusyError
from daskae.faults import crash_point
from daskae.load.base import Changes, Load, Receipt, Rejected
from daskae.load.checks import check_load
from daskae.load.failures import mask_secrets
from daskae.load.ledger import Entry, find_held, iso_text, touched_since
from daskae.load.sql.dialect import Dialect, Session
from daskae.load.sql.ledger import read_ledger, record_failure
from daskae.load.sql.publish import publish_staged
from daskae.load.sql.stage import drop_stages, drop_stages_if_possible, stage_table
from daskae.load.sql.tables import check_declarations, check_table


class SqlSink:
    """Publish loads into a database.

    Parameters
    ----------
    dialect : Dialect
        The database.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def preflight(self, load: Load) -> Receipt | None:
        """Check that the database can take the load; see :class:`daskae.load.base.Sink`."""
        check_load(load)
        with self._dialect.translated():
            self._dialect.check_place()
            check_declarations(self._dialect, load)
            with self._dialect.reading() as session:
                if session is None:
                    return None
                if receipt := self._find_receipt(session, load):
                    return receipt
                for parts in load.tables:
                    check_table(session, parts, load)
        return None

    def publish(self, load: Load) -> Receipt:
        """Make the load visible in one transaction; see :class:`daskae.load.base.Sink`."""
        check_load(load)
        with self._dialect.translated():
            self._dialect.check_place()
            check_declarations(self._dialect, load)
            connected = False
            try:
                with self._dialect.publishing() as session:
                    connected = True
                    return self._publish(session, load)
            except sa.exc.DBAPIError as error:
                if not connected or not self._dialect.is_lost(error):
                    raise
                return self._settle(load, error)

    def _publish(self, session: Session, load: Load) -> Receipt:
        began, started_at = time.monotonic(), iso_text(datetime.now(UTC))
        drop_stages(session)
        if receipt := self._find_receipt(session, load):
            return receipt
        for parts in load.tables:
            check_table(session, parts, load)
        try:
            staged = [stage_table(session, load, number) for number in range(len(load.tables))]
            crash_point(f"{self._dialect.name}.staged")
            entry = publish_staged(session, load, staged, started_at)
            crash_point(f"{self._dialect.name}.committed")
        except BaseException as error:
            self._clean_up(session, load, started_at, error)
            raise
        drop_stages_if_possible(session)
        rejected = tuple(found for one in staged for found in one.rejected)
        return self._receipt(load.load_id, entry, already=False, rejected=rejected, seconds=time.monotonic() - began)

    def _clean_up(self, session: Session, load: Load, started_at: str, error: BaseException) -> None:
        """Leave no rows behind and note the failure, as far as the connection still allows it."""
        drop_stages_if_possible(session)
        if isinstance(error, Exception) and not isinstance(error, TargetBusyError):
            message = error.what if isinstance(error, DaskaeError) else str(getattr(error, "orig", error))
            with suppress(sa.exc.DBAPIError, sa.exc.InvalidRequestError):
                record_failure(session, load, started_at, mask_secrets(message))

    def _settle(self, load: Load, error: sa.exc.DBAPIError) -> Receipt:
        """Find out on a new connection what became of a load whose connection was lost.

        The old session holds the publisher's lock until the server has ended it, so what the ledger says under that
        lock is final.
        """
        with self._dialect.publishing() as session:
            drop_stages(session)
            receipt = self._find_receipt(session, load)
        if receipt is None:
            raise LoadError(
                "the connection to the database was lost; nothing was published",
                where=self._dialect.target,
                got=mask_secrets(str(error.orig)).strip(),
                hint="run the same command again",
            ) from error
        return replace(receipt, already_published=False)

    def _find_receipt(self, session: Session, load: Load) -> Receipt | None:
        entries = read_ledger(session)
        entry = find_held(entries, load)
        if entry is None:
            return None
        # Later upserts write their own id into rows of this load.
        by_key = [other for other in entries if other.strategy in ("upsert", "merge")]
        compared = {name: rows for name, rows in entry.tables.items() if name not in touched_since(by_key, entry)}
        there = all(_count_load(session, name, load.load_id) == rows for name, rows in compared.items())
        exist = all(session.dialect.find_table(session, name) for name in entry.tables)
        return self._receipt(load.load_id, entry, already=True) if there and exist else None

    def _receipt(
        self, load_id: str, entry: Entry, already: bool, rejected: Sequence[Rejected] = (), seconds: float = 0.0
    ) -> Receipt:
        changes = {name: Changes(**counts) for name, counts in entry.changes.items()}
        rows = _rows(entry.tables, changes)
        targets = {name: f"{self._dialect.target}: {name}" for name in rows}
        return Receipt(load_id, already, rows, targets, changes, tuple(rejected), seconds)


def _rows(carried: Mapping[str, int], changes: Mapping[str, Changes]) -> dict[str, int]:
    """Count the rows of a load by table; old entries of the ledger know only those that carry its id."""
    return {
        name: found.inserted + found.updated + found.unchanged if (found := changes.get(name)) else rows
        for name, rows in carried.items()
    }


def _count_load(session: Session, name: str, load_id: str) -> int:
    found = session.dialect.find_table(session, name)
    if found is None or not any(session.dialect.fold(column.name) == "_load_id" for column in found.columns):
        return -1
    table = session.table(found.name, sa.Column("_load_id", sa.Text))
    return session.count(table, table.c["_load_id"] == load_id)
