"""As much of a SQLAlchemy dialect as statements of this package need, on DuckDB's own driver.

The dialect that is published for DuckDB fails with SQLAlchemy 2.1 where it looks tables up; nothing is looked up here.
Every statement commits by itself unless it stands between ``BEGIN`` and ``COMMIT``; SQLAlchemy's own begin and commit
do nothing.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import duckdb
import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.engine import default
from sqlalchemy.sql import compiler

URL = "duckdb+daskae://"


class Cursor:
    """A cursor on the transaction of its connection; DuckDB's own cursors begin one of theirs."""

    def __init__(self, plain: "duckdb.DuckDBPyConnection") -> None:
        self._plain = plain
        self.description: Sequence[Any] | None = None
        self.rowcount = -1
        self.lastrowid = None
        self.arraysize = 1

    def execute(self, statement: str, values: Sequence[Any] | None = None) -> None:
        """Run a statement; one that changes rows leaves their number in ``rowcount`` and nothing to fetch."""
        if ";" in statement and len(self._plain.extract_statements(statement)) > 1:
            raise duckdb.InvalidInputException("only one statement at a time is allowed")  # the driver would run all
        self._plain.execute(statement, values or None)
        self.description, self.rowcount = self._plain.description, -1
        verb = statement.lstrip()[:6].upper()
        if verb in ("INSERT", "UPDATE", "DELETE"):
            rows = self._plain.fetchall()
            self.description, self.rowcount = None, int(rows[0][0]) if rows else 0

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each row of values."""
        self._plain.executemany(statement, rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        """Fetch the next row."""
        row: tuple[Any, ...] | None = self._plain.fetchone()
        return row

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Fetch the next few rows."""
        rows: list[tuple[Any, ...]] = self._plain.fetchmany(size or self.arraysize)
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Fetch the other rows."""
        rows: list[tuple[Any, ...]] = self._plain.fetchall()
        return rows

    def close(self) -> None:
        """Do nothing: the result goes with the next statement."""


class Connection:
    """A connection as SQLAlchemy wants one."""

    def __init__(self, plain: "duckdb.DuckDBPyConnection") -> None:
        self.plain = plain

    def cursor(self) -> Cursor:
        """Make a cursor on the same transaction."""
        return Cursor(self.plain)

    def commit(self) -> None:
        """Do nothing: statements commit by themselves."""

    def rollback(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Close the connection; what is not committed is gone."""
        self.plain.close()


class _Compiler(compiler.SQLCompiler):
    def update_from_clause(
        self, update_stmt: Any, from_table: Any, extra_froms: Any, from_hints: Any, **kw: Any
    ) -> str:
        tables = (table._compiler_dispatch(self, asfrom=True, fromhints=from_hints, **kw) for table in extra_froms)
        return "FROM " + ", ".join(tables)


class _Types(compiler.GenericTypeCompiler):
    """Names of types as the catalogue shows them."""

    def visit_TEXT(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        return "VARCHAR"

    def visit_NUMERIC(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        return f"DECIMAL({type_.precision},{type_.scale})"


class DuckdbEngine(default.DefaultDialect):
    """DuckDB for SQLAlchemy, as far as this package needs it."""

    name = "duckdb"
    driver = "daskae"
    default_paramstyle = "qmark"
    supports_statement_cache = True
    supports_native_boolean = True
    supports_native_decimal = True
    supports_default_values = True
    supports_sane_rowcount = True
    supports_sane_multi_rowcount = False
    postfetch_lastrowid = False
    statement_compiler = _Compiler
    type_compiler_cls = _Types

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Return the driver, whose exceptions these are."""
        module: ModuleType = duckdb
        return module


registry.register("duckdb.daskae", __name__, "DuckdbEngine")


def make_engine(path: str) -> sa.Engine:
    """Make an engine for a database file, without a pool."""
    return sa.create_engine(
        URL, creator=lambda: Connection(duckdb.connect(path)), poolclass=sa.NullPool, paramstyle="qmark"
    )
