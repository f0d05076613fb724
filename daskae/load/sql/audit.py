"""Checks on staged rows and target, in the transaction that publishes them; :mod:`daskae.load.audits` says what one is.

A query is run as a part of a SELECT around it, and whatever a check writes is rolled back, so it can only look; where
the database has no savepoints, functions are refused, and a check that cannot be run ends the load. Before a run
starts, each query is tried out on columns without rows: a misspelt one is not found out hours later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from daskae.errors import DaskaeError, GateError, LoadError, SettingsError, TargetBusyError
from daskae.load.audits import LoadCheck, Verdict, resolve_checks
from daskae.load.base import Load
from daskae.load.failures import mask_secrets
from daskae.load.sql.ddl import quoted_name, quoted_table
from daskae.load.sql.dialect import Dialect, Session
from daskae.load.sql.drift import TablePlan
from daskae.load.sql.strategies import Pair
from daskae.load.sql.tables import data_columns
from daskae.load.verdicts import Found, answer, decide

_SAVEPOINT = "daskae_check"


@dataclass(frozen=True)
class CheckedTable:
    """What a function gets of one output table."""

    staged: sa.Table
    """The new rows."""
    target: sa.Table
    """The table they go into."""


def run_checks(session: Session, load: Load, pairs: Sequence[Pair], at: str) -> list[Verdict]:
    """Run the checks of one moment; see :func:`daskae.load.verdicts.decide`.

    Raises
    ------
    GateError
        Naming the checks that block.
    """
    names = [parts.name for parts in load.tables]
    tables = {name: CheckedTable(pair.stage, pair.target) for name, pair in zip(names, pairs, strict=True)}
    return decide(load, _checks_of(session.dialect, load, names), at, lambda check: _judge(session, check, tables))


def try_checks(session: Session, load: Load, plans: Sequence[TablePlan]) -> None:
    """Let the database read every query, over columns without rows.

    Raises
    ------
    SettingsError
        Naming the check that cannot be run.
    """
    checks = _checks_of(session.dialect, load, [plan.parts.name for plan in plans])
    heads = _empty_tables(session, load, plans)
    for check in checks:
        if not check.sql:
            continue
        query = check.filled(lambda place, table: quoted_name(session.dialect, heads[place, table][0]))
        used = dict.fromkeys(heads[place] for place in check.places())
        head = ", ".join(f"{quoted_name(session.dialect, name)} AS ({body})" for name, body in used)
        try:
            text = f"WITH {head} SELECT * FROM (\n{query}\n) AS found LIMIT "
            session.connection.execute(sa.text(f"{_plain(text)}:none"), {"none": 0})
        except sa.exc.DBAPIError as error:
            raise SettingsError(
                "a check is no query that the database can run",
                f"[[load.checks]] {check.name}",
                _said(session.dialect, error),
                "one SELECT over columns that the tables have",
            ) from None


def _checks_of(dialect: Dialect, load: Load, names: Sequence[str]) -> Sequence[LoadCheck]:
    """Resolve the checks of a load, and refuse those that the database cannot keep from writing."""
    checks = resolve_checks(load.checks, names)
    for check in checks:
        if check.function is not None and not dialect.has_savepoints:
            raise SettingsError(
                f"{dialect.title} takes no function as a check: what it writes could not be undone",
                f"[[load.checks]] {check.name}",
                allowed="sql",
                hint="write the check as a query, or load into SQLite, PostgreSQL or MariaDB",
            )
    return checks


def _judge(session: Session, check: LoadCheck, tables: Mapping[str, CheckedTable]) -> Found:
    """Run one check."""
    connection, savepoints = session.connection, session.dialect.has_savepoints
    if savepoints:
        connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}")
    try:
        found = _call(session, check, tables)
    except sa.exc.DBAPIError as error:
        found = Found(f"the check itself failed: {_said(session.dialect, error)}")
        if not savepoints:  # there is no way back to a transaction that goes on
            raise GateError(
                "a check of the load cannot be run",
                "[[load.checks]]",
                mask_secrets(f"{check.name}: {found.message}"),
                hint="mend the check; the target is unchanged",
            ) from None
    except DaskaeError:
        raise
    except Exception as error:  # a function of the user's own
        found = Found(f"the check itself failed: {type(error).__name__}: {error}")
    if savepoints:
        connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
        connection.exec_driver_sql(f"RELEASE SAVEPOINT {_SAVEPOINT}")
    return found


def _call(session: Session, check: LoadCheck, tables: Mapping[str, CheckedTable]) -> Found:
    if check.function is not None:
        said = check.function(session.connection, tables)
        if said is None or said is True:
            return Found()
        return Found(said if isinstance(said, str) else "" if said else "it is not so")

    def name(place: str, table: str) -> str:
        found = tables[table]
        return quoted_table(session.dialect, found.staged if place == "staged" else found.target)

    query = f"(\n{check.filled(name)}\n) AS found"

    def count() -> int:
        return int(session.connection.execute(_limited(query, 1, "count(*)")).scalar_one())

    def first(rows: int) -> tuple[list[str], Sequence[sa.Row[Any]]]:
        result = session.connection.execute(_limited(query, rows))
        return list(result.keys()), result.all()

    return answer(check, count, first)


def _limited(query: str, rows: int, columns: str = "*") -> sa.Select[Any]:
    """Select from a query. The limit is a parameter, and with one no driver takes two statements at once."""
    return sa.select(sa.text(columns)).select_from(sa.text(_plain(query))).limit(rows)


def _plain(text: str) -> str:
    """Write a text so that SQLAlchemy takes it as it is: a colon in it is no parameter."""
    return text.replace(":", "\\:")


def _said(dialect: Dialect, error: sa.exc.DBAPIError) -> str:
    """Return what the database has against a check; a lost connection or a busy table is not about the check."""
    if dialect.is_lost(error):
        raise error
    try:
        with dialect.translated():
            raise error
    except TargetBusyError:
        raise
    except LoadError as found:
        return (found.got or found.what).partition("\n")[0]


def _empty_tables(
    session: Session, load: Load, plans: Sequence[TablePlan]
) -> dict[tuple[str, str], tuple[str, str]]:  # fmt: skip
    """Name and write a query without rows for the staged rows and the target of every table."""
    found = {}
    for number, plan in enumerate(plans):
        staged = data_columns(session.dialect, plan.parts, load, staged=True)
        body = f"SELECT {_nulls(session.dialect, staged)} LIMIT 0"
        found["staged", plan.parts.name] = (f"_daskae_staged_{number}", body)
        existing = session.dialect.find_table(session, plan.parts.name)
        if existing is None:
            body = f"SELECT {_nulls(session.dialect, list(plan.table.columns))} LIMIT 0"
        else:
            there = {session.dialect.fold(column.name) for column in existing.columns}
            new = [column for column in plan.table.columns if session.dialect.fold(column.name) not in there]
            more = f", {_nulls(session.dialect, new)}" if new else ""
            name = quoted_table(session.dialect, session.table(existing.name))
            body = f"SELECT old.*{more} FROM {name} AS old LIMIT 0"
        found["target", plan.parts.name] = (f"_daskae_target_{number}", body)
    return found


def _nulls(dialect: Dialect, columns: Sequence[sa.Column[Any]]) -> str:
    kinds = [
        str(sa.cast(sa.null(), column.type).compile(dialect=dialect.compiler)) if dialect.has_typed_nulls else "NULL"
        for column in columns
    ]
    return ", ".join(
        f"{kind} AS {quoted_name(dialect, column.name)}" for kind, column in zip(kinds, columns, strict=True)
    )
