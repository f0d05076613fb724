"""The ledger as a table of a database, written in the transaction that publishes the rows.

Nothing here is particular to SQLite: the next database can use it as it is.
"""

import json
from collections.abc import Sequence

import sqlalchemy as sa

from daskae.load.ledger import Entry

LOADS = sa.Table(
    "_daskae_loads",
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
)
"""``tables`` is a JSON object of rows by table. A load has at most one row that is ``published``; see the index."""

_PUBLISHED = LOADS.c.status == "published"
sa.Index("_daskae_loads_published", LOADS.c.load_id, unique=True, sqlite_where=_PUBLISHED, postgresql_where=_PUBLISHED)


def read_ledger(connection: sa.Connection) -> list[Entry]:
    """Read all entries in order; none when there is no ledger yet."""
    if not sa.inspect(connection).has_table(LOADS.name):
        return []
    rows = connection.execute(sa.select(LOADS).order_by(LOADS.c.sequence)).mappings()
    return [Entry(**{**row, "tables": json.loads(row["tables"])}) for row in rows]


def write_ledger(connection: sa.Connection, before: Sequence[Entry], after: Sequence[Entry]) -> None:
    """Bring the table from ``before`` to ``after``: changed entries are updated, the last ones inserted."""
    LOADS.create(connection, checkfirst=True)
    for old, new in zip(before, after, strict=False):
        if old != new:
            changes = {"status": new.status, "message": new.message}
            connection.execute(sa.update(LOADS).where(LOADS.c.sequence == new.sequence).values(changes))
    for entry in after[len(before) :]:
        values = {**vars(entry), "tables": json.dumps(entry.tables, ensure_ascii=False)}
        connection.execute(sa.insert(LOADS).values(values))
