"""The one transaction: lock, check, strategy, reconcile, ledger. All tables of a load become visible together."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.faults import crash_point
from daskae.load.base import METADATA_COLUMNS, Changes, Load
from daskae.load.ledger import Entry, add_entry, naive_utc
from daskae.load.sql import strategies
from daskae.load.sql.ahead import ddl_around, require_unique_keys
from daskae.load.sql.dialect import Session
from daskae.load.sql.ledger import read_ledger, write_ledger
from daskae.load.sql.stage import (
    DUPLICATE_KEY,
    NULL_KEY,
    Staged,
    find_repeated_keys,
    repeated_error,
    row_error,
)
from daskae.load.sql.strategies import Pair
from daskae.load.sql.tables import (
    create_or_extend,
    drop_key_index,
    ensure_key_index,
    find_flags,
    has_key_index,
    key_columns,
)


def publish_staged(session: Session, load: Load, staged: Sequence[Staged], started_at: str) -> Entry:
    """Bring all staged tables into their targets in one transaction; return the ledger's entry.

    Raises
    ------
    LoadError
        The target is as it was before.
    """
    try:
        with ddl_around(session, load, staged), session.dialect.transaction(session.connection):
            _lock(session, staged)
            entries = read_ledger(session)
            again = any(entry.load_id == load.load_id and entry.status != "failed" for entry in entries)
            rows, changes = {}, {}
            for one in staged:
                rows[one.parts.name], changes[one.parts.name] = _move(session, load, one, again)
            *before, entry = add_entry(entries, load)
            counts = {name: asdict(change) for name, change in changes.items()}
            entry = replace(entry, tables=rows, changes=counts, started_at=started_at)
            write_ledger(session, entries, [*before, entry])
            crash_point(f"{session.dialect.name}.uncommitted")
    except sa.exc.IntegrityError as error:
        for one in staged:
            if keys := find_repeated_keys(session, one.table, one.parts):
                raise repeated_error(one.parts, keys) from error
        raise
    return entry


def _lock(session: Session, staged: Sequence[Staged]) -> None:
    """Lock the tables that exist, in order of their names, so that two loads never wait for each other."""
    found = [session.dialect.find_table(session, one.parts.name) for one in staged]
    names = sorted(table.name for table in found if table is not None)
    if names:
        session.dialect.lock_tables(session, [session.table(name) for name in names])


def _move(session: Session, load: Load, staged: Staged, again: bool) -> tuple[int, Changes]:
    """Apply the strategy to one table; return the rows that carry this load's id, and what was done."""
    parts = staged.parts
    target = create_or_extend(session, parts, load)
    pair = _pair(session, load, staged, target)
    before = session.count(target)
    if load.strategy in ("replace", "append"):
        changes = _insert(session, pair, before, again)
    else:
        changes = _by_key(session, pair, before)
    if _indexes_here(session):
        ensure_key_index(session, target, key_columns(parts, load))
    else:
        require_unique_keys(session, target, parts, load)
    _reconcile(session, pair, staged, before, changes)
    changes = replace(changes, rejected=staged.left_out(NULL_KEY), duplicates=staged.left_out(DUPLICATE_KEY))
    if load.strategy in ("replace", "append"):
        return changes.inserted, changes
    return session.count(target, strategies.of_load(pair)), changes


def _pair(session: Session, load: Load, staged: Staged, target: sa.Table) -> Pair:
    dialect = session.dialect
    marks = (
        sa.literal(load.load_id, sa.Text),
        _moment(session, load.loaded_at),
        sa.literal(load.source_rows, sa.BIGINT),
    )
    existing = dialect.find_table(session, target.name)
    return Pair(
        target, staged.table, staged.parts.keys, tuple(staged.parts.schema.names),
        dict(zip(METADATA_COLUMNS, marks, strict=True)), dialect.collation, load, find_flags(existing, dialect),
        dialect.has_update_from,
    )  # fmt: skip


def _moment(session: Session, value: datetime) -> "sa.ColumnElement[object]":
    return session.dialect.moment(naive_utc(value))


def _indexes_here(session: Session) -> bool:
    """Tell whether the index on the keys is made in this transaction."""
    return session.dialect.has_key_indexes and not session.dialect.ddl_around


def _insert(session: Session, pair: Pair, before: int, again: bool) -> Changes:
    """Replace or append: all staged rows go in."""
    deleted = 0
    if pair.load.strategy == "replace":
        deleted = session.run(strategies.delete_all(pair)) if before else 0
    elif again:  # rows of a publish that was replaced in another table only
        deleted = session.run(strategies.delete_load(pair))
    crash_point(f"{session.dialect.name}.deleted")
    in_place = not _indexes_here(session) or has_key_index(session, pair.target, [*pair.keys, "_load_id"])
    if pair.load.strategy == "append" and not in_place:
        drop_key_index(session, pair.target)  # one on the keys alone would refuse rows
    if before == deleted and session.dialect.rebuilds_indexes:
        drop_key_index(session, pair.target)  # building an index afterwards is faster than filling it
    inserted = session.run(strategies.insert_all(pair))
    return Changes(inserted=inserted, deleted=deleted)


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
    matched = 0 if pair.load.strategy in ("replace", "append") else changes.updated + changes.unchanged
    if arrived + matched != staged.rows or changes.unchanged < 0:
        raise row_error(staged.parts, f"{arrived + matched} rows arrived", f"{staged.rows} rows staged")
    if pair.keys and (absent := session.connection.execute(strategies.count_absent(pair)).scalar_one()):
        raise row_error(staged.parts, f"{absent} keys did not arrive", f"{staged.rows} keys staged")
