"""The contenders: each gets its rows ready in the form that suits it best, then loads them in the time that counts.

Money goes to SQLite as floats in all but daskae, since the others' drivers take no decimals there.
"""

import importlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa

from benchmarks.loaders.customers import TABLE, read_table

MONEY = ("total_revenue", "realized_ltv")


@dataclass(frozen=True)
class Task:
    """One load into an empty database."""

    url: str
    """As SQLAlchemy takes it."""
    parts: Path
    rows: int

    @property
    def is_sqlite(self) -> bool:
        """Whether the target is a SQLite file."""
        return self.url.startswith("sqlite")

    @property
    def plain_url(self) -> str:
        """The URL without a driver, as PostgreSQL's own library takes it."""
        return self.url.replace("+psycopg", "")

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return Path(self.url.removeprefix("sqlite:///"))

    def table(self) -> pa.Table:
        """Read the rows."""
        return read_table(self.parts)


@dataclass(frozen=True)
class Ready:
    """A load that only has to be started."""

    load: Callable[[], object]
    steps: Callable[[], Mapping[str, float]] = field(default=dict)
    """Where the time went, in seconds, once it is over."""


def with_floats(table: pa.Table, task: Task) -> pa.Table:
    """Turn money into floats for SQLite."""
    for name in MONEY if task.is_sqlite else ():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.float64()))
    return table


def sql_columns(task: Task) -> dict[str, sa.types.TypeEngine[Any]]:
    """Choose the types that a careful user would declare."""
    types: dict[str, sa.types.TypeEngine[Any]] = {}
    for column in task.table().schema:
        kind = column.type
        if pa.types.is_decimal(kind):
            types[column.name] = sa.REAL() if task.is_sqlite else sa.NUMERIC(38, 4)
        elif pa.types.is_floating(kind):
            types[column.name] = sa.DOUBLE_PRECISION()
        elif pa.types.is_integer(kind):
            types[column.name] = sa.BIGINT()
        elif pa.types.is_boolean(kind):
            types[column.name] = sa.BOOLEAN()
        elif pa.types.is_timestamp(kind):
            types[column.name] = sa.TIMESTAMP()
        else:
            types[column.name] = sa.DATE() if pa.types.is_date(kind) else sa.TEXT()
    return types


def sql_table(task: Task) -> sa.Table:
    """Declare the table."""
    return sa.Table(TABLE, sa.MetaData(), *(sa.Column(name, kind) for name, kind in sql_columns(task).items()))


def pandas(task: Task, method: Any = None) -> Ready:
    """``DataFrame.to_sql`` with its defaults."""
    frame, types = with_floats(task.table(), task).to_pandas(), sql_columns(task)
    engine = sa.create_engine(task.url, poolclass=sa.NullPool)
    size = {"chunksize": 30_000 // len(types)} if method else {}  # no more than the values that a statement may have
    return Ready(lambda: frame.to_sql(TABLE, engine, index=False, dtype=types, method=method, **size))


def pandas_multi(task: Task) -> Ready:
    """``DataFrame.to_sql(method="multi")``, in statements as large as the database takes."""
    return pandas(task, "multi")


def dask(task: Task) -> Ready:
    """``dask.dataframe``'s ``to_sql`` with its defaults: one partition after another."""
    import dask.dataframe

    table, types = with_floats(task.table(), task), sql_columns(task)
    if task.is_sqlite:  # dask makes dates of Arrow's own, which SQLAlchemy refuses here
        number, types["cohort_month"] = table.column_names.index("cohort_month"), sa.TEXT()
        table = table.set_column(number, "cohort_month", table["cohort_month"].cast(pa.string()))
    frame = dask.dataframe.from_pandas(table.to_pandas(), npartitions=4)
    return Ready(lambda: frame.to_sql(TABLE, task.url, index=False, dtype=types))


def sqlalchemy(task: Task) -> Ready:
    """An INSERT with a list of dictionaries, which are made beforehand."""
    rows, table = with_floats(task.table(), task).to_pylist(), sql_table(task)
    engine = sa.create_engine(task.url, poolclass=sa.NullPool)

    def load() -> None:
        with engine.begin() as connection:
            table.create(connection)
            connection.execute(sa.insert(table), rows)

    return Ready(load)


def adbc(task: Task) -> Ready:
    """``adbc_ingest`` of Arrow data."""
    dbapi = importlib.import_module(f"adbc_driver_{'sqlite' if task.is_sqlite else 'postgresql'}.dbapi")
    table = with_floats(task.table(), task)

    def load() -> None:
        with dbapi.connect(str(task.file) if task.is_sqlite else task.plain_url) as connection:
            with connection.cursor() as cursor:
                cursor.adbc_ingest(TABLE, table, mode="create")
            connection.commit()

    return Ready(load)


def dlt(task: Task) -> Ready:
    """A pipeline that takes an Arrow table and replaces."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt as tool

    make = tool.destinations.sqlalchemy if task.is_sqlite else tool.destinations.postgres
    folder = tempfile.mkdtemp(prefix="daskae-dlt-")
    name = "main" if task.is_sqlite else "public"
    pipeline = tool.pipeline("bench", folder, destination=make(credentials=task.plain_url), dataset_name=name)
    table = with_floats(task.table(), task)
    return Ready(lambda: pipeline.run(table, table_name=TABLE, write_disposition="replace").raise_on_failed_jobs())


def copy_floor(task: Task) -> Ready:
    """COPY of a file that is there: no checks, no index, no second table."""
    import psycopg

    columns = task.table()
    path = Path(tempfile.mkdtemp(prefix="daskae-copy-")) / "rows.txt"
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    pyarrow.csv.write_csv(columns, path, options)
    names, create = ", ".join(columns.column_names), str(sa.schema.CreateTable(sql_table(task)))

    def load() -> None:
        with psycopg.connect(task.plain_url) as connection, connection.cursor() as cursor, path.open("rb") as file:
            cursor.execute(create.encode())
            with cursor.copy(f"COPY {TABLE} ({names}) FROM STDIN (NULL '')".encode()) as copy:
                while block := file.read(1 << 20):
                    copy.write(block)

    return Ready(load)


def executemany_floor(task: Task, journal: str = "DELETE") -> Ready:
    """``executemany`` of tuples that are there, in one transaction: no checks, no index, no second table."""
    import sqlite3

    table = with_floats(task.table(), task)
    for column in table.schema:
        if pa.types.is_temporal(column.type):
            kind = pa.timestamp("s") if pa.types.is_timestamp(column.type) else column.type
            texts = table[column.name].cast(kind).cast(pa.string())
            table = table.set_column(table.column_names.index(column.name), column.name, texts)
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    create = str(sa.schema.CreateTable(sql_table(task)))
    insert = f"INSERT INTO {TABLE} VALUES ({', '.join('?' * table.num_columns)})"

    def load() -> None:
        with closing(sqlite3.connect(task.file)) as connection, connection:
            connection.execute(f"PRAGMA journal_mode = {journal}")
            connection.execute(create)
            connection.executemany(insert, rows)

    return Ready(load)


def executemany_wal_floor(task: Task) -> Ready:
    """The same into a database with write-ahead logging, as daskae makes it so that readers never wait."""
    return executemany_floor(task, "WAL")


def timed(ready: Ready) -> dict[str, Any]:
    """Start a load and measure it."""
    wall, cpu = time.perf_counter(), time.process_time()
    ready.load()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu_seconds": cpu, "steps": dict(ready.steps())}
