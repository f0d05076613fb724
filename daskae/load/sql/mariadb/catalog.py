"""What a MariaDB database says of its tables and indexes."""

import re
from typing import Any

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.sql.dialect import STAGE_PREFIX, Existing, FoundColumn
from daskae.load.sql.digits import digits_of, holds

# The catalogue compares names without regard to case, also where tables are told apart by it.
_TABLE = """SELECT table_name AS name, table_type AS kind, @@lower_case_table_names AS folds
    FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = :name"""
_REFERENCED = """SELECT 1 FROM information_schema.key_column_usage WHERE referenced_table_schema = DATABASE()
    AND referenced_table_name = :name LIMIT 1"""
_COLUMNS = """SELECT column_name AS name, column_type AS type, collation_name AS collation,
    is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto_increment%' AS required,
    extra LIKE '%GENERATED%' AND extra NOT LIKE '%DEFAULT_GENERATED%' AS computed
    FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = :name
    AND CAST(table_name AS BINARY) = CAST(:name AS BINARY) ORDER BY ordinal_position"""
_STAGES = """SELECT table_name FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' AND LEFT(table_name, :size) = :prefix"""
_INDEX = """SELECT column_name FROM information_schema.statistics WHERE table_schema = DATABASE()
    AND table_name = :table AND CAST(table_name AS BINARY) = CAST(:table AS BINARY)
    AND index_name = :index AND non_unique = 0 AND sub_part IS NULL ORDER BY seq_in_index"""

_TEXT = re.compile(r"(longtext|varchar\((\d+)\)) collate (\S+)")
_SAME = {"bool": "tinyint(1)", "bigint": "bigint(20)"}  # MariaDB shows a width, MySQL shows none but for booleans


def find_table(connection: sa.Connection, name: str) -> Existing | None:
    """Look a table up.

    Raises
    ------
    LoadError
        When the name belongs to a view or a sequence.
    """
    candidates = connection.execute(sa.text(_TABLE), {"name": name}).all()
    found = next((row for row in candidates if row.name == name or row.folds), None)
    if found is None:
        return None
    if found.kind not in ("BASE TABLE", "SYSTEM VERSIONED"):
        kind = str(found.kind).lower()
        raise LoadError(f"the name of an output table belongs to a {kind}", f"{kind} {name}", hint="rename or drop it")
    rows = connection.execute(sa.text(_COLUMNS), {"name": found.name})
    columns = (FoundColumn(row.name, _full_type(row), bool(row.required), bool(row.computed)) for row in rows)
    referenced = connection.execute(sa.text(_REFERENCED), {"name": found.name}).first() is not None
    return Existing(found.name, tuple(columns), referenced=referenced)


def _full_type(row: "sa.Row[Any]") -> str:
    return f"{row.type} collate {row.collation}" if row.collation else str(row.type)


def find_stages(connection: sa.Connection) -> list[str]:
    """List the staged tables."""
    return list(connection.execute(sa.text(_STAGES), {"size": len(STAGE_PREFIX), "prefix": STAGE_PREFIX}).scalars())


def index_columns(connection: sa.Connection, table: str, index: str) -> list[str]:
    """List the columns of a unique index of this table."""
    return list(connection.execute(sa.text(_INDEX), {"table": table, "index": index}).scalars())


def accepts(found: str, wanted: str) -> bool:
    """Tell whether a column of one type can hold every value of another one, and compares texts by code points."""
    found, wanted = found.lower(), wanted.lower()
    if holds(digits_of(found, {}), digits_of(wanted, {})):
        return True
    ours, theirs = _TEXT.fullmatch(wanted), _TEXT.fullmatch(found)
    if ours and theirs:
        indexable = theirs[2] is not None or ours[2] is None  # a text that is too long is refused, not cut
        return ours[3] == theirs[3] and indexable
    return _SAME.get(found, found) == _SAME.get(wanted, wanted)
