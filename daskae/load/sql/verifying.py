"""Measure the tables of a database again, by queries, to compare them with its ledger."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from daskae.errors import TargetBusyError
from daskae.faults import crash_point
from daskae.load.ledger import Entry
from daskae.load.purged import nothing_loaded
from daskae.load.sql.dialect import Dialect, Session
from daskae.load.sql.ledger import read_ledger
from daskae.load.verified import Comparison, Measured, Question, Verified, compare_loads


def verify(dialect: Dialect) -> Verified:
    """See :class:`daskae.load.verified.CanVerify`."""
    with dialect.reading() as session:
        entries = read_ledger(session) if session is not None else []
        if session is None or not entries:
            raise nothing_loaded(dialect.target)
        found = list(compare_loads(entries, partial(_measure, session)))
        crash_point("verifying.compared")
        if _decisive(read_ledger(session)) != _decisive(entries):
            raise TargetBusyError(
                "somebody has loaded while the target was looked at", dialect.target, hint="run the same command again"
            )
    return Verified(
        dialect.target,
        sum(entry.status == "published" for entry in entries),
        tuple(item for item in found if isinstance(item, Comparison)),
        tuple(item for item in found if isinstance(item, str)),
    )


def _decisive(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.status != "failed"]


def _measure(session: Session, question: Question) -> Measured | str:
    dialect, existing = session.dialect, session.dialect.find_table(session, question.table)
    if existing is None:
        return "no such table"
    names = {dialect.fold(column.name): column.name for column in existing.columns}
    wanted = {name: names[dialect.fold(name)] for name in question.columns if dialect.fold(name) in names}
    columns: list[sa.Column[Any]] = [sa.Column(name, quote=True) for name in wanted.values()]
    where: list[sa.ColumnElement[bool]] = []
    if question.mark:
        if dialect.fold(question.mark) not in names:
            return f"no column {question.mark}"
        own = sa.Column(names[dialect.fold(question.mark)], sa.Text, quote=True)
        columns, where = [*columns, own], [own == question.load_id]
    table = session.table(existing.name, *columns)
    counts = [sa.func.count(), *(sa.func.count(table.c[name]) for name in wanted.values())]
    rows, *values = session.connection.execute(sa.select(*counts).select_from(table).where(*where)).one()
    sums = {
        name: dialect.exact_sum(session, table.c[wanted[name]], *where) if question.columns[name] else None
        for name in wanted
    }
    texts = {name: None if total is None else format(total, "f") for name, total in sums.items()}
    return Measured(rows, {name: (count, texts[name]) for name, count in zip(wanted, values, strict=True)})
