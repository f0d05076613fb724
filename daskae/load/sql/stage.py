"""Staging: the rows of a load in tables of their own, in the same database, before the transaction that publishes them.

Staged tables are named ``_daskae_stage_<load>_<token>_<number>``. They are written under the publisher's lock, so a run
that finds any may drop them: their run is dead. They have no metadata columns, unless they are to become the target.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from daskae.arrow import to_array
from daskae.faults import crash_point
from daskae.load.base import Load, Rejected, TableParts
from daskae.load.checks import wants_flags
from daskae.load.keys import (
    DUPLICATE_KEY,
    NULL_KEY,
    SHOWN_KEYS,
    null_error,
    repeated_error,
    row_error,
    without_null_keys,
)
from daskae.load.ledger import short_id
from daskae.load.ordered import read_in_order
from daskae.load.parts import read_batches
from daskae.load.rejects import RejectFile, write_rejects
from daskae.load.sql.ddl import run_statements
from daskae.load.sql.dialect import POSITION, STAGE_PREFIX, Session
from daskae.load.sql.strategies import losing_rows, repeated_keys
from daskae.load.sql.tables import data_columns, declare, key_columns, plan_key_index
from daskae.load.sql.ways import Way, compares_keys, metadata_values

_BATCH_ROWS = 10_000  # rows alive outside of Arrow at a time
_FETCHED_ROWS = 50_000


@dataclass(frozen=True)
class Staged:
    """A table whose rows are staged, each key once unless the strategy's own index finds that out."""

    parts: TableParts
    table: sa.Table
    """Where the rows are; with way ``direct`` nowhere yet."""
    rows: int
    rejected: tuple[Rejected, ...]
    quarantined: tuple[str, ...] = ()
    """Columns in which no row has a value any more."""
    way: Way = "copy"

    def left_out(self, reason: str) -> int:
        """Count the rows that were left out for a reason."""
        return sum(found.rows for found in self.rejected if found.reason == reason)


DRIFT = "column_drift"


def drop_stages(session: Session) -> None:
    """Drop all staged tables, whoever left them."""
    if names := session.dialect.find_stages(session):
        with session.dialect.transaction(session.connection):
            for name in names:
                session.table(name).drop(session.connection, checkfirst=False)


def drop_stages_if_possible(session: Session) -> None:
    """Drop all staged tables; those that cannot be dropped are dropped by the next run."""
    with suppress(sa.exc.DBAPIError, sa.exc.InvalidRequestError):
        drop_stages(session)


def stage_table(
    session: Session, load: Load, number: int, way: Way = "copy", quarantined: Sequence[str] = ()
) -> Staged:
    """Create the staged table for one table of a load and put all its rows in, without those that are left out.

    Rows with a value in one of the ``quarantined`` columns are. On the way ``direct`` there is nothing to do yet.

    Raises
    ------
    LoadError
        When a value cannot be stored without loss, or a key is null or repeated and the options call that an error.
    """
    parts = load.tables[number]
    dialect = session.dialect
    # Where another role left one behind, the same load has another name.
    name = f"{STAGE_PREFIX}{short_id(load.load_id)}_{secrets.token_hex(3)}_{number}"
    if way == "direct":
        return Staged(parts, session.table(name), parts.rows, (), way=way)
    if way == "adopt":
        return _stage_target(session, load, parts, name)
    columns = [dialect.position_column(), *data_columns(dialect, parts, load, staged=True)]
    stage = session.table(name, *columns, prefixes=dialect.stage_prefixes)
    with dialect.transaction(session.connection):
        stage.create(session.connection, checkfirst=False)
    rows, nulls = fill_table(session, stage, load, parts, {})
    existing = dialect.find_table(session, parts.name)
    if parts.keys and (compares_keys(load, parts) or (existing is not None and existing.referenced)):
        dialect.prepare(session, stage, parts.keys)
    drifted = _without_values(session, stage, parts, load, quarantined)
    repeated = _without_repeated_keys(session, stage, parts, load)
    left = rows - sum(one.rows for one in (drifted, repeated) if one is not None)
    rejected = tuple(one for one in (nulls, drifted, repeated) if one is not None)
    return Staged(parts, stage, left, rejected, tuple(quarantined))


def fill_table(
    session: Session, table: sa.Table, load: Load, parts: TableParts, marks: Mapping[str, sa.BindParameter[Any]],
    in_order: bool = False,
) -> tuple[int, Rejected | None]:  # fmt: skip
    """Put the rows of a load into a table; return how many, and those with a null key, which are left out."""
    read = read_in_order if in_order else read_batches
    with RejectFile(load, parts, NULL_KEY) as nulls:
        source = _without_null_keys(read(parts, _BATCH_ROWS), parts, load, nulls)
        batches = _with_crash_point(session.dialect.name, source)
        rows = session.dialect.copy(session, table, parts, batches, marks)
    if rows != parts.rows - nulls.rows:
        left_out = f", of which {nulls.rows} were left out" if nulls.rows else ""
        raise row_error(parts, f"{rows} rows arrived", f"{parts.rows} rows announced{left_out}")
    return rows, nulls.result()


def _stage_target(session: Session, load: Load, parts: TableParts, name: str) -> Staged:
    """Stage rows in the table that will be the target."""
    stage = declare(session.dialect, session.schema, parts, load, name, wants_flags(load), staged=True)
    with session.dialect.transaction(session.connection):
        stage.create(session.connection, checkfirst=False)
    rows, nulls = fill_table(session, stage, load, parts, metadata_values(session.dialect, load))
    try:
        run_statements(session, plan_key_index(session.dialect, None, stage, key_columns(parts, load), of=parts.name))
    except sa.exc.IntegrityError:
        raise repeated_error(parts, find_repeated_keys(session, stage, parts)) from None
    return Staged(parts, stage, rows, (nulls,) if nulls is not None else (), way="adopt")


def find_repeated_keys(session: Session, table: sa.Table, parts: TableParts) -> list[Sequence[Any]]:
    """List the first few keys that more than one row has."""
    if not parts.keys:
        return []
    return [tuple(row) for row in session.connection.execute(repeated_keys(table, parts.keys, SHOWN_KEYS))]


def _without_null_keys(
    batches: Iterator[pa.RecordBatch], parts: TableParts, load: Load, nulls: RejectFile
) -> Iterator[pa.RecordBatch]:
    position = 1
    for batch in batches:
        if load.options.null_keys == "match":
            yield batch
            continue
        good, mask = without_null_keys(batch, parts.keys)
        if mask is not None:
            if load.options.null_keys == "error":
                raise null_error(parts, batch, mask)
            nulls.write(batch, mask, position)
        position += batch.num_rows
        if good.num_rows:
            yield good


def _with_crash_point(name: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        crash_point(f"{name}.staging")


def _without_repeated_keys(session: Session, stage: sa.Table, parts: TableParts, load: Load) -> Rejected | None:
    """Take repeated keys out of a staged table as the options say, or name them.

    A replace and an append that call them an error leave them to the unique index, which finds them at no cost.
    """
    options = load.options
    by_column = options.duplicates not in ("error", "first", "last")
    if not parts.keys:
        return None
    if options.duplicates == "error" or (by_column and options.duplicates not in parts.schema.names):
        unseen = options.null_keys == "match"  # no index takes two nulls for equal
        if (load.strategy in ("upsert", "merge") or unseen) and (keys := find_repeated_keys(session, stage, parts)):
            raise repeated_error(parts, keys)
        return None
    losers = losing_rows(stage, parts.keys, options, session.dialect.collation)
    return _take_out(session, stage, parts, load, losers, DUPLICATE_KEY)


def _without_values(
    session: Session, stage: sa.Table, parts: TableParts, load: Load, columns: Sequence[str]
) -> Rejected | None:
    """Take rows out of a staged table that have a value in one of these columns."""
    if not columns:
        return None
    filled = sa.select(stage.c[POSITION]).where(sa.or_(*(stage.c[name].is_not(None) for name in columns)))
    return _take_out(session, stage, parts, load, filled, DRIFT)


def _take_out(
    session: Session, stage: sa.Table, parts: TableParts, load: Load, losers: sa.Select[Any], reason: str
) -> Rejected | None:
    """Delete the staged rows at these places, and keep them as left out."""
    place = stage.c[POSITION]
    with session.dialect.transaction(session.connection):
        query = sa.select(place).where(place.in_(losers)).order_by(place)
        streamed = session.connection.execute(query, execution_options={"stream_results": True})
        rejected = write_rejects(load, parts, reason, _places(streamed), _with_null_keys(parts, load))
        if rejected is not None:
            session.run(sa.delete(stage).where(place.in_(losers)))
    return rejected


def _places(result: sa.CursorResult[Any]) -> Iterator[pa.Array]:
    for rows in result.scalars().partitions(_FETCHED_ROWS):
        yield pa.array(rows, pa.int64())


def _with_null_keys(parts: TableParts, load: Load) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
    """Yield the rows of a table again, each with its number among the staged rows, or null for one left out."""
    position = 1
    for batch in read_batches(parts, _BATCH_ROWS):
        good, mask = (batch, None) if load.options.null_keys == "match" else without_null_keys(batch, parts.keys)
        numbers = to_array(np.arange(position, position + good.num_rows))
        if mask is not None:
            numbers = pc.replace_with_mask(pa.nulls(batch.num_rows, pa.int64()), pc.invert(mask), numbers)
        position += good.num_rows
        yield batch, numbers
