"""Staging: the rows of a load in tables of their own, in the same file, before the one transaction that publishes them.

Staging tables are named ``_daskae_stage_<load>_<table>`` and have no metadata columns. They are written under the
publisher's lock, so a run that finds any may drop them: their run is dead.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, islice, repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from daskae.errors import LoadError
from daskae.load.base import Load, TableParts
from daskae.load.ledger import short_id
from daskae.load.parts import read_batches
from daskae.load.sqlite_session import driver, transaction
from daskae.load.sqlite_tables import STAGE_PREFIX, declare, quote
from daskae.load.sqlite_values import to_python

_SHOWN_KEYS = 5
_BATCH_ROWS = 10_000  # rows alive as Python objects at a time
_BATCHES_PER_COMMIT = 20  # other writers get their turn in between
_VALUES_PER_STATEMENT = 500  # several rows a statement are a fifth faster; old builds of SQLite take 999 values at most


def stage_name(load: Load, parts: TableParts) -> str:
    """Name the staging table of one table of a load."""
    return f"{STAGE_PREFIX}{short_id(load.load_id)}_{parts.name}"


def drop_stages(connection: sa.Connection) -> None:
    """Drop all staging tables, whoever left them."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ?"
    names = connection.exec_driver_sql(query, (len(STAGE_PREFIX), STAGE_PREFIX)).scalars().all()
    if names:
        with transaction(connection):
            for name in names:
                connection.exec_driver_sql(f"DROP TABLE {quote(name)}")


def fill_stage(connection: sa.Connection, load: Load, parts: TableParts) -> None:
    """Create the staging table of one table and put all its rows in.

    Raises
    ------
    LoadError
        When a key is null or a value cannot be stored without loss.
    """
    stage = stage_name(load, parts)
    with transaction(connection):
        connection.execute(CreateTable(declare(parts, stage, metadata=False)))
    batches = read_batches(parts, _BATCH_ROWS)
    while some := list(islice(batches, _BATCHES_PER_COMMIT)):
        with transaction(connection):
            for batch in some:
                _check_keys(batch, parts)
                columns = map(to_python, batch.columns, parts.schema, repeat(parts.name))
                _insert(connection, stage, len(parts.schema), zip(*columns, strict=True), batch.num_rows)


def repeated_keys(connection: sa.Connection, load: Load) -> LoadError | None:
    """Look in the staging tables for rows that share their keys; return the error that names them."""
    for parts in load.tables:
        if not parts.keys:
            continue
        keys = ", ".join(map(quote, parts.keys))
        stage = quote(stage_name(load, parts))
        query = f"SELECT {keys} FROM {stage} GROUP BY {keys} HAVING count(*) > 1 ORDER BY {keys} LIMIT {_SHOWN_KEYS}"
        if found := connection.exec_driver_sql(query).all():
            return _key_error("a key appears more than once in the result", parts, found)
    return None


def _insert(connection: sa.Connection, stage: str, width: int, rows: Iterable[tuple[Any, ...]], count: int) -> None:
    row = f"({', '.join('?' * width)})"
    several = max(1, _VALUES_PER_STATEMENT // width)
    values = chain.from_iterable(rows)

    def statement(size: int) -> str:
        return f"INSERT INTO {quote(stage)} VALUES {', '.join([row] * size)}"

    whole, rest = divmod(count, several)
    plain = driver(connection)
    plain.executemany(statement(several), (tuple(islice(values, several * width)) for _ in range(whole)))
    if rest:
        plain.execute(statement(rest), tuple(values))


def _check_keys(batch: pa.RecordBatch, parts: TableParts) -> None:
    nulls = [batch.column(key).is_null() for key in parts.keys if batch.column(key).null_count]
    if not nulls:
        return
    anywhere = nulls[0]
    for more in nulls[1:]:
        anywhere = pc.or_(anywhere, more)
    rows = batch.select(list(parts.keys)).filter(anywhere).slice(0, _SHOWN_KEYS).to_pylist()
    raise _key_error("a key is null in the result", parts, [tuple(row.values()) for row in rows])


def _key_error(what: str, parts: TableParts, keys: Sequence[Sequence[Any]]) -> LoadError:
    shown = ["(" + ", ".join("null" if value is None else str(value) for value in key) + ")" for key in keys]
    return LoadError(
        what,
        where=f"table {parts.name}, key ({', '.join(parts.keys)})",
        got=", ".join(shown) + (" ..." if len(shown) == _SHOWN_KEYS else ""),
        allowed="one row for each key",
        hint="this is a fault of the job that made the table; the target is unchanged",
    )
