"""Delete the rows of customers in one transaction, then overwrite what they leave behind where a file is ours alone."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import sqlalchemy as sa

from daskae.faults import crash_point
from daskae.load.ledger import after_purge
from daskae.load.purged import CUSTOMER, nothing_loaded
from daskae.load.sql.dialect import Dialect, Session
from daskae.load.sql.ledger import read_ledger, write_ledger
from daskae.load.sql.stage import drop_stages
from daskae.load.sql.strategies import collated

_IDS_A_STATEMENT = 500


@runtime_checkable
class CanErase(Protocol):
    """A dialect whose database is a file in which deleted rows could still be read."""

    def erase(self, session: Session) -> None:
        """Write the file anew without them."""


def count_rows(dialect: Dialect, customers: Sequence[str]) -> dict[str, int]:
    """Count the rows of customers by table.

    Raises
    ------
    LoadError
        When nothing was ever loaded.
    """
    with dialect.reading() as session:
        tables = _tables(session) if session is not None else []
        if session is None or not read_ledger(session):
            raise nothing_loaded(dialect.target)
        return {
            table.name: sum(session.count(table, condition) for condition in _conditions(table, customers, dialect))
            for table in tables
        }


def delete_rows(session: Session, customers: Sequence[str]) -> dict[str, int]:
    """Delete the rows of customers, and all staged rows; returns how many by table."""
    dialect = session.dialect
    drop_stages(session)  # of dead runs: the session is that of the only publisher
    with dialect.transaction(session.connection):
        tables = _tables(session)
        dialect.lock_tables(session, tables)
        rows = {
            table.name: sum(session.run(sa.delete(table).where(one)) for one in _conditions(table, customers, dialect))
            for table in tables
        }
        entries = read_ledger(session)
        taken = {name for name, count in rows.items() if count}
        write_ledger(session, entries, after_purge(entries, customers, taken))
        crash_point(f"{dialect.name}.unpurged")
    crash_point(f"{dialect.name}.purged")
    if isinstance(dialect, CanErase):
        dialect.erase(session)
    return rows


def _tables(session: Session) -> list[sa.Table]:
    """Return all tables of loads that have the column, in order of their names."""
    names = {name for entry in read_ledger(session) for name in entry.tables}
    existing = [found for name in sorted(names) if (found := session.dialect.find_table(session, name)) is not None]
    return [
        session.table(found.name, sa.Column(column.name, sa.Text, quote=True))
        for found in existing
        for column in found.columns
        if session.dialect.fold(column.name) == CUSTOMER
    ]


def _conditions(table: sa.Table, customers: Sequence[str], dialect: Dialect) -> list[sa.ColumnElement[bool]]:
    (column,) = table.columns
    text = collated(column, dialect.collation)
    bounds = range(0, len(customers), _IDS_A_STATEMENT)
    return [text.in_(customers[i : i + _IDS_A_STATEMENT]) for i in bounds]
