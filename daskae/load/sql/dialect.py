"""What differs between databases; all else in this package is the same for each of them."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

import pyarrow as pa
import sqlalchemy as sa

from daskae.load.base import TableParts

STAGE_PREFIX = "_daskae_stage_"
RESERVED_PREFIX = "_daskae_"
POSITION = "_daskae_row"
"""Column of a staged table: the number of the row among those that are staged, from 1."""


@dataclass(frozen=True)
class FoundColumn:
    """A column as the database has it."""

    name: str
    type: str
    required: bool
    """True where a row without a value is refused."""
    computed: bool


@dataclass(frozen=True)
class Existing:
    """A table as the database has it."""

    name: str
    columns: tuple[FoundColumn, ...]
    fixed: str = ""
    """Why its columns cannot be altered; empty when they can."""
    referenced: bool = False
    """Whether rows of other tables refer to its rows by a foreign key that is enforced."""


class Dialect(Protocol):
    """One database: how it connects, locks, stores and loads."""

    name: str
    """Short name, in crash points."""
    title: str
    """Name for people."""
    target: str
    """The URL without its password."""
    timeout: float
    """Seconds to wait for others."""
    compiler: sa.Dialect
    """SQLAlchemy's dialect, for quoting and for the names of types."""
    collation: str
    """Collation that compares texts by their code points; empty where none is needed or known."""
    stage_prefixes: tuple[str, ...]
    """Words between CREATE and TABLE of a staged table."""
    rebuilds_indexes: bool
    """Whether dropping an index keeps no reader waiting, so that a table that is filled anew gets its index last."""
    adopts: bool
    """Whether a staged table can take the name of a target that is not there yet, inside of a transaction."""
    ddl_around: bool
    """Whether tables and indexes are made before and after the transaction that publishes, not in it."""
    has_key_indexes: bool
    """Whether keys get a unique index; where they get none, a query proves that they are unique."""
    has_partial_indexes: bool
    has_indexes_by_table: bool
    """Whether each table has its own names of indexes."""
    has_update_from: bool
    """Whether the database knows UPDATE over two tables and IS DISTINCT FROM, in its own words."""
    has_savepoints: bool
    has_typed_nulls: bool
    """Whether CAST(NULL AS ...) takes every type of a column."""
    has_isolation_levels: bool
    """Whether the isolation level of a transaction can be set."""
    knows_isolation: bool
    """Whether it can be set, or is always the strictest that there is."""
    reserved: tuple[str, ...]
    """Beginnings of table names that are the database's own."""

    @property
    def table_options(self) -> Mapping[str, Any]:
        """SQLAlchemy's options of every table that is made."""

    def check_place(self) -> None:
        """Refuse a place that cannot be written, as far as can be seen without connecting."""

    def connecting(self) -> AbstractContextManager[sa.Connection]:
        """Connect, making what is missing, without any lock."""

    def reading(self) -> AbstractContextManager["Session | None"]:
        """Connect to look around; None when there is no database yet."""

    def publishing(self) -> AbstractContextManager["Session"]:
        """Connect as the only publisher, waiting for another one; whatever is staged then is a dead run's."""

    def transaction(self, connection: sa.Connection) -> AbstractContextManager[None]:
        """Commit at the end of the body; on any error nothing has happened."""

    def translated(self) -> AbstractContextManager[None]:
        """Turn the database's errors into :class:`~daskae.errors.LoadError`."""

    def is_lost(self, error: sa.exc.DBAPIError) -> bool:
        """Tell whether an error means that the connection is gone."""

    def column_type(self, field: pa.Field, table: str, indexed: bool = False) -> sa.types.TypeEngine[Any]:
        """Choose the type of a column, which may have to be one that an index takes; raise LoadError if none is."""

    def position_column(self) -> sa.Column[int]:
        """Declare the column :data:`POSITION`."""

    def moment(self, value: datetime) -> sa.BindParameter[Any]:
        """Write a moment as the database stores times."""

    def check_name(self, name: str, where: str) -> None:
        """Refuse a name that the database cannot hold."""

    def fold(self, name: str) -> str:
        """Return what two spellings of one column name have in common."""

    def accepts(self, found: str, wanted: sa.types.TypeEngine[Any]) -> bool:
        """Tell whether a column of an existing table can take what is wanted."""

    def find_table(self, session: "Session", name: str) -> Existing | None:
        """Look a table up in the catalogue; raise LoadError when the name belongs to something else."""

    def find_stages(self, session: "Session") -> list[str]:
        """List all staged tables, whoever left them."""

    def index_columns(self, session: "Session", table: str, index: str) -> list[str]:
        """List the columns of an index; none when there is no such index on the table."""

    def index_name(self, table: str) -> str:
        """Name the unique index on the keys."""

    def lock_tables(self, session: "Session", tables: list[sa.Table]) -> None:
        """Keep other writers out of existing tables until the transaction ends; readers are not disturbed."""

    def copy(
        self, session: "Session", table: sa.Table, parts: TableParts, batches: Iterator[pa.RecordBatch],
        marks: Mapping[str, sa.BindParameter[Any]],
    ) -> int:  # fmt: skip
        """Put rows into a table in bulk, ``marks`` into further columns of each; return how many arrived."""

    def adopt(self, session: "Session", stage: sa.Table, name: str, required: tuple[str, ...]) -> None:
        """Give a staged table its final name; some columns must have a value from then on."""

    def takes_rows_directly(self, session: "Session", name: str) -> bool:
        """Tell whether rows of a replace or an append may go into this target, or a new one, without being staged."""

    def exact_sum(
        self, session: "Session", column: sa.Column[Any], *where: sa.ColumnElement[bool]
    ) -> Decimal | None:  # fmt: skip
        """Add up whole numbers or decimals without rounding; None where the database cannot."""

    def prepare(self, session: "Session", stage: sa.Table, keys: tuple[str, ...]) -> None:
        """Make a filled staged table quick to compare by these keys."""


@dataclass(frozen=True)
class Session:
    """An open connection in which every statement commits by itself, outside of a transaction."""

    dialect: Dialect
    connection: sa.Connection
    schema: str | None
    """Schema that all names are in."""

    def run(self, statement: sa.Executable) -> int:
        """Execute a statement; return the rows it touched."""
        result = self.connection.execute(statement, execution_options={"preserve_rowcount": True})
        return int(result.rowcount)

    def count(self, table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
        """Count rows."""
        query = sa.select(sa.func.count()).select_from(table).where(*conditions)
        return int(self.connection.execute(query).scalar_one())

    def table(self, name: str, *columns: sa.Column[Any], prefixes: tuple[str, ...] = ()) -> sa.Table:
        """Describe a table of this schema."""
        options = self.dialect.table_options
        return sa.Table(name, sa.MetaData(), *columns, schema=self.schema, prefixes=[*prefixes], quote=True, **options)
