"""Statements that shape tables, as texts: what a dry run prints is what a load executes."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from daskae.load.sql.dialect import Dialect, Session

_DOUBLING = ("format", "pyformat")  # styles of parameters in which a percent sign is written twice


def statement_text(dialect: Dialect, element: sa.schema.ExecutableDDLElement | sa.schema.CreateColumn) -> str:
    """Write a statement of SQLAlchemy's as the database reads it."""
    text = str(element.compile(dialect=dialect.compiler))
    if dialect.compiler.paramstyle in _DOUBLING:
        text = text.replace("%%", "%")
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def run_statements(session: Session, statements: Iterable[str]) -> None:
    """Execute statements as :func:`statement_text` writes them."""
    doubling = session.connection.dialect.paramstyle in _DOUBLING
    for text in statements:
        session.connection.exec_driver_sql(text.replace("%", "%%") if doubling else text)


def create_table(dialect: Dialect, table: sa.Table) -> tuple[str, ...]:
    """Say how a table and its indexes are made."""
    indexes = [statement_text(dialect, sa.schema.CreateIndex(index)) for index in table.indexes]
    return (statement_text(dialect, sa.schema.CreateTable(table)), *indexes)


def add_column(dialect: Dialect, table: sa.Table, column: sa.Column[Any]) -> str:
    """Say how a column is added; what is declared as its default holds for the old rows too."""
    declared = statement_text(dialect, sa.schema.CreateColumn(column))
    return f"ALTER TABLE {quoted_table(dialect, table)} ADD COLUMN {declared}"


def quoted_table(dialect: Dialect, table: sa.Table) -> str:
    """Quote the name of a table, with its schema."""
    text = dialect.compiler.identifier_preparer.format_table(table)
    return text.replace("%%", "%") if dialect.compiler.paramstyle in _DOUBLING else text


def quoted_name(dialect: Dialect, name: str) -> str:
    """Quote a name."""
    text = dialect.compiler.identifier_preparer.quote_identifier(name)
    return text.replace("%%", "%") if dialect.compiler.paramstyle in _DOUBLING else text
