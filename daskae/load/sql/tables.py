"""Output tables: how they are declared, what an existing one may differ in, and the unique index on the keys.

A table that exists stays the very same object through every load, so views, grants, triggers and indexes that others
hung on it keep working.
"""

from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.base import FLAG_COLUMNS, METADATA_COLUMNS, Load, TableParts
from daskae.load.sql.dialect import RESERVED_PREFIX, Dialect, Existing, Session
from daskae.load.sql.ledger import add_column

_SHOWN_COLUMNS = 8


def declare(session: Session, parts: TableParts, load: Load, name: str, flags: bool = False) -> sa.Table:
    """Describe the table that ``parts`` makes, the metadata columns behind its own."""
    columns = data_columns(session.dialect, parts, load)
    columns += _metadata_columns(session.dialect, flags)
    return session.table(name, *columns)


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
    _check_options(load)


def find_flags(existing: Existing | None, dialect: Dialect) -> bool:
    """Tell whether a table marks rows that left the source."""
    names = {dialect.fold(column.name) for column in existing.columns} if existing else set()
    return names.issuperset(FLAG_COLUMNS)


def wants_flags(load: Load) -> bool:
    """Tell whether a load marks rows that left the source."""
    return load.strategy == "merge" and load.options.on_missing == "flag"


def check_table(session: Session, parts: TableParts, load: Load) -> None:
    """Check that the target can take a table, when there is one of this name.

    Raises
    ------
    LoadError
        Saying everything that is in the way.
    """
    where = f"table {parts.name}"
    dialect = session.dialect
    existing = dialect.find_table(session, parts.name)
    if existing is None:
        return
    flags = wants_flags(load) or find_flags(existing, dialect)
    if differences := _differences(dialect, existing, declare(session, parts, load, existing.name, flags)):
        raise LoadError(
            "the table in the database does not fit the result",
            where=where,
            got="; ".join(differences),
            hint="rename or drop that table, or choose another target",
        )
    known = any(dialect.fold(column.name) == "_load_id" for column in existing.columns)
    if not known and _has_rows(session, existing.name):
        raise LoadError(
            "the table holds rows that daskae did not put there",
            where=where,
            got="rows, but no column _load_id",
            hint="rename, empty or drop that table, or choose another target",
        )


def create_or_extend(session: Session, parts: TableParts, load: Load) -> sa.Table:
    """Create the table, or add the columns it lacks; return it as it is then."""
    dialect = session.dialect
    existing = dialect.find_table(session, parts.name)
    flags = wants_flags(load) or find_flags(existing, dialect)
    table = declare(session, parts, load, existing.name if existing else parts.name, flags)
    if existing is None:
        table.create(session.connection, checkfirst=False)
        return table
    found = {dialect.fold(column.name) for column in existing.columns}
    for column in table.columns:
        if dialect.fold(column.name) not in found:
            column.nullable = True  # old rows have no value
            add_column(session, table, column)
    return table


def key_columns(parts: TableParts, load: Load) -> list[str]:
    """Return the columns that tell rows apart: the keys, and the load where several loads share the table."""
    if not parts.keys:
        return []
    return [*parts.keys, "_load_id"] if load.strategy == "append" else list(parts.keys)


def drop_key_index(session: Session, table: sa.Table) -> None:
    """Remove our unique index, if it is there; where names are the schema's, also from a table that was renamed."""
    name = session.dialect.index_name(table.name)
    by_table = session.dialect.has_indexes_by_table
    if by_table and not session.dialect.index_columns(session, table.name, name):
        return
    index = sa.Index(sa.quoted_name(name, True), table.c[0])
    session.connection.execute(sa.schema.DropIndex(index, if_exists=not by_table))


def has_key_index(session: Session, table: sa.Table, columns: list[str]) -> bool:
    """Tell whether our unique index covers exactly these columns."""
    index = session.dialect.index_name(table.name)
    return session.dialect.index_columns(session, table.name, index) == columns


def ensure_key_index(session: Session, table: sa.Table, columns: list[str]) -> None:
    """Make our unique index cover exactly these columns."""
    if has_key_index(session, table, columns):
        return
    drop_key_index(session, table)
    if columns:
        name = sa.quoted_name(session.dialect.index_name(table.name), True)
        index = sa.Index(name, *(table.c[column] for column in columns), unique=True)
        session.connection.execute(sa.schema.CreateIndex(index))


def _metadata_columns(dialect: Dialect, flags: bool) -> list[sa.Column[Any]]:
    def column(name: str, kind: pa.DataType, default: sa.ColumnElement[bool] | None = None) -> sa.Column[Any]:
        declared = dialect.column_type(pa.field(name, kind), "", indexed=name == "_load_id")
        return sa.Column(name, declared, server_default=default, quote=True)

    columns = list(map(column, METADATA_COLUMNS, (pa.string(), pa.timestamp("us"), pa.int64())))
    if flags:
        active, since = FLAG_COLUMNS
        columns += [column(active, pa.bool_(), sa.true()), column(since, pa.timestamp("us"))]
    return columns


def _check_column_name(name: str, where: str, load: Load) -> None:
    if name.lower().startswith(RESERVED_PREFIX) or (wants_flags(load) and name.lower() in FLAG_COLUMNS):
        raise LoadError("a column has a reserved name", where, hint="rename the column")


def _check_options(load: Load) -> None:
    options = load.options
    if load.strategy in ("upsert", "merge"):
        for parts in load.tables:
            if not parts.keys:
                what = f"an {load.strategy}" if load.strategy == "upsert" else f"a {load.strategy}"
                raise LoadError(f"{what} needs keys, and a table has none", f"table {parts.name}")
    names = dict.fromkeys(name for parts in load.tables for name in parts.schema.names)
    keys = {key for parts in load.tables for key in parts.keys}
    allowed = ", ".join(list(names)[:_SHOWN_COLUMNS]) + (" ..." if len(names) > _SHOWN_COLUMNS else "")
    for column in options.update_columns:
        if column not in names or column in keys:
            raise LoadError(
                "a column to update is not a column of any table, or is a key", "[load] update_columns", column, allowed
            )
    if options.only_if_newer and options.only_if_newer not in names:
        raise LoadError("no table has the column", "[load] only_if_newer", options.only_if_newer, allowed)
    if options.duplicates not in ("error", "first", "last") and options.duplicates not in names:
        raise LoadError(
            "no table has the column", "[load] duplicates", options.duplicates, f"error, first, last, {allowed}"
        )


def _has_rows(session: Session, name: str) -> bool:
    table = session.table(name)
    return session.connection.execute(sa.select(1).select_from(table).limit(1)).first() is not None


def _differences(dialect: Dialect, existing: Existing, wanted: sa.Table) -> list[str]:
    by_name = {dialect.fold(column.name): column for column in existing.columns}
    differences = []
    for column in wanted.columns:
        found = by_name.pop(dialect.fold(column.name), None)
        if found is None:
            continue
        if found.computed:
            differences.append(f"column {column.name} is computed by the database")
        elif not dialect.accepts(found.type, column.type):
            kind = column.type.compile(dialect.compiler)
            differences.append(f"column {column.name} is {found.type or 'without a type'}, not {kind}")
    differences += [
        f"column {found.name} is NOT NULL without a default, and the result has no such column"
        for found in by_name.values()
        if found.required
    ]
    return differences
