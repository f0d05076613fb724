"""A database table or query as partitions by ranges of an integer key.

A segment names the database without its password; the task finds the password where SQLAlchemy drivers look for it (a
``.pgpass`` file, the driver's environment variables) or in ``DASKAE_DATABASE_URL`` on the worker. A database has no
content
id that could be known without reading it, so its segments are read in every run.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from daskae.batch import Batch, RowNumbers, Span
from daskae.config import InputSettings
from daskae.errors import InputError, SettingsError
from daskae.partition import Segment
from daskae.read.parquet import as_json

BATCH_ROWS = 50_000
URL_VARIABLE = "DASKAE_DATABASE_URL"


def is_database_url(text: str) -> bool:
    """Whether an input names a database: ``sqlite:///shop.db``, ``postgresql+psycopg://…``."""
    scheme = text.partition("://")[0].partition("+")[0]
    return "://" in text and scheme in ("sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql", "duckdb")


def list_segments(url: str, settings: InputSettings) -> list[Segment]:
    """Cut a table or query into key ranges of equal width.

    Raises
    ------
    SettingsError
        If neither ``input.table`` nor ``input.query`` is set.
    InputError
        If the database, the table or the key cannot be read.
    """
    source = _source(settings)
    shown = sa.make_url(url).render_as_string(hide_password=True)
    os.environ.setdefault(URL_VARIABLE, url)
    with _connected(url) as connection:
        columns = tuple(connection.execute(sa.select(sa.text("*")).select_from(source).limit(0)).keys())
        ranges: list[tuple[int, int]] = [(0, 0)]
        if settings.key is not None:
            key: Any = sa.column(settings.key)
            low, high = connection.execute(sa.select(sa.func.min(key), sa.func.max(key)).select_from(source)).one()
            if low is None:
                return []
            ranges = _ranges(low, high, settings)
    label = settings.table or "query"
    return [
        Segment(shown, label, "sql", low, high, 0, secrets.token_hex(16), columns, _definition(settings))
        for low, high in ranges
    ]


def _ranges(low: object, high: object, settings: InputSettings) -> list[tuple[int, int]]:
    if not isinstance(low, int) or not isinstance(high, int):
        raise SettingsError(
            "the key of a table must be an integer column", "input.key", str(settings.key), type(low).__name__
        )
    width = max(1, -(-(high - low + 1) // settings.partitions))
    return [(start, min(start + width, high + 1)) for start in range(low, high + 1, width)]


def _definition(settings: InputSettings) -> str:
    """What a task needs to rebuild the statement, kept in the segment's identity."""
    import json

    return json.dumps({"table": settings.table, "query": settings.query, "key": settings.key})


def _source(settings: InputSettings) -> Any:
    if settings.table is not None:
        schema, _, name = settings.table.rpartition(".")
        return sa.table(name, schema=schema or None)
    if settings.query is not None:
        return sa.text(f"({settings.query.strip().rstrip(';')}) AS source")
    raise SettingsError("a database input needs a table or a query", "input.table", hint='set [input] table = "orders"')


class _connected:  # noqa: N801
    """A connection whose failures become InputErrors that hold no password."""

    def __init__(self, url: str) -> None:
        self._shown = sa.make_url(url).render_as_string(hide_password=True)
        self._engine = sa.create_engine(url)

    def __enter__(self) -> sa.Connection:
        try:
            self._connection = self._engine.connect()
        except sa.exc.SQLAlchemyError as error:
            self._engine.dispose()
            raise InputError("a database cannot be reached", self._shown, str(error.__cause__ or error)[:200]) from None
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._connection.close()
        self._engine.dispose()
        if isinstance(error, sa.exc.SQLAlchemyError):
            raise InputError("a database cannot be read", self._shown, str(error.__cause__ or error)[:200]) from None


def read_batches(segment: Segment, index: int, columns: Sequence[str]) -> Iterator[Batch]:
    """Read some columns of a key range, rows in key order."""
    import json

    url = os.environ.get(URL_VARIABLE, segment.path)
    settings = InputSettings(**json.loads(segment.identity))
    key: Any = None if settings.key is None else sa.column(settings.key)
    statement: Any = sa.select(*(sa.column(name) for name in columns)).select_from(_source(settings))
    if key is not None:
        statement = statement.where(key >= segment.start, key < segment.end).order_by(key)
    with _connected(url) as connection:
        result = connection.execution_options(stream_results=True).execute(statement)
        for rows in result.partitions(BATCH_ROWS):
            cells = pl.DataFrame(
                [tuple(row) for row in rows], schema=list(columns), orient="row", infer_schema_length=None
            )
            yield Batch(cells, cells.height, _RawRows(cells), (Span(index, cells.height),))


class _RawRows:
    """Rows of a batch as JSON."""

    def __init__(self, cells: pl.DataFrame) -> None:
        self._cells = cells

    def __call__(self, rows: RowNumbers) -> tuple[pl.Series, pl.Series]:
        """Return (JSON texts, no offsets) of the rows with these indices."""
        texts = [as_json(row) for row in self._cells[rows].iter_rows(named=True)]
        return pl.Series(texts, dtype=pl.String), pl.repeat(None, len(texts), dtype=pl.Int64, eager=True)
