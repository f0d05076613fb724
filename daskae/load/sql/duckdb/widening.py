"""Types of DuckDB's columns, in place, in the transaction that publishes: one that fails leaves them as they were."""

from daskae.load.sql.ddl import quoted_name, quoted_table
from daskae.load.sql.dialect import Existing, FoundColumn, Session
from daskae.load.sql.digits import digits_of, has_beyond, wider_decimal
from daskae.load.sql.drift import Widening

_SMALL = {"TINYINT": 3, "UTINYINT": 3, "SMALLINT": 5, "USMALLINT": 5, "INTEGER": 10, "UINTEGER": 10}
_WHOLE = {**_SMALL, "BIGINT": 19, "UBIGINT": 20, "HUGEINT": 39}
_MOST_DIGITS = 38
LARGEST_WHOLE = 2**53
"""Whole numbers up to this are doubles too."""

# DuckDB refuses to alter a type where an index is on the table, or a foreign key leads to it, whatever the columns.
_HERE = "database_name = current_database() AND schema_name = current_schema()"
_OBSTACLES = f"""SELECT 'index ' || index_name FROM duckdb_indexes() WHERE {_HERE} AND table_name = $1
    UNION ALL SELECT 'a foreign key of table ' || table_name FROM duckdb_constraints()
        WHERE {_HERE} AND constraint_type = 'FOREIGN KEY' AND referenced_table = $1
    UNION ALL SELECT 'a ' || constraint_type || ' constraint' FROM duckdb_constraints()
        WHERE {_HERE} AND table_name = $1 AND constraint_type <> 'NOT NULL'
        AND list_contains(constraint_column_names, $2)
    UNION ALL SELECT 'the generated column ' || column_name FROM duckdb_columns()
        WHERE {_HERE} AND table_name = $1 AND is_generated AND contains(lower(column_default), lower($2))
    ORDER BY 1"""


def widen(session: Session, table: Existing, column: FoundColumn, wanted: str) -> Widening | None:
    """Say how a column comes to hold more; None where that is not safe."""
    kind = wider_type(column.type, wanted)
    if kind is None:
        return None
    found = list(session.connection.exec_driver_sql(_OBSTACLES, (table.name, column.name)).scalars())
    obstacle = f"these depend on its type: {', '.join(found)}" if found else ""
    large = kind == "DOUBLE" and column.type in _WHOLE.keys() - _SMALL.keys()
    if large and has_beyond(session, table.name, column.name, LARGEST_WHOLE):
        obstacle = f"it holds whole numbers beyond {LARGEST_WHOLE}"
    name, quoted = quoted_table(session.dialect, session.table(table.name)), quoted_name(session.dialect, column.name)
    return Widening(kind, (f"ALTER TABLE {name} ALTER COLUMN {quoted} TYPE {kind}",), obstacle)


def wider_type(found: str, wanted: str) -> str | None:
    """Return the type that holds all values of both, where the one can become it in place; None where none can."""
    if wanted == "BIGINT":
        return wanted if found in _SMALL else None
    if wanted == "DOUBLE":
        return wanted if found == "FLOAT" or found in _WHOLE else None
    if wanted == "TIMESTAMP":
        return wanted if found in ("DATE", "TIMESTAMP_S", "TIMESTAMP_MS") else None
    return wider_decimal(digits_of(wanted, {}), digits_of(found, _WHOLE), _MOST_DIGITS)
