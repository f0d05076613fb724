"""One way to look into every kind of target, as its users would."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import fsspec
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from daskae.load.base import METADATA_COLUMNS, Sink
from daskae.load.ledger import Entry
from daskae.load.parquet.remote import Manifest
from daskae.load.sql.duckdb.dialect import DuckdbDialect
from daskae.load.targets import open_sink


@dataclass(frozen=True)
class Database:
    """A database of one test, empty at first."""

    name: str
    url: str
    """What a user gives to ``--to``."""
    plain_url: str
    """What SQLAlchemy takes."""

    @property
    def ddl_around(self) -> bool:
        """Whether tables are made before the transaction that fills them."""
        return self.name in ("mariadb", "portable")

    @property
    def ours_by_index(self) -> bool:
        """Whether an index on the keys shows whose rows are; where it does, there are savepoints, too."""
        return self.name not in ("duckdb", "portable")

    def can_name(self, name: str) -> bool:
        """Whether it can have a table or a column of this name."""
        return self.name != "mariadb" or (not name[-1].isspace() and max(name) < "\U00010000")

    def sink(self, timeout: float = 30.0) -> Sink:
        return open_sink(self.url, timeout)

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        """Open a connection in which each statement commits by itself."""
        if self.name == "duckdb":
            with DuckdbDialect(sa.make_url(self.url), 30.0).connecting() as connection:
                yield connection
            return
        arguments = {"check_same_thread": False} if self.plain_url.startswith("sqlite") else {}
        engine = sa.create_engine(
            self.plain_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool, connect_args=arguments
        )
        with engine.connect() as connection:
            yield connection

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(sql)]

    def run(self, *statements: str) -> None:
        with self.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def names(self) -> set[str]:
        """Names of all tables."""
        with self.connect() as connection:
            if self.name == "duckdb":
                return set(connection.exec_driver_sql("SELECT table_name FROM duckdb_tables()").scalars())
            return set(sa.inspect(connection).get_table_names())

    def rows(self, table: str, metadata: bool = False) -> list[dict[str, Any]]:
        """Read a table, every value in the form that both databases have in common, in order of all its cells."""
        mark = "`" if self.name == "mariadb" else '"'
        quoted = mark + table.replace(mark, 2 * mark) + mark
        with self.connect() as connection:
            sql = f"SELECT * FROM {quoted}"
            doubled = self.name in ("postgresql", "mariadb")
            result = connection.exec_driver_sql(sql.replace("%", "%%") if doubled else sql)
            rows = [dict(row) for row in result.mappings()]
        hidden = () if metadata else METADATA_COLUMNS
        # SQLAlchemy's times have a fraction on SQLite, zero or not.
        zero = ".000000" if self.name == "portable" else ""
        found = [{name: plain_value(value, zero) for name, value in row.items() if name not in hidden} for row in rows]
        return sorted(found, key=repr)

    def ledger(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT sequence, substr(load_id, 1, 1), strategy, status FROM _daskae_loads ORDER BY 1")


def plain_value(value: object, zero: str = "") -> object:
    if isinstance(value, str):
        return value.removesuffix(zero)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal | float | int):
        return Decimal(repr(value) if isinstance(value, float) else value).normalize()
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return value.isoformat() if isinstance(value, date) else value


@contextmanager
def database_of_its_own(url: str, name: str) -> Iterator[Database]:
    """Make an empty database on a MariaDB server, and drop it afterwards."""
    server = sa.make_url(url).set(database=None)
    # The server may have been killed in between, so each step has a connection of its own.
    engine = sa.create_engine(server.set(drivername="mysql+pymysql"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET latin1")
    mine = server.set(database=name)
    plain = mine.set(drivername="mysql+pymysql", query={"charset": "utf8mb4"})
    yield Database("mariadb", *(found.render_as_string(hide_password=False) for found in (mine, plain)))
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}")


@contextmanager
def schema_of_its_own(url: str, name: str) -> Iterator[Database]:
    """Make an empty schema in a PostgreSQL database, and drop it afterwards."""
    # The server may have been killed in between, so each step has a connection of its own.
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    yield Database("postgresql", f"{url}?schema={name}", f"{url.replace('postgresql:', 'postgresql+psycopg:')}"
        f"?options=-csearch_path%3D{name}")  # fmt: skip
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@dataclass(frozen=True)
class Folder:
    """A target of Parquet files, to be looked into as a database is."""

    url: str
    name: str = "parquet"

    def sink(self, timeout: float = 30.0) -> Sink:
        return open_sink(self.url, timeout)

    def names(self) -> set[str]:
        """Names of all tables."""
        files, root = fsspec.url_to_fs(self.url)
        found = files.ls(root, detail=False) if files.exists(root) else []
        return {path.rstrip("/").rpartition("/")[2] for path in found} - {".daskae", "_daskae"}

    def files(self, table: str) -> list[str]:
        """Paths of the files of a table, as a plain reader lists them."""
        files, root = fsspec.url_to_fs(self.url)
        found: list[str] = sorted(files.glob(f"{root}/{table}/**/*.parquet"))
        return found

    def rows(self, table: str, metadata: bool = False) -> list[dict[str, Any]]:
        """Read a table as :meth:`Database.rows` does."""
        files, _ = fsspec.url_to_fs(self.url)
        tables = [pq.read_table(BytesIO(files.cat_file(path))) for path in self.files(table)]
        hidden = () if metadata else METADATA_COLUMNS
        rows = pa.concat_tables(tables).to_pylist() if tables else []
        found = [{name: plain_value(value) for name, value in row.items() if name not in hidden} for row in rows]
        return sorted(found, key=repr)

    def ledger(self) -> list[tuple[Any, ...]]:
        return [(entry.sequence, entry.load_id[:1], entry.strategy, entry.status) for entry in self.entries()]

    def entries(self) -> list[Entry]:
        """The ledger as it is."""
        files, root = fsspec.url_to_fs(self.url)
        if files.exists(f"{root}/_daskae/manifest.json"):
            return Manifest.from_json(files.cat_file(f"{root}/_daskae/manifest.json")).loads
        lines = files.cat_file(f"{root}/.daskae/current/ledger.jsonl").decode().splitlines()
        return [Entry.from_json(line) for line in lines]


Target = Database | Folder
