"""Drift: what is done where a table that exists has other columns than the result, decided from the catalogue alone.

A plan is made before a run starts, again before rows are staged and again under the lock, each time by the same rules,
so nothing about columns fails first at load time. :class:`daskae.load.shape.Drift` has the policies.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.base import FLAG_COLUMNS, Load, TableParts
from daskae.load.checks import wants_flags
from daskae.load.sql.ddl import add_column, create_table, run_statements
from daskae.load.sql.dialect import Dialect, Existing, FoundColumn, Session
from daskae.load.sql.ledger import read_ledger
from daskae.load.sql.tables import declare, find_flags, key_columns, plan_key_index


@dataclass(frozen=True)
class Widening:
    """How a column comes to hold more, losing nothing of what it holds."""

    type: str
    """What it becomes."""
    statements: tuple[str, ...]
    obstacle: str = ""
    """What makes the database refuse it; empty when nothing does."""


@runtime_checkable
class CanWiden(Protocol):
    """A dialect that can change the type of a column in place."""

    def widen(
        self, session: Session, table: Existing, column: FoundColumn, wanted: sa.types.TypeEngine[Any]
    ) -> Widening | None:
        """Say how a column comes to hold all values of a type beside its own; None where that is not safe."""


@dataclass(frozen=True)
class TablePlan:
    """How one table takes a load."""

    parts: TableParts
    table: sa.Table
    """As it is when the statements have run, without columns that are left out."""
    creates: bool
    statements: tuple[str, ...]
    index: tuple[str, ...]
    """Statements for the unique index on the keys, which run when the rows are in."""
    notes: tuple[str, ...]
    quarantined: tuple[str, ...] = ()
    """Columns of the result that are left out with all rows that have a value there."""


@dataclass
class _Fit:
    """What was found out while comparing columns."""

    statements: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def plan_table(dialect: Dialect, session: Session | None, parts: TableParts, load: Load) -> TablePlan:
    """Decide how a table takes a load; there is no session where there is no database yet.

    Raises
    ------
    LoadError
        Saying everything that is in the way.
    """
    existing = dialect.find_table(session, parts.name) if session else None
    flags = wants_flags(load) or find_flags(existing, dialect)
    schema = session.schema if session else None
    wanted = declare(dialect, schema, parts, load, existing.name if existing else parts.name, flags)
    if session is None or existing is None:
        statements = create_table(dialect, wanted)  # before it has the index, which waits until the rows are in
        index = plan_key_index(dialect, session, wanted, key_columns(parts, load))
        return TablePlan(parts, wanted, True, statements, index, ("is made",))
    index = plan_key_index(dialect, session, wanted, key_columns(parts, load))
    fit = _compare(dialect, session, existing, wanted, load, parts)
    if existing.fixed and (fit.statements or index):
        fit.refusals.append(f"{', '.join(fit.notes) or 'an index on the keys is needed'}; but {existing.fixed}")
    if fit.refusals:
        raise LoadError(
            "the table in the database does not fit the result",
            where=f"table {parts.name}",
            got="; ".join(fit.refusals),
            hint="mend that table or the result, set on_drift or drift in [load], or choose another target",
        )
    _require_ours(session, existing, load, parts)
    if fit.left_out:
        wanted = declare(dialect, schema, parts, load, existing.name, flags, without=fit.left_out)
    return TablePlan(parts, wanted, False, tuple(fit.statements), index, tuple(fit.notes), tuple(fit.quarantined))


def apply_plan(session: Session, plan: TablePlan) -> None:
    """Create or alter the table."""
    run_statements(session, plan.statements)


def _compare(
    dialect: Dialect, session: Session, existing: Existing, wanted: sa.Table, load: Load, parts: TableParts
) -> _Fit:
    fit = _Fit()
    by_name = {dialect.fold(column.name): column for column in existing.columns}
    for column in wanted.columns:
        found = by_name.pop(dialect.fold(column.name), None)
        own = column.name in (*load.metadata.names, *FLAG_COLUMNS)
        policy = "evolve" if own else load.drift.policy(column.name, dialect.fold)
        if found is None:
            difference = f"column {column.name} is not in the table"
        elif found.computed:
            difference = f"column {column.name} is computed by the database"
        elif not dialect.accepts(found.type, column.type):
            kind = column.type.compile(dialect.compiler)
            difference = f"column {column.name} is {found.type or 'without a type'}, not {kind}"
        elif found.required and column.name in parts.keys and load.options.null_keys == "match":
            fit.refusals.append(f"column {column.name} takes no nulls, and null_keys is match")
            continue
        else:
            continue
        if policy in ("ignore", "quarantine"):
            _leave_out(fit, column.name, difference, found, parts, load, policy == "quarantine")
        elif policy == "freeze":
            fit.refusals.append(f"{difference}, and it is frozen")
        else:
            _evolve(dialect, session, existing, fit, wanted, column, found, difference)
    for found in by_name.values():
        _keep(fit, found, load, dialect)
    return fit


def _evolve(
    dialect: Dialect,
    session: Session,
    existing: Existing,
    fit: _Fit,
    wanted: sa.Table,
    column: sa.Column[Any],
    found: FoundColumn | None,
    difference: str,
) -> None:
    if found is None:
        column.nullable = True  # old rows have no value
        fit.statements.append(add_column(dialect, wanted, column))
        fit.notes.append(f"column {column.name} is added")
        return
    widening = None
    if isinstance(dialect, CanWiden) and not found.computed:
        widening = dialect.widen(session, existing, found, column.type)
    if widening is None:
        fit.refusals.append(difference)
    elif widening.obstacle:
        fit.refusals.append(f"{difference}, and {widening.obstacle}")
    else:
        fit.statements += widening.statements
        fit.notes.append(f"column {column.name} becomes {widening.type} from {found.type}")


def _leave_out(
    fit: _Fit, name: str, difference: str, found: FoundColumn | None, parts: TableParts, load: Load, quarantine: bool
) -> None:
    used = [*load.options.update_columns, load.options.only_if_newer]
    if name in parts.keys:
        fit.refusals.append(f"{difference}, and a key cannot be left out")
    elif found is not None and found.required:
        fit.refusals.append(f"{difference}, and it cannot be left out: it is NOT NULL without a default")
    elif name in used and load.strategy in ("upsert", "merge"):
        fit.refusals.append(f"{difference}, and update_columns or only_if_newer need it")
    else:
        fit.left_out.append(name)
        fit.notes.append(f"{difference}: " + ("rows with a value in it are left out" if quarantine else "left out"))
        if quarantine:
            fit.quarantined.append(name)


def _keep(fit: _Fit, found: FoundColumn, load: Load, dialect: Dialect) -> None:
    """Look at a column that the result does not have."""
    difference = f"column {found.name} is NOT NULL without a default, and the result has no such column"
    if found.required:
        fit.refusals.append(difference)
    elif load.drift.policy(found.name, dialect.fold) == "freeze":
        fit.refusals.append(f"column {found.name} is not in the result, and it is frozen")
    elif not found.computed:
        fit.notes.append(f"column {found.name} is not in the result: new rows have none or its default")


def _require_ours(session: Session, existing: Existing, load: Load, parts: TableParts) -> None:
    """Refuse to touch rows of somebody else, and rows of which it is not known which load brought them.

    Where the table lacks the load's id, the ledger and the index on the keys show whose the rows are.
    """
    dialect, where = session.dialect, f"table {parts.name}"
    names = {dialect.fold(column.name) for column in existing.columns}
    id_name = load.metadata.load_id
    if (id_name and dialect.fold(id_name) in names) or not _has_rows(session, existing.name):
        return
    index = dialect.index_columns(session, existing.name, dialect.index_name(existing.name))
    loaded = any(parts.name in entry.tables for entry in read_ledger(session) if entry.status != "failed")
    if not (loaded and index):
        raise LoadError(
            "the table holds rows that daskae did not put there",
            where=where,
            got=f"rows, but no column {id_name}" if id_name else "rows, but no load in the ledger",
            hint="rename, empty or drop that table, or choose another target",
        )
    if load.strategy == "replace" or (id_name is None and dialect.fold("_load_id") not in names):
        return
    raise LoadError(
        "the table and the settings do not agree on the column that says which load brought a row",
        where=f"{where}, [load] metadata",
        got=f"no column {id_name}" if id_name else "a column _load_id, which the settings leave out",
        hint="name that column as earlier loads did, rename it in the table, or use the strategy replace",
    )


def _has_rows(session: Session, name: str) -> bool:
    table = session.table(name)
    return session.connection.execute(sa.select(1).select_from(table).limit(1)).first() is not None
