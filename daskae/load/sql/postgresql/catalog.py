"""What a PostgreSQL database says of its tables and indexes."""

import re

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.sql.dialect import STAGE_PREFIX, Existing, FoundColumn

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "i": "an index", "S": "a sequence"}
_TABLE = """SELECT c.oid, c.relname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n
    ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relname = :name"""
_COLUMNS = """SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
    a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required,
    a.attgenerated <> '' OR a.attidentity = 'a' AS computed FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_STAGES = """SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind = 'r' AND starts_with(c.relname, :prefix)"""
_INDEX = """SELECT a.attname FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid = x.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.oid
    WHERE n.nspname = :schema AND t.relname = :table AND i.relname = :index ORDER BY a.attnum"""

_NUMERIC = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?", re.IGNORECASE)
_TEXTS = ("text", "character varying")


def find_table(connection: sa.Connection, schema: str, name: str) -> Existing | None:
    """Look a table up.

    Raises
    ------
    LoadError
        When the name belongs to something else.
    """
    found = connection.execute(sa.text(_TABLE), {"schema": schema, "name": name}).one_or_none()
    if found is None:
        return None
    if found.relkind not in ("r", "p"):
        kind = _KINDS.get(found.relkind, "something else")
        raise LoadError(
            f"the name of an output table belongs to {kind}", where=f"{schema}.{name}", hint="rename or drop it"
        )
    rows = connection.execute(sa.text(_COLUMNS), {"oid": found.oid})
    return Existing(name, tuple(FoundColumn(row.attname, row.type, row.required, row.computed) for row in rows))


def find_stages(connection: sa.Connection, schema: str) -> list[str]:
    """List the staged tables."""
    return list(connection.execute(sa.text(_STAGES), {"schema": schema, "prefix": STAGE_PREFIX}).scalars())


def index_columns(connection: sa.Connection, schema: str, table: str, index: str) -> list[str]:
    """List the columns of an index of this table."""
    return list(connection.execute(sa.text(_INDEX), {"schema": schema, "table": table, "index": index}).scalars())


def accepts(found: str, wanted: str) -> bool:
    """Tell whether a column of one type can hold every value of another one."""
    found, wanted = found.lower(), wanted.lower().replace(", ", ",")
    if wanted == "text":
        return found in _TEXTS
    if wanted == "timestamp without time zone":
        return found in ("timestamp without time zone", "timestamp")
    ours, theirs = _NUMERIC.fullmatch(wanted), _NUMERIC.fullmatch(found)
    if ours and theirs:
        if theirs[1] is None:
            return True
        digits, scale, room, places = int(ours[1]), int(ours[2]), int(theirs[1]), int(theirs[2])
        return places >= scale and room - places >= digits - scale
    return found == wanted
