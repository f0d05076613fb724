"""What a DuckDB database says of its tables."""

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.sql.dialect import STAGE_PREFIX, Existing, FoundColumn
from daskae.load.sql.digits import digits_of, holds

_HERE = "database_name = current_database() AND schema_name = current_schema()"
_OTHERS = f"SELECT view_name FROM duckdb_views() WHERE {_HERE} AND lower(view_name) = lower(?) AND NOT internal"
_TABLE = f"SELECT table_name FROM duckdb_tables() WHERE {_HERE} AND lower(table_name) = lower(?)"
_COLUMNS = f"""SELECT column_name, data_type, NOT is_nullable AND column_default IS NULL AS required, is_generated
    FROM duckdb_columns() WHERE {_HERE} AND table_name = ? ORDER BY column_index"""
_STAGES = f"SELECT table_name FROM duckdb_tables() WHERE {_HERE} AND starts_with(table_name, ?)"


def find_table(connection: sa.Connection, name: str) -> Existing | None:
    """Look a table up.

    Raises
    ------
    LoadError
        When the name belongs to a view.
    """
    if connection.exec_driver_sql(_OTHERS, (name,)).first() is not None:
        raise LoadError(
            "the name of an output table belongs to a view", where=f"view {name}", hint="rename or drop the view"
        )
    found = connection.exec_driver_sql(_TABLE, (name,)).scalar_one_or_none()
    if found is None:
        return None
    rows = connection.exec_driver_sql(_COLUMNS, (found,)).all()
    return Existing(found, tuple(FoundColumn(row[0], row[1], bool(row[2]), bool(row[3])) for row in rows))


def find_stages(connection: sa.Connection) -> list[str]:
    """List the staged tables."""
    return list(connection.exec_driver_sql(_STAGES, (STAGE_PREFIX,)).scalars())


def accepts(found: str, wanted: str) -> bool:
    """Tell whether a column of one type can hold every value of another one."""
    return found == wanted or holds(digits_of(found, {}), digits_of(wanted, {}))
