"""Declared types of a SQLite column, in place.

SQLite has no ALTER for this. Its documentation gives a way for changes that leave what is on the disk valid: to write
the new text of CREATE TABLE into the schema. That is so between types of one affinity, and for whole numbers that may
have fractions from now on: INTEGER and NUMERIC columns store the same, and a REAL column stores whole numbers of up to
48 bits as integers too. Indexes, views and triggers stay as they are.
"""

import re

import sqlalchemy as sa

from daskae.load.sql.dialect import STAGE_PREFIX, Existing, FoundColumn
from daskae.load.sql.drift import Widening
from daskae.load.sql.sqlite.catalog import affinity

LARGEST_WHOLE = 2**47 - 1
_TABLE = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?"


def widen(connection: sa.Connection, table: Existing, column: FoundColumn, wanted: str) -> Widening | None:
    """Say how a column comes to hold more; None where that is not safe."""
    days = column.type.upper() == "DATE" and wanted == "TIMESTAMP"
    whole = affinity(column.type) == "INTEGER" and wanted in ("NUMERIC", "REAL")
    if not (days or whole):
        return None
    sql = str(connection.exec_driver_sql(_TABLE, (table.name,)).scalar_one())
    place = find_declaration(sql, column)
    key = connection.exec_driver_sql(
        "SELECT pk FROM pragma_table_info(?) WHERE name = ?", (table.name, column.name)
    ).scalar_one()
    if not _may_edit(connection):
        return Widening(wanted, (), "this SQLite does not let the type of a column be changed")
    if place is None:
        return Widening(wanted, (), "its type cannot be found in the text of CREATE TABLE without doubt")
    if key:
        return Widening(wanted, (), "it is a primary key")
    if wanted == "REAL" and _has_beyond(connection, table.name, column.name):
        return Widening(wanted, (), f"it holds whole numbers beyond {LARGEST_WHOLE}")
    statements = []
    if days:
        if watched(connection, table.name):
            return Widening(wanted, (), "a trigger would run on every row that gets a time of day")
        name, quoted = _quoted(table.name), _quoted(column.name)
        statements = [f"UPDATE {name} SET {quoted} = {quoted} || ' 00:00:00' WHERE length({quoted}) = 10"]
    return Widening(wanted, (*statements, *_rewrite(table.name, *place, wanted)))


def find_declaration(sql: str, column: FoundColumn) -> tuple[str, str] | None:
    """Find a column in a CREATE TABLE: the text up to its type, and its type; None unless there is one such place."""
    words = r"\s+".join(map(re.escape, column.type.split()))
    spellings = {_quoted(column.name), f"[{column.name}]", f"`{column.name}`"}
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", column.name):
        spellings.add(column.name)
    names = "|".join(re.escape(name) for name in sorted(spellings))
    place = re.compile(rf"([(,]\s*(?:{names})\s+)({words})(?=\s*(?:[,)]|$|\s\w))", re.IGNORECASE)
    found = place.findall(sql)
    if len(found) != 1 or sql.count("".join(found[0])) != 1 or re.search(r"--|/\*|'", sql):
        return None
    return found[0][0], found[0][1]


def watched(connection: sa.Connection, table: str) -> bool:
    """Tell whether a trigger may run when rows of a table are updated."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
    return bool(connection.exec_driver_sql(query, (table,)).scalar_one())


def _rewrite(table: str, before: str, old: str, new: str) -> tuple[str, ...]:
    # Only this piece is replaced: other statements of the same plan change the text too.
    pieces = f"{_literal(before + old)}, {_literal(before + new)}"
    return (
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_master SET sql = replace(sql, {pieces}) WHERE type = 'table' AND name = {_literal(table)}",
        "PRAGMA writable_schema = RESET",
        # Any DDL makes the other connections read the schema again.
        f'CREATE VIEW "{STAGE_PREFIX}reload" AS SELECT 1',
        f'DROP VIEW "{STAGE_PREFIX}reload"',
    )


def _has_beyond(connection: sa.Connection, table: str, column: str) -> bool:
    query = f"SELECT 1 FROM {_quoted(table)} WHERE {_quoted(column)} NOT BETWEEN ? AND ? LIMIT 1"
    return connection.exec_driver_sql(query, (-LARGEST_WHOLE, LARGEST_WHOLE)).first() is not None


def _may_edit(connection: sa.Connection) -> bool:
    """Tell whether this build of SQLite lets its schema be edited; some are set not to."""
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    allowed = bool(connection.exec_driver_sql("PRAGMA writable_schema").scalar_one())
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
    return allowed


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
