"""What a DuckDB database says of its tables and indexes."""

import re

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.sql.dialect import STAGE_PREFIX, Existing, FoundColumn

_HERE = "database_name = current_database() AND schema_name = current_schema()"
_OTHERS = f"SELECT view_name FROM duckdb_views() WHERE {_HERE} AND lower(view_name) = lower(?) AND NOT internal"
_TABLE = f"SELECT table_name FROM duckdb_tables() WHERE {_HERE} AND lower(table_name) = lower(?)"
_COLUMNS = f"""SELECT column_name, data_type, NOT is_nullable AND column_default IS NULL AS required, is_generated
    FROM duckdb_columns() WHERE {_HERE} AND table_name = ? ORDER BY column_index"""
_STAGES = f"SELECT table_name FROM duckdb_tables() WHERE {_HERE} AND starts_with(table_name, ?)"
_INDEX = f"SELECT sql FROM duckdb_indexes() WHERE {_HERE} AND table_name = ? AND index_name = ? AND is_unique"
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


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


def index_columns(connection: sa.Connection, table: str, index: str) -> list[str]:
    """List the columns of a unique index of this table, from its statement: the catalogue lists expressions only."""
    sql = connection.exec_driver_sql(_INDEX, (table, index)).scalar_one_or_none()
    return parse_index_columns(sql) if sql else []


def parse_index_columns(sql: str) -> list[str]:
    """Read the columns out of ``CREATE UNIQUE INDEX name ON table(a, "b c");``, the list in the last parentheses."""
    words = [(found[1], found[2]) for found in re.finditer(r'("(?:[^"]|"")*"|[^\s,()"]+)|([(),])', sql)]
    start = max(place for place, (_, mark) in enumerate(words) if mark == "(")
    names = [word for word, mark in words[start:] if word and word != ";"]
    return [name[1:-1].replace('""', '"') if name.startswith('"') else name for name in names]


def accepts(found: str, wanted: str) -> bool:
    """Tell whether a column of one type can hold every value of another one."""
    ours, theirs = _DECIMAL.fullmatch(wanted), _DECIMAL.fullmatch(found)
    if ours and theirs:
        digits, scale, room, places = int(ours[1]), int(ours[2]), int(theirs[1]), int(theirs[2])
        return places >= scale and room - places >= digits - scale
    return found == wanted
