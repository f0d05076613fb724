"""Connections, transactions and errors of a database that only SQLAlchemy knows."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.failures import mask_secrets, translated
from daskae.silence import first_connection, first_limits, watched

_RULE = (
    "a rule of the database refuses the rows",
    "look at its constraints, indexes and triggers; if another run published meanwhile, run the same command again",
)
_REACH = ("the database cannot be reached or refuses the load", "look at its message, then run the same command again")
_UNKNOWN = ("the database refuses the load", "look at the table, its indexes, triggers and rights")


@contextmanager
def connect(url: sa.URL, target: str, timeout: float) -> Iterator[sa.Connection]:
    """Open a connection; what is done outside of :func:`transaction` is committed by the next one."""
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=first_limits(url, timeout))
    try:
        connection = first_connection(engine, target, timeout)
        # Closing the connection says something to the server, too.
        with watched(engine, connection, target, timeout), connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def transaction(connection: sa.Connection) -> Iterator[None]:
    """Commit at the end; on any error the database takes back what it can."""
    if connection.in_transaction():  # SQLAlchemy begins one with every statement, a mere query included
        connection.commit()
    with connection.begin():
        yield


@contextmanager
def portable_translated(target: str, password: str) -> Iterator[None]:
    """Turn the errors of SQLAlchemy, its driver and the operating system into :class:`LoadError`."""
    try:
        with translated(target):
            yield
    except sa.exc.SQLAlchemyError as error:
        kinds = {sa.exc.IntegrityError: _RULE, sa.exc.OperationalError: _REACH}
        what, hint = next((text for kind, text in kinds.items() if isinstance(error, kind)), _UNKNOWN)
        message = mask_secrets(str(getattr(error, "orig", None) or error)).strip()
        if password:
            message = message.replace(password, "***")
        # The error itself may quote the URL, so it is not chained.
        raise LoadError(what, where=target, got=message, hint=hint) from None


def lock_path(target: str) -> Path:
    """Return the lock file of a target for this user on this machine.

    Raises
    ------
    LoadError
        When somebody else has the folder.
    """
    folder = Path(tempfile.gettempdir()) / f"daskae-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise LoadError("the folder for locks belongs to somebody else", str(folder), hint="set TMPDIR to another one")
    return folder / f"{hashlib.sha256(target.encode()).hexdigest()[:32]}.lock"
