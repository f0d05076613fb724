"""The one transaction: lock, check, strategy, reconcile, ledger. All tables of a load become visible together."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.faults import crash_point
from daskae.load.base import Changes, Load
from daskae.load.ledger import Entry, add_entry, naive_utc
from daskae.load.sql import strategies
from daskae.load.sql.ahead import ddl_around, require_unique_keys
from daskae.load.sql.audit import run_checks
from daskae.load.sql.dialect import Session
from daskae.load.sql.drift import apply_plan, plan_table
from daskae.load.sql.ledger import read_ledger, write_ledger
from daskae.load.sql.stage import (
    DRIFT,
    DUPLICATE_KEY,
    NULL_KEY,
    Staged,
    find_repeated_keys,
    repeated_error,
    row_error,
)
from daskae.load.sql.strategies import Pair
from daskae.load.sql.tables import (
    drop_key_index,
    ensure_key_index,
    find_flags,
    has_key_index,
    key_columns,
)


def publish_staged(
    session: Session, load: Load, staged: Sequence[Staged], started_at: str
) -> tuple[Entry, tuple[str, ...]]:
    """Bring all staged tables into their targets in one transaction.

    Returns
    -------
    tuple of Entry and tuple of str
        The ledger's entry, and what checks that do not block had to say.

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
            rows, changes = {}, {}
            for one, pair in zip(staged, pairs, strict=True):
                rows[one.parts.name], changes[one.parts.name] = _move(session, one, pair, again)
            verdicts += run_checks(session, load, pairs, "after")
            *before, entry = add_entry(entries, load)
            counts = {name: asdict(change) for name, change in changes.items()}
            message = "; ".join(verdict.message for verdict in verdicts)
            entry = replace(entry, tables=rows, changes=counts, started_at=started_at, message=message)
            write_ledger(session, entries, [*before, entry])
            crash_point(f"{session.dialect.name}.uncommitted")
    except sa.exc.IntegrityError as error:
        for one in staged:
            if keys := find_repeated_keys(session, one.table, one.parts):
                raise repeated_error(one.parts, keys) from error
        raise
    return entry, tuple(verdict.message for verdict in verdicts)


def _lock(session: Session, staged: Sequence[Staged]) -> None:
    """Lock the tables that exist, in order of their names, so that two loads never wait for each other."""
    found = [session.dialect.find_table(session, one.parts.name) for one in staged]
    names = sorted(table.name for table in found if table is not None)
    if names:
        session.dialect.lock_tables(session, [session.table(name) for name in names])


def _prepare(session: Session, load: Load, staged: Staged) -> Pair:
    """Give the target its shape."""
    plan = plan_table(session.dialect, session, staged.parts, load)
    if not set(plan.quarantined) <= set(staged.quarantined):
        raise LoadError(
            "the table was changed while rows were on their way to it",
            f"table {staged.parts.name}",
            hint="run the same command again",
        )
    apply_plan(session, plan)
    return _pair(session, load, staged, plan.table)


def _move(session: Session, staged: Staged, pair: Pair, again: bool) -> tuple[int, Changes]:
    """Apply the strategy to one table; return the rows that carry this load's id, and what was done."""
    parts, load, target = staged.parts, pair.load, pair.target
    before = session.count(target)
    if load.strategy in ("replace", "append"):
        changes = _insert(session, staged, pair, before, again)
    else:
        changes = _by_key(session, pair, before)
    if _indexes_here(session):
        ensure_key_index(session, target, key_columns(parts, load))
    else:
        require_unique_keys(session, target, parts, load)
    _reconcile(session, pair, staged, before, changes)
    rejected = staged.left_out(NULL_KEY) + staged.left_out(DRIFT)
    changes = replace(changes, rejected=rejected, duplicates=staged.left_out(DUPLICATE_KEY))
    if load.strategy in ("replace", "append"):
        return changes.inserted + changes.updated, changes
    return session.count(target, strategies.of_load(pair)), changes


def _pair(session: Session, load: Load, staged: Staged, target: sa.Table) -> Pair:
    dialect, metadata = session.dialect, load.metadata
    marks: dict[str | None, sa.ColumnElement[object]] = {
        metadata.load_id: sa.literal(load.load_id, sa.Text),
        metadata.loaded_at: _moment(session, load.loaded_at),
        metadata.source_rows: sa.literal(load.source_rows, sa.BIGINT),
    }
    existing = dialect.find_table(session, target.name)
    columns = tuple(name for name in staged.parts.schema.names if name in target.c)
    return Pair(
        target, staged.table, staged.parts.keys, columns,
        {name: value for name, value in marks.items() if name is not None}, dialect.collation, load,
        find_flags(existing, dialect), existing is not None and existing.referenced, dialect.has_update_from,
    )  # fmt: skip


def _moment(session: Session, value: datetime) -> "sa.ColumnElement[object]":
    return session.dialect.moment(naive_utc(value))


def _indexes_here(session: Session) -> bool:
    """Tell whether the index on the keys is made in this transaction."""
    return session.dialect.has_key_indexes and not session.dialect.ddl_around


def _insert(session: Session, staged: Staged, pair: Pair, before: int, again: bool) -> Changes:
    """Replace or append: all staged rows go in."""
    deleted = 0
    if pair.load.strategy == "replace" and pair.referenced and pair.keys and before:
        return _replace_by_key(session, staged, pair)
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
    inserted = session.run(strategies.insert_all(pair))
    return Changes(inserted=inserted, deleted=deleted)


def _replace_by_key(session: Session, staged: Staged, pair: Pair) -> Changes:
    """Replace without taking out rows whose keys stay: that would be refused, or take the rows that refer to them."""
    if keys := find_repeated_keys(session, pair.stage, staged.parts):
        raise repeated_error(staged.parts, keys)
    _require_unique_target(session, pair)
    deleted = session.run(strategies.delete_missing(pair))
    crash_point(f"{session.dialect.name}.deleted")
    updated = session.run(strategies.update_all(pair))
    return Changes(inserted=session.run(strategies.insert_missing(pair)), updated=updated, deleted=deleted)


def _by_key(session: Session, pair: Pair, before: int) -> Changes:
    """Upsert or merge: compare by key, write what differs."""
    _require_unique_target(session, pair)
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
    inserted = session.run(strategies.insert_missing(pair) if before else strategies.insert_all(pair))
    deleted, flagged = 0, 0
    if pair.load.strategy == "merge" and before:
        if pair.options.on_missing == "delete":
            deleted = session.run(strategies.delete_missing(pair))
        elif pair.options.on_missing == "flag":
            flagged = session.run(strategies.flag_missing(pair, _moment(session, pair.load.loaded_at)))
    crash_point(f"{session.dialect.name}.deleted")
    return Changes(inserted, updated, staged - inserted - updated, deleted, flagged)


def _require_unique_target(session: Session, pair: Pair) -> None:
    if has_key_index(session, pair.target, list(pair.keys)) and pair.options.null_keys != "match":
        return
    found = session.connection.execute(strategies.repeated_keys(pair.target, pair.keys, 5)).all()
    if found:
        shown = ", ".join("(" + ", ".join(map(str, key)) + ")" for key in found)
        raise LoadError(
            f"the table holds several rows of a key, so there is no one row to {pair.load.strategy}",
            f"table {pair.target.name}, key ({', '.join(pair.keys)})",
            shown,
            "one row for each key",
            "loads that were appended share keys; replace the table first, or append again",
        )


def _reconcile(session: Session, pair: Pair, staged: Staged, before: int, changes: Changes) -> None:
    """Prove that what arrived is what was staged: as many rows, and every key."""
    arrived = session.count(pair.target) - before + changes.deleted
    matched = changes.updated + changes.unchanged
    if arrived + matched != staged.rows or changes.unchanged < 0:
        raise row_error(staged.parts, f"{arrived + matched} rows arrived", f"{staged.rows} rows staged")
    if pair.keys and (absent := session.connection.execute(strategies.count_absent(pair)).scalar_one()):
        raise row_error(staged.parts, f"{absent} keys did not arrive", f"{staged.rows} keys staged")
