"""The ledger as a table of a database, written in the transaction that publishes the rows.

It is the load history too. Beside what decides, each entry keeps its times and what was done, in all and by table.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from daskae.errors import LoadError
from daskae.load.base import Load
from daskae.load.ledger import Entry, iso_text, next_sequence
from daskae.load.shape import TableChange
from daskae.load.sql.ddl import add_column, create_table, run_statements
from daskae.load.sql.dialect import Dialect, Session

_TOTALS = ("inserted", "updated", "unchanged", "deleted", "flagged", "rejected", "duplicates")
_TEXTS = ("tables", "changes", "totals", "purged")
_LONG_TEXT = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
"""Totals of some thousand columns are longer than the TEXT of these two."""
LEDGER = "_daskae_loads"


def ledger_table(dialect: Dialect, schema: str | None) -> sa.Table:
    """Describe the ledger.

    ``tables`` is a JSON object of rows by table, ``changes`` one of counts by table, ``totals`` one of what columns add
    up to, ``purged`` a list of tables; ``rows_...`` are sums of counts. A load has at most one row that is
    ``published``: an index holds that where the database has such, and everywhere the primary key lets only one of two
    publishers that have read the same ledger commit.
    """
    table = sa.Table(
        LEDGER,
        sa.MetaData(),
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("load_id", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("tables", sa.Text, nullable=False),
        sa.Column("source_rows", sa.BigInteger, nullable=False),
        sa.Column("loaded_at", sa.Text, nullable=False),
        sa.Column("published_at", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("started_at", sa.Text),
        sa.Column("changes", sa.Text),
        sa.Column("totals", _LONG_TEXT),
        sa.Column("mark", sa.Text),
        sa.Column("purged", sa.Text),
        *(sa.Column(f"rows_{name}", sa.BigInteger) for name in _TOTALS),
        schema=schema,
        quote=True,
        **dialect.table_options,
    )
    if dialect.has_partial_indexes:
        done = table.c.status == "published"
        sa.Index(f"{LEDGER}_published", table.c.load_id, unique=True, sqlite_where=done, postgresql_where=done)
    return table


def read_ledger(session: Session) -> list[Entry]:
    """Read all entries in order; none when there is no ledger yet."""
    existing = session.dialect.find_table(session, LEDGER)
    if existing is None:
        return []
    found = {column.name for column in existing.columns}
    table = ledger_table(session.dialect, session.schema)
    columns = [column for column in table.columns if column.name in found and not column.name.startswith("rows_")]
    rows = session.connection.execute(sa.select(*columns).order_by(table.c.sequence)).mappings()
    return [_to_entry(dict(row)) for row in rows]


def write_ledger(session: Session, before: Sequence[Entry], after: Sequence[Entry]) -> None:
    """Bring the table from ``before`` to ``after``: changed entries are updated, the last ones inserted."""
    table = create_or_extend_ledger(session)
    for old, new in zip(before, after, strict=False):
        if old != new:
            row = _to_row(new)
            changes = {name: row[name] for name in ("status", "message", "totals", "purged")}
            session.connection.execute(sa.update(table).where(table.c.sequence == new.sequence).values(changes))
    for entry in after[len(before) :]:
        session.connection.execute(sa.insert(table).values(_to_row(entry)))


def record_failure(session: Session, load: Load, started_at: str, message: str) -> None:
    """Add an entry for a load that failed, if there is a ledger: a failed load makes no table."""
    with session.dialect.transaction(session.connection):
        if session.dialect.find_table(session, LEDGER) is None:
            return
        entries = read_ledger(session)
        entry = Entry(
            sequence=next_sequence(entries),
            load_id=load.load_id,
            run_id=load.run_id,
            strategy=load.strategy,
            status="failed",
            tables=dict.fromkeys((parts.name for parts in load.tables), 0),
            source_rows=load.source_rows,
            loaded_at=iso_text(load.loaded_at),
            published_at=iso_text(datetime.now(UTC)),
            message=message,
            started_at=started_at,
        )
        write_ledger(session, entries, [*entries, entry])


def plan_ledger(dialect: Dialect, session: Session | None) -> TableChange:
    """Say how the ledger is made, or brought from an older form to this one."""
    table = ledger_table(dialect, session.schema if session else None)
    existing = dialect.find_table(session, LEDGER) if session else None
    if existing is None:
        return TableChange(LEDGER, "create", create_table(dialect, table), ("is made: the history of loads",))
    found = {column.name for column in existing.columns}
    missing = [column for column in table.columns if column.name not in found]
    statements = tuple(add_column(dialect, table, column) for column in missing)
    notes = tuple(f"column {column.name} is added" for column in missing)
    return TableChange(LEDGER, "alter" if missing else "keep", statements, notes)


def create_or_extend_ledger(session: Session) -> sa.Table:
    """Create the ledger, or add the columns it lacks."""
    run_statements(session, plan_ledger(session.dialect, session).statements)
    return ledger_table(session.dialect, session.schema)


def _to_entry(row: dict[str, Any]) -> Entry:
    try:
        row["tables"] = json.loads(row["tables"])
        for name in ("changes", "totals"):
            row[name] = json.loads(row.get(name) or "{}")
        row["purged"] = json.loads(row.get("purged") or "[]")
        row["started_at"] = row.get("started_at") or ""
        row["mark"] = "_load_id" if row.get("mark") is None else row["mark"]
        return Entry(**row)
    except (TypeError, ValueError, AttributeError) as error:
        raise LoadError(
            "the history of loads is damaged", f"table {LEDGER}, sequence {row.get('sequence')}", str(error)[:200],
            "JSON of counts in its columns tables, changes, totals and purged",
            "mend the row, or restore the table from a copy",
        ) from error  # fmt: skip


def _to_row(entry: Entry) -> dict[str, Any]:
    texts = {name: json.dumps(getattr(entry, name), ensure_ascii=False) for name in _TEXTS}
    counts = list(entry.changes.values())
    totals = {f"rows_{name}": sum(count.get(name, 0) for count in counts) for name in _TOTALS}
    return {**vars(entry), **texts, **totals}
