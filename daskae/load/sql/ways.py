"""The ways from the parts of a load to its target: as few copies of the rows as the promises allow.

``copy``
    Rows are staged, then copied into the target by the transaction: always possible.
``adopt``
    There is no target yet, so the staged table becomes it: filled and indexed beforehand, by several connections where
    the database takes them, it only gets its name in the transaction.
``direct``
    A replace or an append whose rows go straight into the target, inside of the transaction, in the order of its key
    where that has an index. Other writers wait as long as the rows take.
"""

from typing import Any, Literal

import sqlalchemy as sa

from daskae.load.base import Load, TableParts
from daskae.load.ledger import naive_utc
from daskae.load.sql.dialect import Dialect, Session
from daskae.load.sql.drift import TablePlan

Way = Literal["copy", "adopt", "direct"]


def choose_way(session: Session, load: Load, plan: TablePlan) -> Way:
    """Find the shortest way for a table; nothing is written."""
    dialect, parts = session.dialect, plan.parts
    if load.checks or needs_stage(load, parts):
        return "copy"
    if plan.creates and dialect.adopts:
        return "adopt"
    if load.strategy not in ("replace", "append") or not dialect.takes_rows_directly(session, parts.name):
        return "copy"
    if plan.creates:
        return "direct"
    existing = dialect.find_table(session, parts.name)
    as_planned = not plan.statements and set(parts.schema.names) <= {column.name for column in plan.table.columns}
    return "direct" if as_planned and existing is not None and not existing.referenced else "copy"


def needs_stage(load: Load, parts: TableParts) -> bool:
    """Tell whether the options ask for something that is done to staged rows."""
    options = load.options
    takes_out = options.duplicates in ("first", "last", *parts.schema.names)
    return options.null_keys == "match" or (takes_out and bool(parts.keys))


def compares_keys(load: Load, parts: TableParts) -> bool:
    """Tell whether staged rows will be compared by their keys."""
    return load.strategy in ("upsert", "merge") or needs_stage(load, parts)


def metadata_values(dialect: Dialect, load: Load) -> dict[str, sa.BindParameter[Any]]:
    """Return what the metadata columns hold in every row of a load."""
    marks = (
        (load.metadata.load_id, sa.literal(load.load_id, sa.Text)),
        (load.metadata.loaded_at, dialect.moment(naive_utc(load.loaded_at))),
        (load.metadata.source_rows, sa.literal(load.source_rows, sa.BIGINT)),
    )
    return {name: value for name, value in marks if name is not None}
