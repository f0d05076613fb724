"""daskae as a contender, and where its time goes."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

import sqlalchemy as sa

from benchmarks.loaders.customers import KEY, LOADED_AT, MARKS, SCHEMA, SOURCE_ROWS, TABLE, part_files
from benchmarks.loaders.methods import Ready, Task
from daskae.load.base import Load, Strategy, TableParts
from daskae.load.parts import read_batches
from daskae.load.sql.columns import plain_columns
from daskae.load.sql.postgresql import dialect as postgresql
from daskae.load.sql.postgresql.binary import to_binary
from daskae.load.sql.sqlite import dialect as sqlite
from daskae.load.sql.sqlite.values import to_python
from daskae.load.targets import open_sink

_STEPS = {
    "CREATE UNIQUE": "index",
    "CREATE INDEX": "index",
    "SELECT": "check",
    "INSERT": "merge",
    "UPDATE": "merge",
    "DELETE": "merge",
    "COMMIT": "commit",
}


def daskae(task: Task) -> Ready:
    """A first load: the table is not there yet."""
    load = load_of(task, "replace")
    return _observed(task, load)


def daskae_replace(task: Task) -> Ready:
    """A load that takes the place of as many rows, with a reader's view of the old ones until it commits."""
    return _again(task, "replace")


def daskae_upsert(task: Task) -> Ready:
    """A load by key over rows that are all there and all equal."""
    return _again(task, "upsert")


def _again(task: Task, strategy: Strategy) -> Ready:
    open_sink(task.plain_url).publish(replace(load_of(task, "replace"), load_id="f" * 32))
    load = load_of(task, strategy)
    return _observed(task, load)


def load_of(task: Task, strategy: Strategy) -> Load:
    """Describe the load of a task's rows."""
    parts = TableParts(TABLE, (KEY,), SCHEMA, part_files(task.parts), task.rows)
    return Load(str(MARKS["_load_id"]), "benchmark", strategy, SOURCE_ROWS, LOADED_AT, (parts,))


def _observed(task: Task, load: Load) -> Ready:
    """Watch the statements of a load and its bulk copies."""
    seconds: defaultdict[str, float] = defaultdict(float)

    def before(connection: sa.Connection, cursor: Any, statement: str, *rest: Any) -> None:
        connection.info["began"] = time.perf_counter()

    def after(connection: sa.Connection, cursor: Any, statement: str, *rest: Any) -> None:
        step = next((step for start, step in _STEPS.items() if statement.startswith(start)), "other statements")
        seconds[step] += time.perf_counter() - connection.info["began"]

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    sa.event.listen(sa.Engine, "after_cursor_execute", after)
    for module in (postgresql, sqlite):
        vars(module)["copy_rows"] = _counted(vars(module)["copy_rows"], seconds)

    def told() -> Mapping[str, float]:
        return {"serialise alone": _serialise(load, task.is_sqlite), **seconds}

    return Ready(lambda: open_sink(task.plain_url).publish(load), told)


def _counted(function: Callable[..., Any], seconds: defaultdict[str, float]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            seconds["serialise and copy"] += time.perf_counter() - began

    return call


def _serialise(load: Load, for_sqlite: bool) -> float:
    """Turn all rows into what goes to the database and forget it."""
    (parts,) = load.tables
    began = time.perf_counter()
    for batch in read_batches(parts, 10_000):
        if for_sqlite:
            [to_python(*column, parts.name) for column in zip(batch.columns, parts.schema, strict=True)]
        else:
            to_binary(plain_columns(batch, parts.name))
    return time.perf_counter() - began
