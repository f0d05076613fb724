"""What a user needs in PostgreSQL: to make staged tables, to lock and fill the targets, and to write the ledger."""

from collections.abc import Iterable

import sqlalchemy as sa

from daskae.load.base import Load
from daskae.load.sql.ledger import LEDGER
from daskae.load.sql.postgresql.catalog import find_table

_NEEDED = {
    "replace": ("SELECT", "INSERT", "DELETE"),
    "append": ("SELECT", "INSERT", "DELETE"),  # takes out rows of a load that is there in part
    "upsert": ("SELECT", "INSERT", "UPDATE"),
    "merge": ("SELECT", "INSERT", "UPDATE"),
}
_SCHEMA = "SELECT pg_catalog.has_schema_privilege(:schema, 'CREATE')"
_TABLE = """SELECT pg_catalog.has_table_privilege(c.oid, :right) FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relname = :name"""


def missing_rights(connection: sa.Connection, schema: str, load: Load) -> list[str]:
    """Say in words which rights a load needs and the user has not."""
    missing = []
    if not connection.execute(sa.text(_SCHEMA), {"schema": schema}).scalar_one():
        missing.append(f"no CREATE on schema {schema}")
    needed = [*_NEEDED[load.strategy]]
    if load.strategy == "merge" and load.options.on_missing == "delete":
        needed.append("DELETE")
    tables = [(parts.name, [*needed, *_beyond(connection, schema, parts.name, load)]) for parts in load.tables]
    for name, rights in [*tables, (LEDGER, _NEEDED["upsert"])]:
        if lacking := _lacking(connection, schema, name, rights):
            missing.append(f"no {', '.join(lacking)} on table {name}")
    return missing


def _beyond(connection: sa.Connection, schema: str, name: str, load: Load) -> list[str]:
    """List further rights: rows that others refer to are changed in place by a replace."""
    if load.strategy != "replace":
        return []
    existing = find_table(connection, schema, name)
    return ["UPDATE"] if existing is not None and existing.referenced else []


def _lacking(connection: sa.Connection, schema: str, name: str, rights: Iterable[str]) -> list[str]:
    """List rights that the user has not on a table; none where there is no such table yet."""
    names = {"schema": schema, "name": name}
    asked = ((right, connection.execute(sa.text(_TABLE), {**names, "right": right}).scalar()) for right in rights)
    return [right for right, has in asked if has is False]
