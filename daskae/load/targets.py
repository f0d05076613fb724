"""From the text after ``--to`` to the sink it means.

A database is a dialect and one line in ``_DATABASES``; all else that looks like a URL is a file system, or else any
database that SQLAlchemy knows.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec

from daskae.errors import SettingsError
from daskae.load.base import Sink
from daskae.load.failures import mask_secrets
from daskae.load.parquet.remote import RemoteParquetSink
from daskae.load.parquet.sink import ParquetSink

if TYPE_CHECKING:
    import sqlalchemy as sa

    from daskae.load.sql.dialect import Dialect

_SUPPORTED = (
    "sqlite:///file.db, duckdb:///file.duckdb, postgresql://user@host/database, mariadb://user@host/database,"
    " any other URL of SQLAlchemy, or a folder or an fsspec URL for Parquet (out/, s3://bucket/out)"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_PORTABLE = "portable+"
"""In front of a URL: use what every database of SQLAlchemy has, also where this one is known better."""
_READ_ONLY = ("http", "https")
_DATABASE_FILES = {".db": "sqlite", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".duckdb": "duckdb"}


def open_sink(url: str, timeout: float = 30.0) -> Sink:
    """Return the sink for a target.

    Parameters
    ----------
    url : str
        A SQLAlchemy URL (``sqlite:///metrics.db``), a folder, or an fsspec URL.
    timeout : float, default 30
        Seconds to wait when somebody else is writing to the target.

    Raises
    ------
    SettingsError
        When the text means no target, or one that is not supported. It shows no password.
    """
    found = _SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    if dialect := open_dialect(url, timeout):
        from daskae.load.sql.sink import SqlSink

        return SqlSink(dialect)
    if found is None or not found[2]:
        return _open_folder(url, timeout)
    if scheme in fsspec.available_protocols() and scheme not in _READ_ONLY:
        return _open_files(url, timeout)
    raise _refusal("this kind of target is not supported", url)


def open_dialect(url: str, timeout: float = 30.0) -> "Dialect | None":
    """Return the database that a target means; None when it is none.

    Raises
    ------
    SettingsError
        When it means one that cannot be used so. It shows no password.
    """
    scheme = url.partition(":")[0].lower() if _SCHEME.match(url) else ""
    if opened := _DATABASES.get(scheme.partition("+")[0]):
        return opened(url, timeout)
    files = scheme in _READ_ONLY or scheme in fsspec.available_protocols()
    return None if files or not url.startswith("://", len(scheme)) else _open_portable(url, timeout)


def _open_folder(path: str, timeout: float) -> Sink:
    if not path.strip():
        raise _refusal("the target is empty", path)
    if scheme := _DATABASE_FILES.get(Path(path).suffix.lower() if not path.endswith("/") else ""):
        raise _refusal(
            "the target looks like a database file, but a plain path means a folder of Parquet files",
            path,
            f"write {scheme}:///{path}, or {path}/ for a folder",
        )
    return ParquetSink(Path(path).expanduser(), timeout)


def _open_files(url: str, timeout: float) -> Sink:
    try:
        files, root = fsspec.url_to_fs(url)
    except Exception as error:  # each file system opens in its own way, and fails in its own way
        reason = mask_secrets(str(error)).partition("\n")[0]
        raise _refusal("the file system of the target cannot be opened", url, reason) from None
    if "file" in files.protocol:
        return ParquetSink(Path(root), timeout)
    return RemoteParquetSink(files, root, mask_secrets(url))


def _read_url(text: str, example: str) -> "sa.URL":
    import sqlalchemy as sa  # a fifth of a second that a run into files need not wait for

    try:
        return sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise _refusal("the database URL cannot be read", text, f"write {example}") from None


def _open_sqlite(text: str, timeout: float) -> "Dialect":
    from daskae.load.sql.sqlite.dialect import SqliteDialect

    url = _read_url(text, "sqlite:///metrics.db")
    _check_file_url(url, text, "SQLite", ("sqlite", "sqlite+pysqlite"), "metrics.db")
    return SqliteDialect(url, timeout)


def _open_duckdb(text: str, timeout: float) -> "Dialect":
    url = _read_url(text, "duckdb:///metrics.duckdb")
    _check_file_url(url, text, "DuckDB", ("duckdb",), "metrics.duckdb")
    with _driver("DuckDB", "duckdb", text):
        from daskae.load.sql.duckdb.dialect import DuckdbDialect
    return DuckdbDialect(url, timeout)


def _open_postgresql(text: str, timeout: float) -> "Dialect":
    url = _read_url(text, "postgresql://user@host/database")
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise _refusal("a PostgreSQL URL takes no other driver than psycopg", text, "write postgresql://…")
    with _driver("PostgreSQL", "postgresql", text):
        from daskae.load.sql.postgresql.dialect import PostgresqlDialect
    return PostgresqlDialect(url, timeout)


def _open_mariadb(text: str, timeout: float) -> "Dialect":
    example = "mariadb://user@host/database"
    url = _read_url(text, example)
    if url.drivername.partition("+")[2] not in ("", "pymysql"):
        raise _refusal("a MariaDB URL takes no other driver than PyMySQL", text, f"write {example}")
    if not url.database:
        raise _refusal("the URL names no database", text, f"write {example}")
    with _driver("MariaDB", "mariadb", text):
        from daskae.load.sql.mariadb.dialect import MariadbDialect
    return MariadbDialect(url, timeout)


def _open_portable(text: str, timeout: float) -> "Dialect | None":
    """Return what SQLAlchemy makes of any other URL; None when it knows no such database either."""
    import sqlalchemy as sa

    from daskae.load.sql.portable.dialect import PortableDialect

    url = _read_url(text.removeprefix(_PORTABLE), "a URL of SQLAlchemy")
    try:
        found = url.get_dialect()
    except sa.exc.NoSuchModuleError:
        return None
    if found.is_async:
        raise _refusal("a driver for asyncio cannot be used here", text, "name another driver of this database")
    try:
        return PortableDialect(url, timeout)
    except ImportError as error:
        raise _refusal("the database needs a driver that is not installed", text, f"install it ({error})") from None


@contextmanager
def _driver(title: str, extra: str, text: str) -> Iterator[None]:
    """Name the extra that brings a driver, when it cannot be imported."""
    try:
        yield
    except ImportError as error:
        hint = f"pip install 'daskae[{extra}]' ({error})"
        raise _refusal(f"{title} needs a driver that is not installed", text, hint) from None


def _check_file_url(url: "sa.URL", text: str, title: str, drivers: tuple[str, ...], file: str) -> None:
    scheme = drivers[0]
    if url.drivername not in drivers or url.query:
        raise _refusal(f"a {title} URL takes no other driver and no options", text, f"write {scheme}:///{file}")
    if url.host or not url.database or url.database == ":memory:":
        raise _refusal(
            f"the {title} URL names no file",
            text,
            f"write {scheme}:///{file} with three slashes, or {scheme}:////tmp/{file} for an absolute path",
        )


_DATABASES: dict[str, Callable[[str, float], "Dialect | None"]] = {
    "sqlite": _open_sqlite,
    "postgresql": _open_postgresql,
    "postgres": _open_postgresql,
    "mariadb": _open_mariadb,
    "mysql": _open_mariadb,
    "duckdb": _open_duckdb,
    "portable": _open_portable,
}


def _refusal(what: str, url: str, hint: str = "") -> SettingsError:
    return SettingsError(what, where="--to", got=mask_secrets(url), allowed=_SUPPORTED, hint=hint)
