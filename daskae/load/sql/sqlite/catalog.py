"""What a SQLite database says of its tables and indexes."""

import sqlite3

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.sql.dialect import STAGE_PREFIX, Existing, FoundColumn

_LISTS_TABLES = (3, 37)  # since this version SQLite says which tables are strict; before, there are none


def fold(name: str) -> str:
    """Lower the ASCII letters: SQLite ignores the case of no others."""
    return name.encode().lower().decode()


def find_table(connection: sa.Connection, name: str) -> Existing | None:
    """Look a table up.

    Raises
    ------
    LoadError
        When the name belongs to a view.
    """
    query = "SELECT name, type FROM sqlite_master WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')"
    found = connection.exec_driver_sql(query, (name,)).one_or_none()
    if found is None:
        return None
    if found.type == "view":
        raise LoadError(
            "the name of an output table belongs to a view", where=f"view {name}", hint="rename or drop the view"
        )
    rows = connection.exec_driver_sql(
        'SELECT name, type, "notnull" AS needed, dflt_value, pk, hidden FROM pragma_table_xinfo(?)', (found.name,)
    )
    columns = []
    for row in rows:
        row_number = bool(row.pk) and row.type.upper() == "INTEGER"
        required = bool(row.needed) and row.dflt_value is None and not row_number
        columns.append(FoundColumn(row.name, row.type, required, bool(row.hidden)))
    return Existing(found.name, tuple(columns), _why_fixed(connection, found.name))


def _why_fixed(connection: sa.Connection, name: str) -> str:
    if sqlite3.sqlite_version_info < _LISTS_TABLES:
        return ""
    query = "SELECT type, strict FROM pragma_table_list(?) WHERE schema = 'main'"
    kind, strict = connection.exec_driver_sql(query, (name,)).one()
    return "it is a STRICT table" if strict else "" if kind == "table" else f"it is a {kind} table"


def affinity(declared: str) -> str:
    """Return how a column of a declared type stores values, by SQLite's own rule."""
    kind = declared.upper()
    for name, parts in (("INTEGER", ("INT",)), ("TEXT", ("CHAR", "CLOB", "TEXT")), ("BLOB", ("BLOB",))):
        if any(part in kind for part in parts):
            return name
    if not kind:
        return "BLOB"
    return "REAL" if any(part in kind for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def accepts(found: str, wanted: str) -> bool:
    """Tell whether a column of one declared type stores and compares all values of another one as that does."""
    found = found.upper()
    decimal = found.startswith(("NUMERIC", "DECIMAL"))
    if wanted in ("TEXT", "REAL"):
        return affinity(found) == wanted
    if wanted == "INTEGER":
        return affinity(found) == wanted or decimal
    if wanted == "NUMERIC":
        return decimal
    return found == wanted or (wanted, found) == ("TIMESTAMP", "DATETIME")


def find_stages(connection: sa.Connection) -> list[str]:
    """List the staged tables."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ?"
    return list(connection.exec_driver_sql(query, (len(STAGE_PREFIX), STAGE_PREFIX)).scalars())


def index_columns(connection: sa.Connection, table: str, index: str) -> list[str]:
    """List the columns of an index of this table."""
    query = """SELECT info.name FROM sqlite_master AS found, pragma_index_info(found.name) AS info
        WHERE found.type = 'index' AND found.name = ? AND found.tbl_name = ? COLLATE NOCASE ORDER BY info.seqno"""
    return list(connection.exec_driver_sql(query, (index, table)).scalars())


def has_triggers(connection: sa.Connection, table: str) -> bool:
    """Tell whether anything happens when rows of a table change."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
    return bool(connection.exec_driver_sql(query, (table,)).scalar_one())
