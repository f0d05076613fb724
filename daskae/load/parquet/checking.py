"""Checks over rows on their way into files: Polars runs the SQL before readers see anything of the load.

Rows come file by file, and from the batch in pieces, with no more columns than a query names. What a query itself has
to hold, one side of a join or the rows of a sort, is in memory on top of that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from daskae.errors import SettingsError
from daskae.load.audits import LoadCheck, Verdict, resolve_checks
from daskae.load.base import Load, TableParts
from daskae.load.parquet.batch import Batch
from daskae.load.parquet.older import Older
from daskae.load.parquet.writing import FLAG_DEFAULTS, file_schema
from daskae.load.shape import Metadata
from daskae.load.verdicts import Found, answer, decide

_BATCH_ROWS = 100_000


@dataclass(frozen=True)
class Target:
    """One table of files, before the load or after it."""

    older: Older
    """The files that are there."""
    schema: pa.Schema
    """Columns of the table as it is with the load."""


@dataclass(frozen=True)
class _Rows:
    """Rows of which some columns can be read, again and again."""

    schema: pa.Schema
    read: Callable[[Sequence[str]], Iterator[pa.Table]]


def run_checks(load: Load, at: str, targets: Mapping[str, Target], batches: Mapping[str, Batch]) -> list[Verdict]:
    """Run the checks of one moment; see :func:`daskae.load.verdicts.decide`.

    Raises
    ------
    GateError
        Naming the checks that block.
    """
    checks = checks_of(load)
    if not checks:
        return []
    tables = {("staged", name): _scan(_staged_rows(batch)) for name, batch in batches.items()}
    tables |= {("target", name): _scan(_target_rows(target)) for name, target in targets.items()}
    queries = _Queries(tables)
    return decide(load, checks, at, queries.judge)


def try_checks(load: Load, targets: Mapping[str, Target]) -> None:
    """Let Polars read every query, as far as names and types of columns go.

    Raises
    ------
    SettingsError
        Naming the check that cannot be run.
    """
    checks = checks_of(load)
    if not checks:
        return
    tables = {("staged", parts.name): _empty(_plain_schema(parts)).lazy() for parts in load.tables}
    tables |= {("target", name): _empty(_target_rows(target).schema).lazy() for name, target in targets.items()}
    queries = _Queries(tables)
    for check in checks:
        try:
            queries.plan(check)
        except pl.exceptions.PolarsError as error:
            raise SettingsError(
                "a check is no query that Polars can run, which looks at files",
                f"[[load.checks]] {check.name}",
                _said(error),
                "one SELECT over columns that the tables have",
            ) from None


def checks_of(load: Load) -> tuple[LoadCheck, ...]:
    """Resolve the checks of a load.

    Raises
    ------
    SettingsError
        Naming one that cannot be run over files.
    """
    checks = resolve_checks(load.checks, [parts.name for parts in load.tables])
    for check in checks:
        if check.function is not None:
            raise SettingsError(
                "a target of files takes no function as a check: there is no connection to call it with",
                f"[[load.checks]] {check.name}",
                allowed="sql",
                hint="write the check as a query, or load into a database, such as sqlite:///metrics.db",
            )
    return checks


class _Queries:
    """Polars with two tables for each table of the load; it reads nothing that no query names."""

    def __init__(self, tables: Mapping[tuple[str, str], pl.LazyFrame]) -> None:
        # Names of our own: those of the tables may be any text.
        self._names = {place: f"_daskae_{place[0]}_{number}" for number, place in enumerate(tables)}
        self._context = pl.SQLContext({self._names[place]: frame for place, frame in tables.items()})

    def plan(self, check: LoadCheck) -> None:
        """Find out whether a query can be run."""
        self._select(check, "*").collect_schema()

    def judge(self, check: LoadCheck) -> Found:
        """Run one check."""

        def count() -> int:
            return int(self._select(check, "count(*) AS rows").collect(engine="streaming").item())

        def first(rows: int) -> tuple[list[str], list[tuple[Any, ...]]]:
            found = self._select(check, "*").head(rows).collect(engine="streaming")
            return found.columns, found.rows()

        try:
            return answer(check, count, first)
        except pl.exceptions.PolarsError as error:
            return Found(f"the check itself failed: {_said(error)}")

    def _select(self, check: LoadCheck, columns: str) -> pl.LazyFrame:
        # Inside of a SELECT there can be no other statement.
        query = check.filled(lambda place, table: self._names[place, table])
        return self._context.execute(f"SELECT {columns} FROM (\n{query}\n) AS found", eager=False)


def _staged_rows(batch: Batch) -> _Rows:
    schema = _plain_schema(batch.parts)

    def read(columns: Sequence[str]) -> Iterator[pa.Table]:
        wanted = pa.schema([schema.field(name) for name in columns])
        for start in range(0, len(batch.places), _BATCH_ROWS):
            yield batch.rows.take(batch.places[start : start + _BATCH_ROWS]).select(columns).cast(wanted)

    return _Rows(schema, read)


def _target_rows(target: Target) -> _Rows:
    """Read files with the columns they have, and with those that the load brings, as old rows will have them."""
    older = target.older
    there = older.schema(older.names[0]) if older.names else target.schema
    new = [field for field in target.schema if field.name not in there.names]
    schema = pa.schema([*there, *new])

    def read(columns: Sequence[str]) -> Iterator[pa.Table]:
        for name in older.names:
            known = older.schema(name).names
            found = older.read(name, [column for column in columns if column in known])
            arrays = [
                found[column] if column in known else _fill(schema.field(column), older.rows(name))
                for column in columns
            ]
            yield pa.table(arrays, names=list(columns)).cast(pa.schema([schema.field(name) for name in columns]))

    return _Rows(schema, read)


def _fill(field: pa.Field, rows: int) -> pa.Array:
    return pa.repeat(FLAG_DEFAULTS[field.name], rows) if field.name in FLAG_DEFAULTS else pa.nulls(rows, field.type)


def _scan(rows: _Rows) -> pl.LazyFrame:
    def frames(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for table in rows.read(rows.schema.names if columns is None else columns):
            frame = _frame(table)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    return register_io_source(frames, schema=_empty(rows.schema).schema)


def _plain_schema(parts: TableParts) -> pa.Schema:
    return file_schema(parts, Metadata(None, None, None))


def _empty(schema: pa.Schema) -> pl.DataFrame:
    return _frame(pa.Table.from_batches([], schema))


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _said(error: pl.exceptions.PolarsError) -> str:
    return str(error).partition("\n")[0]
