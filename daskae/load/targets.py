"""From the text after ``--to`` to the sink it means.

A database is a dialect and one line in ``_DATABASES``; all else that looks like a URL is a file system.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec

from daskae.errors import SettingsError
from daskae.load.base import Sink
from daskae.load.failures import mask_secrets
from daskae.load.parquet.remote import RemoteParquetSink
from daskae.load.parquet.sink import ParquetSink

if TYPE_CHECKING:
    from daskae.load.sql.dialect import Dialect

_SUPPORTED = "sqlite:///file.db, postgresql://user@host/database, or a folder or an fsspec URL for Parquet (out/, s3://bucket/out)"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_READ_ONLY = ("http", "https")
_DATABASE_FILES = (".db", ".sqlite", ".sqlite3")


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
    opened = _DATABASES.get(scheme.partition("+")[0])
    return opened(url, timeout) if opened else None


def _open_folder(path: str, timeout: float) -> Sink:
    if not path.strip():
        raise _refusal("the target is empty", path)
    if path.lower().endswith(_DATABASE_FILES):
        raise _refusal(
            "the target looks like a database file, but a plain path means a folder of Parquet files",
            path,
            f"write sqlite:///{path}, or {path}/ for a folder",
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


def _open_sqlite(text: str, timeout: float) -> "Dialect":
    import sqlalchemy as sa  # a fifth of a second that a run into files need not wait for

    from daskae.load.sql.sqlite.dialect import SqliteDialect

    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise _refusal("the database URL cannot be read", text, "write sqlite:///metrics.db") from None
    if url.drivername not in ("sqlite", "sqlite+pysqlite") or url.query:
        raise _refusal("a SQLite URL takes no other driver and no options", text, "write sqlite:///metrics.db")
    if url.host or not url.database or url.database == ":memory:":
        raise _refusal(
            "the SQLite URL names no file",
            text,
            "write sqlite:///metrics.db with three slashes, or sqlite:////tmp/metrics.db for an absolute path",
        )
    return SqliteDialect(url, timeout)


def _open_postgresql(text: str, timeout: float) -> "Dialect":
    import sqlalchemy as sa

    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise _refusal("the database URL cannot be read", text, "write postgresql://user@host/database") from None
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise _refusal("a PostgreSQL URL takes no other driver than psycopg", text, "write postgresql://…")
    try:
        from daskae.load.sql.postgresql.dialect import PostgresqlDialect
    except ImportError as error:
        hint = f"pip install 'daskae[postgresql]' ({error})"
        raise _refusal("PostgreSQL needs a driver that is not installed", text, hint) from None
    return PostgresqlDialect(url, timeout)


_DATABASES: dict[str, Callable[[str, float], "Dialect"]] = {
    "sqlite": _open_sqlite,
    "postgresql": _open_postgresql,
    "postgres": _open_postgresql,
}


def _refusal(what: str, url: str, hint: str = "") -> SettingsError:
    return SettingsError(what, where="--to", got=mask_secrets(url), allowed=_SUPPORTED, hint=hint)
