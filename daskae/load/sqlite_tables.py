"""Tables in SQLite: how ours are declared, what an existing one may differ in, and the unique index on the keys.

A table that exists stays the very same object through every load, so views, triggers and indexes that others hung on it
keep working. All names go through SQLAlchemy's identifier quoting or are bound as values; none is spliced into SQL.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateColumn, CreateTable

from daskae.errors import LoadError
from daskae.load.base import METADATA_COLUMNS, Strategy, TableParts
from daskae.load.sqlite_values import sql_type

STAGE_PREFIX = "_daskae_stage_"
_METADATA_TYPES: dict[str, sa.types.TypeEngine[Any]] = dict(
    zip(METADATA_COLUMNS, (sa.TEXT(), sa.TIMESTAMP(), sa.INTEGER()), strict=True)
)
_RESERVED = ("sqlite_", "_daskae_")
_DIALECT = sqlite.dialect()

quote = _DIALECT.identifier_preparer.quote_identifier


@dataclass(frozen=True)
class Existing:
    """A table as the database has it."""

    name: str
    columns: tuple[sa.Row[Any], ...]
    """Rows of ``table_xinfo``: name, type, notnull, dflt_value, pk, hidden."""

    def has(self, name: str) -> bool:
        """Tell whether there is such a column, as SQLite compares names."""
        return any(_fold(column.name) == _fold(name) for column in self.columns)


def declare(parts: TableParts, name: str, metadata: bool = True) -> sa.Table:
    """Describe the table that ``parts`` makes, the metadata columns last unless it is for staging."""
    columns: list[sa.Column[Any]] = [
        sa.Column(field.name, sql_type(field, parts.name), nullable=field.name not in parts.keys, quote=True)
        for field in parts.schema
    ]
    columns += [sa.Column(column, kind) for column, kind in _METADATA_TYPES.items() if metadata]
    return sa.Table(name, sa.MetaData(), *columns, quote=True)


def find_table(connection: sa.Connection, name: str) -> Existing | None:
    """Look a table up in the catalogue.

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
    columns = connection.exec_driver_sql(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)', (found.name,)
    )
    return Existing(found.name, tuple(columns))


def check_declaration(parts: TableParts) -> sa.Table:
    """Check that SQLite can have such a table; return how it is declared.

    Raises
    ------
    LoadError
        For a reserved name, or a column of a type that SQLite has no place for.
    """
    if parts.name.lower().startswith(_RESERVED):
        raise LoadError(
            "a table has a reserved name",
            where=f"table {parts.name}",
            allowed=f"a name that does not start with {' or '.join(_RESERVED)}",
        )
    return declare(parts, parts.name)


def check_table(connection: sa.Connection, parts: TableParts) -> None:
    """Check that the target can take a table: its name, its types, and the existing table if there is one.

    Raises
    ------
    LoadError
        Saying everything that is in the way.
    """
    where = f"table {parts.name}"
    wanted = check_declaration(parts)
    existing = find_table(connection, parts.name)
    if existing is None:
        return
    if differences := _differences(existing, wanted):
        raise LoadError(
            "the table in the database does not fit the result",
            where=where,
            got="; ".join(differences),
            hint="rename or drop that table, or choose another target",
        )
    if not existing.has("_load_id") and _has_rows(connection, existing.name):
        raise LoadError(
            "the table holds rows that daskae did not put there",
            where=where,
            got="rows, but no column _load_id",
            hint="rename, empty or drop that table, or choose another target",
        )


def create_or_extend(connection: sa.Connection, parts: TableParts) -> Existing:
    """Create the table, or add the columns it lacks; return it as it is then."""
    wanted = declare(parts, parts.name)
    existing = find_table(connection, parts.name)
    if existing is None:
        connection.execute(CreateTable(wanted))
    else:
        for column in wanted.columns:
            if not existing.has(column.name):
                added = sa.Column(column.name, column.type, quote=True)  # old rows have no value, so it takes nulls
                text = CreateColumn(added).compile(dialect=_DIALECT)
                connection.exec_driver_sql(f"ALTER TABLE {quote(existing.name)} ADD COLUMN {text}")
    found = find_table(connection, parts.name)
    assert found is not None
    return found


def key_columns(parts: TableParts, strategy: Strategy) -> list[str]:
    """Return the columns that tell rows apart: the keys, and the load where several loads share the table."""
    if not parts.keys:
        return []
    return [*parts.keys, "_load_id"] if strategy == "append" else list(parts.keys)


def drop_key_index(connection: sa.Connection, parts: TableParts) -> None:
    """Remove our unique index, if it is there."""
    connection.exec_driver_sql(f"DROP INDEX IF EXISTS {quote(_index_name(parts.name))}")


def ensure_key_index(connection: sa.Connection, parts: TableParts, strategy: Strategy) -> None:
    """Make our unique index cover exactly the columns of the strategy."""
    columns = key_columns(parts, strategy)
    index = _index_name(parts.name)
    query = """SELECT info.name FROM sqlite_master AS found, pragma_index_info(found.name) AS info
        WHERE found.type = 'index' AND found.name = ? AND found.tbl_name = ? COLLATE NOCASE ORDER BY info.seqno"""
    if connection.exec_driver_sql(query, (index, parts.name)).scalars().all() == columns:
        return
    drop_key_index(connection, parts)
    if columns:
        listed = ", ".join(map(quote, columns))
        connection.exec_driver_sql(f"CREATE UNIQUE INDEX {quote(index)} ON {quote(parts.name)} ({listed})")


def _fold(name: str) -> bytes:
    return name.encode().lower()  # SQLite ignores the case of ASCII letters only


def _index_name(table: str) -> str:
    return f"_daskae_key_{table}"


def _has_rows(connection: sa.Connection, name: str) -> bool:
    return connection.exec_driver_sql(f"SELECT 1 FROM {quote(name)} LIMIT 1").first() is not None


def _differences(existing: Existing, wanted: sa.Table) -> list[str]:
    by_name = {_fold(column.name): column for column in existing.columns}
    differences = []
    for column in wanted.columns:
        declared = column.type.compile(_DIALECT)
        found = by_name.pop(_fold(column.name), None)
        if found is None:
            continue
        if found.hidden:
            differences.append(f"column {column.name} is computed by the database")
        elif found.type.upper() != declared:
            differences.append(f"column {column.name} is {found.type or 'without a type'}, not {declared}")
    differences += [
        f"column {found.name} is NOT NULL without a default, and the result has no such column"
        for found in by_name.values()
        if found.notnull and found.dflt_value is None and not _is_row_number(found)
    ]
    return differences


def _is_row_number(column: sa.Row[Any]) -> bool:
    return bool(column.pk) and column.type.upper() == "INTEGER"
