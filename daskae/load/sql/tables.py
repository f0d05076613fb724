"""Output tables: how they are declared, and the unique index on the keys; :mod:`.drift` compares them with what exists.

A table that exists stays the very same object through every load, so views, grants, triggers and indexes that others
hung on it keep working.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.base import FLAG_COLUMNS, Load, TableParts
from daskae.load.checks import check_options, wants_flags
from daskae.load.shape import Metadata
from daskae.load.sql.ddl import run_statements, statement_text
from daskae.load.sql.dialect import RESERVED_PREFIX, Dialect, Existing, Session


def declare(
    dialect: Dialect,
    schema: str | None,
    parts: TableParts,
    load: Load,
    name: str,
    flags: bool = False,
    without: Sequence[str] = (),
    staged: bool = False,
) -> sa.Table:
    """Describe the table that ``parts`` makes, the metadata columns behind its own."""
    columns = [column for column in data_columns(dialect, parts, load, staged) if column.name not in without]
    columns += _metadata_columns(dialect, load.metadata, flags)
    return sa.Table(name, sa.MetaData(), *columns, schema=schema, quote=True, **dialect.table_options)


def data_columns(dialect: Dialect, parts: TableParts, load: Load, staged: bool = False) -> list[sa.Column[Any]]:
    """Declare the columns of the batch."""
    required = () if staged or load.options.null_keys == "match" else parts.keys
    return [
        sa.Column(
            field.name,
            dialect.column_type(field, parts.name, field.name in parts.keys),
            nullable=field.name not in required,
            quote=True,
        )
        for field in parts.schema
    ]


def check_declarations(dialect: Dialect, load: Load) -> None:
    """Check that the database can have such tables, and that the options fit them.

    Raises
    ------
    LoadError
        For a name it cannot hold, a type it has no place for, or an option that fits no table.
    """
    if load.metadata.load_id is None and not dialect.has_key_indexes:
        raise LoadError(
            f"{dialect.title} needs the column that says which load brought a row: no index shows whose the rows are",
            "[load] metadata",
            ", ".join(load.metadata.names) or "no columns",
            "_load_id among them, under any name",
        )
    for parts in load.tables:
        where = f"table {parts.name}"
        if parts.name.lower().startswith(dialect.reserved):
            allowed = f"a name that does not start with {' or '.join(dialect.reserved)}"
            raise LoadError("a table has a reserved name", where, allowed=allowed)
        dialect.check_name(parts.name, where)
        for name in parts.schema.names:
            _check_column_name(name, f"{where}, column {name}", load)
            dialect.check_name(name, f"{where}, column {name}")
        data_columns(dialect, parts, load)
        if parts.partition_by:
            raise LoadError(
                "a database has no folders",
                "[load] partition_by",
                ", ".join(parts.partition_by),
                hint="take it out, or write to a folder of Parquet files",
            )
        if load.metadata.load_id is None and not parts.keys:
            hint = "put _load_id into [load] metadata"
            raise LoadError(
                "a table without keys needs the column that says which load brought a row", where, hint=hint
            )
    for name in load.metadata.names:
        _check_column_name(name, f"[load] metadata, column {name}", load, FLAG_COLUMNS)
        dialect.check_name(name, f"[load] metadata, column {name}")
    check_options(load)


def find_flags(existing: Existing | None, dialect: Dialect) -> bool:
    """Tell whether a table marks rows that left the source."""
    names = {dialect.fold(column.name) for column in existing.columns} if existing else set()
    return names.issuperset(FLAG_COLUMNS)


def key_columns(parts: TableParts, load: Load) -> list[str]:
    """Return the columns that tell rows apart: the keys, and the load where several loads share the table."""
    if not parts.keys:
        return []
    return [*parts.keys, load.metadata.load_id or ""] if load.strategy == "append" else list(parts.keys)


def drop_key_index(session: Session, table: sa.Table) -> None:
    """Remove our unique index, if it is there; where names are the schema's, also from a table that was renamed."""
    run_statements(session, _drop_index(session, table))


def has_key_index(session: Session, table: sa.Table, columns: list[str]) -> bool:
    """Tell whether our unique index covers exactly these columns."""
    index = session.dialect.index_name(table.name)
    return session.dialect.index_columns(session, table.name, index) == columns


def ensure_key_index(session: Session, table: sa.Table, columns: list[str]) -> None:
    """Make our unique index cover exactly these columns."""
    run_statements(session, plan_key_index(session.dialect, session, table, columns))


def plan_key_index(
    dialect: Dialect, session: Session | None, table: sa.Table, columns: list[str], of: str = ""
) -> tuple[str, ...]:  # fmt: skip
    """Say how our unique index comes to cover exactly these columns; there may be no database yet.

    It is named after the table, or ``of`` the one that this will be.
    """
    if not dialect.has_key_indexes:
        return ()
    statements: list[str] = []
    name = dialect.index_name(of or table.name)
    if session is not None:
        found = dialect.index_columns(session, table.name, name)
        if found == columns:
            return ()
        # On SQLite an index of this name may hang on a table that was renamed.
        statements += _drop_index(session, table)
    if columns:
        keys = (table.c[column] for column in columns)
        index = sa.Index(sa.quoted_name(name, True), *keys, unique=True)
        statements.append(statement_text(dialect, sa.schema.CreateIndex(index)))
    return tuple(statements)


def _drop_index(session: Session, table: sa.Table) -> tuple[str, ...]:
    dialect = session.dialect
    name, by_table = dialect.index_name(table.name), dialect.has_indexes_by_table
    if by_table and not dialect.index_columns(session, table.name, name):
        return ()
    index = sa.Index(sa.quoted_name(name, True), table.c[0])
    return (statement_text(dialect, sa.schema.DropIndex(index, if_exists=not by_table)),)


def _metadata_columns(dialect: Dialect, metadata: Metadata, flags: bool) -> list[sa.Column[Any]]:
    def column(name: str, kind: pa.DataType, default: sa.ColumnElement[bool] | None = None) -> sa.Column[Any]:
        declared = dialect.column_type(pa.field(name, kind), "", indexed=name == metadata.load_id)
        return sa.Column(name, declared, server_default=default, quote=True)

    kinds = ((metadata.load_id, pa.string()), (metadata.loaded_at, pa.timestamp("us")))
    columns = [column(name, kind) for name, kind in (*kinds, (metadata.source_rows, pa.int64())) if name is not None]
    if flags:
        active, since = FLAG_COLUMNS
        columns += [column(active, pa.bool_(), sa.true()), column(since, pa.timestamp("us"))]
    return columns


def _check_column_name(name: str, where: str, load: Load, taken: Sequence[str] = ()) -> None:
    taken = FLAG_COLUMNS if wants_flags(load) else taken
    if name.lower().startswith(RESERVED_PREFIX) or name.lower() in taken:
        raise LoadError("a column has a reserved name", where, hint="rename the column")
