"""A database table or query as partitions by ranges of an integer key.

A segment names the database without its password; the task finds the password where SQLAlchemy drivers look for it (a
``.pgpass`` file, the driver's environment variables) or in ``DASKAE_DATABASE_URL`` on the worker, which may hold
several URLs, one a line. A database has no content id that could be known without reading it, so its segments are read
in every run.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl
import sqlalchemy as sa

from daskae.batch import Batch, RowNumbers, Span
from daskae.config import InputSettings
from daskae.errors import InputError, InputLostError, SettingsError
from daskae.partition import Segment
from daskae.read.parquet import as_json
from daskae.silence import LOOK, SILENT, first_connection, first_limits, patience, watched

BATCH_ROWS = 50_000
ROW_BYTES = 100
"""What a row is taken to weigh, where nothing but the number of rows is known."""
PATIENCE_SECONDS = 30.0
"""How long a server may take to answer somebody who comes; what a statement may take is not limited."""
URL_VARIABLE = "DASKAE_DATABASE_URL"

_secret_urls: dict[str, str] = {}
"""URLs with their passwords that this process was given, by the form that may be shown."""


def is_database_url(text: str) -> bool:
    """Whether an input names a database: ``sqlite:///shop.db``, ``postgresql+psycopg://…``."""
    scheme = text.partition("://")[0].partition("+")[0]
    return "://" in text and scheme in ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql", "duckdb")


def list_segments(url: str, settings: InputSettings) -> list[Segment]:
    """Cut a table or query into key ranges of equal width.

    How many bytes a segment has is an estimate: the rows are counted and spread evenly over the ranges, at 100 bytes
    a row.

    Raises
    ------
    SettingsError
        If neither ``input.table`` nor ``input.query`` is set.
    InputError
        If the database, the table or the key cannot be read.
    """
    with _connected(url) as connection:
        source = _source(settings, [], connection.dialect)
        columns = tuple(connection.execute(sa.select(sa.text("*")).select_from(source).limit(0)).keys())
        rows = connection.execute(sa.select(sa.func.count()).select_from(source)).scalar_one()
        ranges = [(0, 0)] if settings.key is None else _key_ranges(connection, settings, settings.key)
    shown = _remembered(url)
    label, nbytes = settings.table or "query", -(-rows * ROW_BYTES // max(1, len(ranges)))
    return [
        Segment(shown, label, "sql", low, high, nbytes, secrets.token_hex(16), columns, _definition(settings))
        for low, high in ranges
    ]


def _shown(url: str) -> str:
    """Return a URL without its password.

    Raises
    ------
    InputError
        If it cannot be read; nothing of it is shown, as nobody knows where its password is.
    """
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except (sa.exc.SQLAlchemyError, ValueError):
        scheme, found, _ = url.partition("://")
        raise InputError(
            "a database URL cannot be read", f"{scheme}://…" if found else "a text without ://",
            allowed="driver://user:password@host/database", hint="write @, : and / in a password as %40, %3A and %2F",
        ) from None  # fmt: skip


def _remembered(url: str) -> str:
    """Return a URL without its password, and keep the password for tasks of this process and of its workers."""
    shown = _shown(url)
    if shown != url:
        _secret_urls[shown] = url
        os.environ[URL_VARIABLE] = "\n".join(_secret_urls.values())
    return shown


def _with_password(shown: str) -> str:
    """Return the URL behind the one of a segment: the one known here, or the same where drivers find the password."""
    if shown in _secret_urls:
        return _secret_urls[shown]
    given = os.environ.get(URL_VARIABLE, "").split("\n")
    return next((url for url in given if url and _shown(url) == shown), shown)


def _key_ranges(connection: sa.Connection, settings: InputSettings, name: str) -> list[tuple[int, int]]:
    source = _source(settings, [name], connection.dialect)
    (key,) = source.c
    low, high = connection.execute(sa.select(sa.func.min(key), sa.func.max(key))).one()
    return [] if low is None else _ranges(low, high, settings)


def _ranges(low: object, high: object, settings: InputSettings) -> list[tuple[int, int]]:
    if not isinstance(low, int) or not isinstance(high, int):
        raise SettingsError(
            "the key of a table must be an integer column", "input.key", str(settings.key), type(low).__name__
        )
    width = max(1, -(-(high - low + 1) // settings.partitions))
    return [(start, min(start + width, high + 1)) for start in range(low, high + 1, width)]


def _definition(settings: InputSettings) -> str:
    """What a task needs to rebuild the statement, kept in the segment's identity."""
    return json.dumps({"table": settings.table, "query": settings.query, "key": settings.key})


def _source(settings: InputSettings, columns: Sequence[str], dialect: sa.Dialect) -> sa.FromClause:
    """Return the table or query with some columns, under the name ``source``.

    Its columns are written with that name before them: SQLite takes a quoted name that is no column for a text.
    """
    named: list[sa.ColumnClause[Any]] = [sa.column(_quoted(name, dialect)) for name in dict.fromkeys(columns)]
    if settings.table is not None:
        schema, _, name = settings.table.rpartition(".")
        table = sa.table(_quoted(name, dialect), *named, schema=_quoted(schema, dialect) if schema else None)
        return table.alias("source")
    if settings.query is not None:
        return sa.text(settings.query.strip().rstrip(";")).columns(*named).subquery("source")
    raise SettingsError("a database input needs a table or a query", "input.table", hint='set [input] table = "orders"')


def _quoted(name: str, dialect: sa.Dialect) -> str:
    """Return a name that is quoted even where SQLAlchemy does not know it for a word of SQL.

    Not where names are kept in capitals (Oracle): in quotes, ``orders`` would be another name than ``ORDERS``.
    """
    return name if dialect.requires_name_normalize else sa.sql.quoted_name(name, True)


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    """Open a connection whose failures become InputErrors that hold no password, and whose silence has an end."""
    shown = _shown(url)
    engine = _engine(url, shown)
    try:
        connection = _connection(engine, shown)
        # Closing the connection says something to the server, too.
        with watched(engine, connection, shown, PATIENCE_SECONDS, InputLostError), connection:
            yield connection
    except InputLostError as error:
        raise error from None
    except sa.exc.SQLAlchemyError as error:
        got = str(error.__cause__ or error)[:200]
        if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
            raise InputLostError("the connection to the database was lost", shown, got, hint=LOOK) from None
        raise InputError("a database cannot be read", shown, got) from None
    finally:
        engine.dispose()


def _engine(url: str, shown: str) -> sa.Engine:
    try:
        limits = first_limits(sa.make_url(url), PATIENCE_SECONDS)
        return sa.create_engine(url, poolclass=sa.NullPool, connect_args=limits)
    except (ImportError, sa.exc.SQLAlchemyError) as error:
        raise InputError(
            "a database's driver cannot be loaded", shown, str(error)[:200],
            hint="install the driver, or name an installed one as in postgresql+psycopg://…",
        ) from None  # fmt: skip


def _connection(engine: sa.Engine, shown: str) -> sa.Connection:
    began = time.monotonic()
    try:
        connection: sa.Connection = first_connection(engine, shown, PATIENCE_SECONDS, InputLostError)
        return connection
    except sa.exc.SQLAlchemyError as error:
        got = str(error.__cause__ or error)[:200]
        if time.monotonic() - began > 0.9 * patience(PATIENCE_SECONDS):
            raise InputLostError(SILENT, shown, got, hint=LOOK) from None
        raise InputError("a database cannot be reached", shown, got) from None


def read_batches(segment: Segment, index: int, columns: Sequence[str]) -> Iterator[Batch]:
    """Read some columns of a key range, rows in key order."""
    with _connected(_with_password(segment.path)) as connection:
        statement = _statement(segment, columns, connection.dialect)
        with connection.execution_options(stream_results=True).execute(statement) as result:
            for rows in result.partitions(BATCH_ROWS):
                cells = pl.DataFrame(
                    [tuple(row) for row in rows], schema=list(columns), orient="row", infer_schema_length=None
                )
                yield Batch(cells, cells.height, _RawRows(cells), (Span(index, cells.height),))


def _statement(segment: Segment, columns: Sequence[str], dialect: sa.Dialect) -> Any:
    settings = InputSettings(**json.loads(segment.identity))
    keys = [] if settings.key is None else [settings.key]
    source = _source(settings, [*columns, *keys], dialect)
    statement = sa.select(*(source.c[name] for name in columns)).select_from(source)
    for key in (source.c[name] for name in keys):
        statement = statement.where(key >= segment.start, key < segment.end).order_by(key)
    return statement


class _RawRows:
    """Rows of a batch as JSON."""

    def __init__(self, cells: pl.DataFrame) -> None:
        self._cells = cells

    def __call__(self, rows: RowNumbers) -> tuple[pl.Series, pl.Series]:
        """Return (JSON texts, no offsets) of the rows with these indices."""
        texts = [as_json(row) for row in self._cells[rows].iter_rows(named=True)]
        return pl.Series(texts, dtype=pl.String), pl.repeat(None, len(texts), dtype=pl.Int64, eager=True)
