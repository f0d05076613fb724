"""Tables and indexes where they cannot be made in the transaction that publishes: before it, and after it.

Some databases commit at every CREATE and ALTER. There the tables, the columns they lack and the index on the keys are
made first. Tables made for a load that fails are dropped again; columns that were added stay, empty. What has no index
yet, as rows that the load takes out are in its way, is proven unique by a query, and gets its index afterwards; a later
load makes up for an index that is missing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import sqlalchemy as sa

from daskae.load.base import Load, TableParts
from daskae.load.keys import SHOWN_KEYS, repeated_error
from daskae.load.sql.dialect import Session
from daskae.load.sql.drift import apply_plan, plan_table
from daskae.load.sql.ledger import LEDGER, create_or_extend_ledger
from daskae.load.sql.stage import Staged
from daskae.load.sql.strategies import repeated_keys
from daskae.load.sql.tables import ensure_key_index, has_key_index, key_columns


@contextmanager
def ddl_around(session: Session, load: Load, staged: Sequence[Staged]) -> Iterator[None]:
    """Make what the load needs, run the body, and make the indexes that had to wait; nothing where DDL can be in it."""
    if not session.dialect.ddl_around:
        yield
        return
    made: list[str] = []
    try:
        _make(session, load, staged, made)
        yield
    except BaseException:
        _take_back(session, made)
        raise
    for one in staged:
        # The load is published: an index must not make it look as if it were not.
        with suppress(sa.exc.DBAPIError, sa.exc.InvalidRequestError):
            _index_if_possible(session, load, one.parts)


def require_unique_keys(session: Session, target: sa.Table, parts: TableParts, load: Load) -> None:
    """Prove in the transaction that the keys are unique, where no index does.

    Raises
    ------
    LoadError
        Naming keys that more than one row has.
    """
    columns = key_columns(parts, load)
    if not columns or has_key_index(session, target, columns):
        return
    query = repeated_keys(target, parts.keys, SHOWN_KEYS)
    if load.strategy == "append":
        query = query.where(target.c[load.metadata.load_id or ""] == load.load_id)
    if found := session.connection.execute(query).all():
        raise repeated_error(parts, [tuple(row) for row in found])


def _make(session: Session, load: Load, staged: Sequence[Staged], made: list[str]) -> None:
    dialect = session.dialect
    if dialect.find_table(session, LEDGER) is None:
        made.append(LEDGER)
    with dialect.transaction(session.connection):
        create_or_extend_ledger(session)
    for one in staged:
        if dialect.find_table(session, one.parts.name) is None:
            made.append(one.parts.name)
        with dialect.transaction(session.connection):
            apply_plan(session, plan_table(dialect, session, one.parts, load))
        _index_if_possible(session, load, one.parts)


def _take_back(session: Session, made: Sequence[str]) -> None:
    """Drop the tables that were made for nothing, as far as the connection still allows it."""
    with suppress(sa.exc.DBAPIError, sa.exc.InvalidRequestError):
        for name in made:
            table = session.table(name)
            # Somebody else may have put rows into it meanwhile.
            if session.dialect.find_table(session, name) is None or session.count(table):
                continue
            with session.dialect.transaction(session.connection):
                table.drop(session.connection, checkfirst=False)


def _index_if_possible(session: Session, load: Load, parts: TableParts) -> None:
    """Make the unique index, unless rows are in its way."""
    dialect = session.dialect
    columns = key_columns(parts, load)
    if not dialect.has_key_indexes:
        return
    with dialect.transaction(session.connection):
        target = plan_table(dialect, session, parts, load).table
        if has_key_index(session, target, columns) or (columns and _repeated(session, target, columns)):
            return
    with dialect.transaction(session.connection):
        ensure_key_index(session, target, columns)


def _repeated(session: Session, target: sa.Table, columns: Sequence[str]) -> bool:
    return session.connection.execute(repeated_keys(target, tuple(columns), 1)).first() is not None
