"""The one transaction: lock, check, strategy, reconcile, ledger. All tables of a load become visible together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from daskae.errors import LoadError, TargetBusyError
from daskae.faults import crash_point
from daskae.load.audits import Verdict
from daskae.load.base import Changes, Load, Rejected, TableParts
from daskae.load.keys import DUPLICATE_KEY, NULL_KEY, repeated_error, row_error, several_rows_error
from daskae.load.ledger import Entry, add_entry, completed, naive_utc
from daskae.load.sql import strategies
from daskae.load.sql.ahead import ddl_around, require_unique_keys
from daskae.load.sql.audit import run_checks
from daskae.load.sql.dialect import Session
from daskae.load.sql.drift import apply_plan, plan_table
from daskae.load.sql.ledger import read_ledger, write_ledger
from daskae.load.sql.stage import DRIFT, Staged, fill_table, find_repeated_keys
from daskae.load.sql.strategies import Pair
from daskae.load.sql.tables import (
    drop_key_index,
    ensure_key_index,
    find_flags,
    has_key_index,
    key_columns,
)
from daskae.load.sql.ways import metadata_values


@dataclass(frozen=True)
class Published:
    """What came of a load."""

    entry: Entry
    """The ledger's entry."""
    checks: tuple[Verdict, ...]
    """How the checks went."""
    rejected: tuple[Rejected, ...]
    """Rows that were left out."""


def publish_staged(session: Session, load: Load, staged: Sequence[Staged], started_at: str) -> Published:
    """Bring all staged tables into their targets in one transaction.

    Raises
    ------
    LoadError, GateError
        The target is as it was before.
    """
    try:
        with ddl_around(session, load, staged), session.dialect.transaction(session.connection):
            _lock(session, staged)
            entries = read_ledger(session)
            again = any(entry.load_id == load.load_id and entry.status != "failed" for entry in entries)
            pairs = [_prepare(session, load, one) for one in staged]
            verdicts = run_checks(session, load, pairs, "before")
            moved = [_move(session, one, pair, again) for one, pair in zip(staged, pairs, strict=True)]
            verdicts += run_checks(session, load, pairs, "after")
            *before, entry = add_entry(entries, load)
            rows = {one.name: one.rows for one in moved}
            counts = {one.name: asdict(one.changes) for one in moved}
            message = "; ".join(verdict.said for verdict in verdicts if verdict.message)
            entry = replace(entry, tables=rows, changes=counts, started_at=started_at, message=message)
            entry = completed(entry, {one.parts.name: pair.columns for one, pair in zip(staged, pairs, strict=True)})
            write_ledger(session, entries, [*before, entry])
            crash_point(f"{session.dialect.name}.uncommitted")
    except sa.exc.IntegrityError:
        for one in staged:
            if one.way == "copy" and (keys := find_repeated_keys(session, one.table, one.parts)):
                raise repeated_error(one.parts, keys) from None
        raise
    return Published(entry, tuple(verdicts), tuple(found for one in moved for found in one.rejected))


@dataclass(frozen=True)
class _Moved:
    """What was done to one table."""

    name: str
    rows: int
    """Rows that carry this load's id."""
    changes: Changes
    rejected: tuple[Rejected, ...]


def _lock(session: Session, staged: Sequence[Staged]) -> None:
    """Lock the tables that exist, in order of their names, so that two loads never wait for each other."""
    found = [session.dialect.find_table(session, one.parts.name) for one in staged]
    names = sorted(table.name for table in found if table is not None)
    if names:
        session.dialect.lock_tables(session, [session.table(name) for name in names])


def _prepare(session: Session, load: Load, staged: Staged) -> Pair:
    """Give the target its shape, unless it is to be the staged table itself."""
    plan = plan_table(session.dialect, session, staged.parts, load)
    if staged.way == "adopt":
        if not plan.creates:
            raise TargetBusyError(
                "another program has made a table of the load meanwhile", f"table {staged.parts.name}",
                hint="run the same command again",
            )  # fmt: skip
        return _pair(session, load, staged, plan.table)
    if not set(plan.quarantined) <= set(staged.quarantined):
        raise LoadError(
            "the table was changed while rows were on their way to it",
            f"table {staged.parts.name}",
            hint="run the same command again",
        )
    apply_plan(session, plan)
    return _pair(session, load, staged, plan.table)


def _move(session: Session, staged: Staged, pair: Pair, again: bool) -> _Moved:
    """Apply the strategy to one table."""
    parts, load, target = staged.parts, pair.load, pair.target
    if staged.way == "adopt":
        return _adopt(session, staged, pair)
    before = session.count(target)
    if load.strategy in ("replace", "append"):
        staged, changes = _insert(session, staged, pair, before, again)
    else:
        changes = _by_key(session, pair, parts, before)
    if _indexes_here(session):
        ensure_key_index(session, target, key_columns(parts, load))
    else:
        require_unique_keys(session, target, parts, load)
    _reconcile(session, pair, staged, before, changes)
    if load.strategy in ("replace", "append"):
        return _moved(staged, changes.inserted + changes.updated, changes)
    return _moved(staged, session.count(target, strategies.of_load(pair)), changes)


def _adopt(session: Session, staged: Staged, pair: Pair) -> _Moved:
    """Make a staged table the target; all that is left to do is to count its rows and to name it."""
    arrived = session.count(staged.table)
    if arrived != staged.rows:
        raise row_error(staged.parts, f"{arrived} rows arrived", f"{staged.rows} rows staged")
    crash_point(f"{session.dialect.name}.deleted")
    session.dialect.adopt(session, staged.table, pair.target.name, pair.keys)
    return _moved(staged, arrived, Changes(inserted=arrived))


def _moved(staged: Staged, rows: int, changes: Changes) -> _Moved:
    rejected = staged.left_out(NULL_KEY) + staged.left_out(DRIFT)
    changes = replace(changes, rejected=rejected, duplicates=staged.left_out(DUPLICATE_KEY))
    return _Moved(staged.parts.name, rows, changes, staged.rejected)


def _pair(session: Session, load: Load, staged: Staged, target: sa.Table) -> Pair:
    dialect = session.dialect
    existing = dialect.find_table(session, target.name)
    columns = tuple(name for name in staged.parts.schema.names if name in target.c)
    return Pair(
        target, staged.table, staged.parts.keys, columns,
        metadata_values(dialect, load), dialect.collation, load,
        find_flags(existing, dialect), existing is not None and existing.referenced, dialect.has_update_from,
    )  # fmt: skip


def _moment(session: Session, value: datetime) -> "sa.ColumnElement[object]":
    return session.dialect.moment(naive_utc(value))


def _indexes_here(session: Session) -> bool:
    """Tell whether the index on the keys is made in this transaction."""
    return session.dialect.has_key_indexes and not session.dialect.ddl_around


def _fills_index(session: Session) -> bool:
    """Tell whether rows go into an index that is there already."""
    return session.dialect.has_key_indexes and not session.dialect.rebuilds_indexes


def _insert(session: Session, staged: Staged, pair: Pair, before: int, again: bool) -> tuple[Staged, Changes]:
    """Replace or append: all rows go in."""
    deleted = 0
    if pair.load.strategy == "replace" and pair.referenced and pair.keys and before:
        return staged, _replace_by_key(session, staged, pair)
    if pair.load.strategy == "replace":
        deleted = session.run(strategies.delete_all(pair)) if before else 0
    elif again:  # rows of a publish that was replaced in another table only
        deleted = session.run(strategies.delete_load(pair))
    crash_point(f"{session.dialect.name}.deleted")
    in_place = not _indexes_here(session) or has_key_index(session, pair.target, key_columns(staged.parts, pair.load))
    if pair.load.strategy == "append" and not in_place:
        drop_key_index(session, pair.target)  # one on the keys alone would refuse rows
    if before == deleted and session.dialect.rebuilds_indexes:
        drop_key_index(session, pair.target)  # building an index afterwards is faster than filling it
    if staged.way == "direct":
        marks = metadata_values(session.dialect, pair.load)
        ordered = _fills_index(session)
        rows, nulls = fill_table(session, pair.target, pair.load, staged.parts, marks, ordered)
        staged = replace(staged, rows=rows, rejected=(nulls,) if nulls is not None else ())
    else:
        rows = session.run(strategies.insert_all(pair, _fills_index(session)))
    return staged, Changes(inserted=rows, deleted=deleted)


def _replace_by_key(session: Session, staged: Staged, pair: Pair) -> Changes:
    """Replace without taking out rows whose keys stay: that would be refused, or take the rows that refer to them."""
    parts = staged.parts
    if keys := find_repeated_keys(session, pair.stage, parts):
        raise repeated_error(parts, keys)
    _require_unique_target(session, pair, parts)
    deleted = session.run(strategies.delete_missing(pair))
    crash_point(f"{session.dialect.name}.deleted")
    updated = session.run(strategies.update_all(pair))
    return Changes(inserted=session.run(strategies.insert_missing(pair)), updated=updated, deleted=deleted)


def _by_key(session: Session, pair: Pair, parts: TableParts, before: int) -> Changes:
    """Upsert or merge: compare by key, write what differs."""
    _require_unique_target(session, pair, parts)
    if session.dialect.rebuilds_indexes:
        if before:
            ensure_key_index(session, pair.target, list(pair.keys))
        else:
            drop_key_index(session, pair.target)
    staged = session.count(pair.stage)
    updated = 0
    for statement in (strategies.update_changed(pair), strategies.reactivate(pair)):
        updated += session.run(statement) if statement is not None and before else 0
    crash_point(f"{session.dialect.name}.updated")
    sort = _fills_index(session)
    inserted = session.run(strategies.insert_missing(pair, sort) if before else strategies.insert_all(pair, sort))
    deleted, flagged = 0, 0
    if pair.load.strategy == "merge" and before:
        if pair.options.on_missing == "delete":
            deleted = session.run(strategies.delete_missing(pair))
        elif pair.options.on_missing == "flag":
            flagged = session.run(strategies.flag_missing(pair, _moment(session, pair.load.loaded_at)))
    crash_point(f"{session.dialect.name}.deleted")
    return Changes(inserted, updated, staged - inserted - updated, deleted, flagged)


def _require_unique_target(session: Session, pair: Pair, parts: TableParts) -> None:
    if has_key_index(session, pair.target, list(pair.keys)) and pair.options.null_keys != "match":
        return
    found = session.connection.execute(strategies.repeated_keys(pair.target, pair.keys, 5)).all()
    if found:
        raise several_rows_error(parts, pair.load.strategy, [tuple(row) for row in found])


def _reconcile(session: Session, pair: Pair, staged: Staged, before: int, changes: Changes) -> None:
    """Prove that what arrived is what was staged: as many rows, and every key."""
    arrived = session.count(pair.target) - before + changes.deleted
    matched = changes.updated + changes.unchanged
    if arrived + matched != staged.rows or changes.unchanged < 0:
        raise row_error(staged.parts, f"{arrived + matched} rows arrived", f"{staged.rows} rows staged")
    if staged.way == "direct":
        return  # as many rows as were sent, no two with one key, and no trigger that could have changed one
    if pair.keys and (absent := session.connection.execute(strategies.count_absent(pair)).scalar_one()):
        raise row_error(staged.parts, f"{absent} keys did not arrive", f"{staged.rows} keys staged")
