"""What a PostgreSQL database says of its tables and indexes."""

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.sql.dialect import STAGE_PREFIX, Existing, FoundColumn

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "i": "an index", "S": "a sequence"}
_TABLE = """SELECT c.oid, c.relname, c.relkind, c.relispartition,
    pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE') AS own,
    EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.confrelid = c.oid) AS referenced
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n
    ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relname = :name"""
_COLUMNS = """SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
    a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required,
    a.attgenerated <> '' OR a.attidentity = 'a' AS computed FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_STAGES = """SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relkind = 'r' AND starts_with(c.relname, :prefix)
        AND pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE')"""
_INDEX = """SELECT a.attname FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid = x.indrelid JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.oid
    WHERE n.nspname = :schema AND t.relname = :table AND i.relname = :index ORDER BY a.attnum"""
_ACTS = """SELECT c.relhastriggers OR c.relhasrules OR c.relrowsecurity OR c.relkind <> 'r'
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :name"""

# What PostgreSQL refuses to follow a change of a column's type: views and rules, triggers and policies that name it,
# generated columns, functions; and foreign keys, whose other side may not compare with the new type.
_OBSTACLES = """SELECT CASE WHEN r.ev_class IS NOT NULL THEN 'view ' || r.ev_class::regclass::text
        ELSE pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) END AS what
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class t ON t.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
    LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    LEFT JOIN pg_catalog.pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_catalog.pg_constraint c ON d.classid = 'pg_constraint'::regclass AND c.oid = d.objid
    WHERE n.nspname = :schema AND t.relname = :table AND a.attname = :column
        AND (d.classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass,
            'pg_publication_rel'::regclass) OR f.adnum <> a.attnum OR c.contype = 'f')
    GROUP BY 1 ORDER BY 1"""


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
    columns = tuple(FoundColumn(row.attname, row.type, row.required, row.computed) for row in rows)
    fixed = "" if found.own else "it belongs to another role"
    if found.relispartition:
        fixed = "it is a partition of another table"
    return Existing(name, columns, fixed, found.referenced)


def find_stages(connection: sa.Connection, schema: str) -> list[str]:
    """List the staged tables that this role may drop."""
    return list(connection.execute(sa.text(_STAGES), {"schema": schema, "prefix": STAGE_PREFIX}).scalars())


def index_columns(connection: sa.Connection, schema: str, table: str, index: str) -> list[str]:
    """List the columns of an index of this table."""
    return list(connection.execute(sa.text(_INDEX), {"schema": schema, "table": table, "index": index}).scalars())


def acts_on_rows(connection: sa.Connection, schema: str, table: str) -> bool:
    """Tell whether triggers, rules, policies, foreign keys or partitions have a say in where a row goes."""
    return bool(connection.execute(sa.text(_ACTS), {"schema": schema, "name": table}).scalar_one_or_none())


def find_obstacle(connection: sa.Connection, schema: str, table: str, column: str) -> str:
    """Say what depends on the type of a column; nothing when it can be changed."""
    names = {"schema": schema, "table": table, "column": column}
    found = list(connection.execute(sa.text(_OBSTACLES), names).scalars())
    return f"these depend on its type: {', '.join(found)}" if found else ""
