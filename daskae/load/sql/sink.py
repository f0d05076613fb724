"""The sink of every database: lock, look into the ledger, stage, then one transaction; see :mod:`.publish`.

What holds, whatever is killed and whenever:

- A reader sees the tables of one load or those of the load before it, all of them together, never a part.
- A load is in the database once; :mod:`daskae.load.ledger` has the rule. The ledger is table ``_daskae_loads``.
- The transaction proves before it commits that the rows staged are the rows announced, that they all arrived, and that
  the keys are unique: by a unique index on the keys, or on keys and ``_load_id`` where loads are appended.
- An existing table stays the same object; :mod:`.drift` says what happens where its columns are others.
- Where the connection is lost while committing, the ledger tells what became of the load.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import sqlalchemy as sa

from daskae.errors import DaskaeError, LoadError, TargetBusyError, TargetLostError
from daskae.faults import crash_point
from daskae.load.base import Load, Receipt
from daskae.load.checks import check_load
from daskae.load.failures import mask_secrets, plain_message
from daskae.load.ledger import Entry, find_held, iso_text, rewritten_since
from daskae.load.purged import Purged
from daskae.load.shape import Change, TableChange
from daskae.load.sql.audit import try_checks
from daskae.load.sql.dialect import Dialect, Session
from daskae.load.sql.drift import TablePlan, plan_table
from daskae.load.sql.ledger import plan_ledger, read_ledger, record_failure
from daskae.load.sql.publish import Published, publish_staged
from daskae.load.sql.purging import count_rows, delete_rows
from daskae.load.sql.rights import check_rights
from daskae.load.sql.stage import drop_stages, drop_stages_if_possible, stage_table
from daskae.load.sql.tables import check_declarations
from daskae.load.sql.verifying import verify
from daskae.load.sql.ways import Way, choose_way
from daskae.load.verified import Verified


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
                check_rights(self._dialect, session, load)
                plans = [plan_table(self._dialect, session, parts, load) for parts in load.tables]
                try_checks(session, load, plans)
        return None

    def plan_changes(self, load: Load) -> tuple[TableChange, ...]:
        """Say what the load would do to the shape of its tables; see :class:`daskae.load.shape.Shaping`."""
        check_load(load)
        with self._dialect.translated():
            self._dialect.check_place()
            check_declarations(self._dialect, load)
            with self._dialect.reading() as session:
                plans = [plan_table(self._dialect, session, parts, load) for parts in load.tables]
                return (*map(_to_change, plans), plan_ledger(self._dialect, session))

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
            except (sa.exc.DBAPIError, TargetLostError) as error:
                if not connected or not (isinstance(error, TargetLostError) or self._dialect.is_lost(error)):
                    raise
                return self._settle(load, error)

    def purge(self, customers: Sequence[str], dry_run: bool) -> Purged:
        """Delete the rows of customers in one transaction; see :class:`daskae.load.purging.CanPurge`."""
        with self._dialect.translated():
            counted = count_rows(self._dialect, customers)
            if dry_run:
                return Purged(counted)
            with self._dialect.publishing() as session:
                return Purged(delete_rows(session, customers))

    def verify(self) -> Verified:
        """Compare the tables with the ledger; see :class:`daskae.load.verified.CanVerify`."""
        with self._dialect.translated():
            return verify(self._dialect)

    def _publish(self, session: Session, load: Load) -> Receipt:
        began, started_at = time.monotonic(), iso_text(datetime.now(UTC))
        drop_stages(session)
        if receipt := self._find_receipt(session, load):
            return receipt
        plans = [plan_table(self._dialect, session, parts, load) for parts in load.tables]
        try:
            published = self._move(session, load, plans, started_at)
            crash_point(f"{self._dialect.name}.committed")
        except BaseException as error:
            self._clean_up(session, load, started_at, error)
            raise
        drop_stages_if_possible(session)
        receipt = self._receipt(published.entry, already=False)
        seconds = time.monotonic() - began
        return replace(receipt, rejected=published.rejected, checks=published.checks, seconds=seconds)

    def _move(
        self, session: Session, load: Load, plans: Sequence[TablePlan], started_at: str, shortcuts: bool = True
    ) -> Published:
        """Stage and publish."""
        ways: list[Way] = [choose_way(session, load, plan) if shortcuts else "copy" for plan in plans]
        staged = [
            stage_table(session, load, number, way, plan.quarantined)
            for number, (way, plan) in enumerate(zip(ways, plans, strict=True))
        ]
        crash_point(f"{self._dialect.name}.staged")
        try:
            return publish_staged(session, load, staged, started_at)
        except sa.exc.IntegrityError:
            if "direct" not in ways:
                raise
            # Only staged rows tell which keys are there more than once; nothing has been written.
            drop_stages(session)
            return self._move(session, load, plans, started_at, shortcuts=False)

    def _clean_up(self, session: Session, load: Load, started_at: str, error: BaseException) -> None:
        """Leave no rows behind and note the failure, as far as the connection still allows it."""
        drop_stages_if_possible(session)
        if isinstance(error, Exception) and not isinstance(error, TargetBusyError):
            message = error.what if isinstance(error, DaskaeError) else plain_message(getattr(error, "orig", error))
            with suppress(sa.exc.DBAPIError, sa.exc.InvalidRequestError):
                record_failure(session, load, started_at, mask_secrets(message))

    def _settle(self, load: Load, error: sa.exc.DBAPIError | TargetLostError) -> Receipt:
        """Find out on a new connection what became of a load whose connection was lost.

        The old session holds the publisher's lock until the server has ended it, so what the ledger says under that
        lock is final.
        """
        try:
            with self._dialect.translated(), self._dialect.publishing() as session:
                drop_stages(session)
                receipt = self._find_receipt(session, load)
        except LoadError as again:
            if isinstance(again, TargetBusyError):
                raise
            raise TargetLostError(
                "the connection to the database was lost, and whether the load has arrived cannot be seen yet",
                self._dialect.target, f"{again.what}: {again.got}",
                hint="look at the network and at the server, then run the same command again: the ledger tells",
            ) from None  # fmt: skip
        if receipt is None:
            raise TargetLostError(
                "the connection to the database was lost; nothing was published",
                where=self._dialect.target,
                got=error.got if isinstance(error, TargetLostError) else mask_secrets(str(error.orig)).strip(),
                hint="run the same command again",
            ) from error
        return replace(receipt, already_published=False)

    def _find_receipt(self, session: Session, load: Load) -> Receipt | None:
        entries = read_ledger(session)
        entry = find_held(entries, load)
        if entry is None:
            return None
        rewritten = rewritten_since(entries, entry)
        compared = {name: rows for name, rows in entry.tables.items() if name not in rewritten}
        there = all(_count_load(session, name, load) == rows for name, rows in compared.items())
        exist = all(session.dialect.find_table(session, name) for name in entry.tables)
        return self._receipt(entry, already=True) if there and exist else None

    def _receipt(self, entry: Entry, already: bool) -> Receipt:
        return entry.receipt(already, {name: f"{self._dialect.target}: {name}" for name in entry.tables})


def _to_change(plan: TablePlan) -> TableChange:
    statements = (*plan.statements, *plan.index)
    change: Change = "create" if plan.creates else "alter" if statements else "keep"
    return TableChange(plan.parts.name, change, statements, plan.notes)


def _count_load(session: Session, name: str, load: Load) -> int:
    """Count the rows of a load in a table, all rows where they do not tell; -1 where they should and cannot."""
    found, column = session.dialect.find_table(session, name), load.metadata.load_id
    names = {session.dialect.fold(one.name) for one in found.columns} if found else set()
    if found is None or (column is not None and session.dialect.fold(column) not in names):
        return -1
    if column is None:
        return session.count(session.table(found.name))
    table = session.table(found.name, sa.Column(column, sa.Text, quote=True))
    return session.count(table, table.c[column] == load.load_id)
