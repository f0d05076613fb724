"""PostgreSQL's errors in the words of a person who has to do something about them, without passwords."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa

from daskae.errors import LoadError, TargetBusyError, TargetLostError
from daskae.load.failures import mask_secrets, plain_message, translated
from daskae.silence import LOOK, SILENT

_CONSTRAINT = "23"
_BUSY = {
    "55P03": "another program holds a table of the target",
    "40P01": "another program and this load waited for each other",
    "40001": "another program changed the same rows",
    "53300": "the server has no free connection",
    "57P03": "the server is starting or stopping",
}
_REASONS = {
    "28P01": ("the password is not accepted", "check the user and the password in the URL"),
    "28000": ("the user is not accepted", "check the user in the URL"),
    "3D000": ("there is no such database", "create it, or correct the URL"),
    "42501": ("the user has not the right to do this", "grant it, or take another user or schema"),
    "53100": ("the disk of the database is full", "free some space, then run the same command again"),
    "57014": ("the server ended a statement at its time limit", "raise statement_timeout for this user"),
    "25006": ("the database takes no writes", "take the primary server, or another target"),
    "22021": ("a text holds a NUL or a character that the database cannot store", "mend the text, or write to Parquet"),
    "22003": ("a number is too large for its column", "look at the value, or take another type"),
    _CONSTRAINT: ("a rule of the database refuses the rows", "look at its constraints, indexes and triggers"),
}
_SAID = {
    "28P01": "password authentication failed|no password supplied",
    "3D000": 'database ".*" does not exist',
    "28000": 'role ".*" (does not exist|is not permitted)|no pg_hba.conf entry',
}
_UNREACHABLE = ("the database cannot be reached", "check host, port and that the server runs; then run again")
_LOST = ("the connection to the database was lost", "run the same command again")
_UNKNOWN = ("the database refuses the load", "look at the table, its indexes, triggers and rights")


@contextmanager
def postgresql_translated(target: str, password: str, timeout: float) -> Iterator[None]:
    """Turn the errors of PostgreSQL, SQLAlchemy and the operating system into :class:`LoadError`."""
    try:
        with translated(target):
            yield
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        plain = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        # The error itself may quote the URL, so it is not chained.
        raise _load_error(plain, target, password, timeout) from None


def sql_state(error: BaseException | None) -> str:
    """Return the five characters that tell what happened; none when the server did not say."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException | None) -> bool:
    """Tell whether an error means that the connection is gone."""
    state = sql_state(error)
    gone = isinstance(error, psycopg.OperationalError) and not state
    return gone or state.startswith("08") or state in ("57P01", "57P02", "25P03")


def is_silence(error: BaseException | None) -> bool:
    """Tell whether a connection could not be had because nobody answered in time."""
    return isinstance(error, psycopg.errors.ConnectionTimeout)


def _load_error(error: BaseException | None, target: str, password: str, timeout: float) -> LoadError:
    state = sql_state(error)
    message = mask_secrets(plain_message(error) if state.startswith(_CONSTRAINT) else str(error)).strip()
    if password:
        message = message.replace(password, "***")
    if state in _BUSY:
        hint = "wait for it, then run the same command again"
        return TargetBusyError(f"{_BUSY[state]}; waited {timeout:g} s", target, message, hint=hint)
    known = _REASONS.get(state) or _REASONS.get(state[:2]) or (not state and _said(message)) or None
    if known is None and is_silence(error):
        return TargetLostError(SILENT, target, f"{message}; waited {timeout:g} s", hint=LOOK)
    if known is None and is_lost(error) and not message.startswith("connection"):
        return TargetLostError(_LOST[0], target, message, hint=_LOST[1])
    what, hint = known or (_UNREACHABLE if is_lost(error) else _UNKNOWN)
    return LoadError(what, where=target, got=message, hint=hint)


def _said(message: str) -> tuple[str, str] | None:
    """Find a refusal in the text of a connection that failed: the driver gives no state for those."""
    for state, words in _SAID.items():
        if re.search(words, message):
            return _REASONS[state]
    return None
