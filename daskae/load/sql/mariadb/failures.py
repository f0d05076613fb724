"""MariaDB's errors in the words of a person who has to do something about them, without passwords."""

from collections.abc import Iterator
from contextlib import contextmanager

import pymysql
import sqlalchemy as sa

from daskae.errors import LoadError, TargetBusyError, TargetLostError
from daskae.load.failures import mask_secrets, translated
from daskae.silence import LOOK, SILENT

_BUSY = {
    1205: "another program holds rows or a table of the target",
    1213: "another program and this load waited for each other",
    1040: "the server has no free connection",
    1203: "the user has no free connection",
    1226: "the user has used up what the server grants",
    1412: "a table changed while it was read",
}
_RIGHTS = ("the user has not the right to do this", "grant it, or take another user or database")
_FULL = ("the disk of the database is full", "free some space, then run the same command again")
_READ_ONLY = ("the database takes no writes", "take the primary server, or another target")
_RULE = ("a rule of the database refuses the rows", "look at its constraints, indexes and triggers")
_LONG = ("a text is too long for its column", "mend the text; a text in a key has room for 255 characters")
_WIDE = ("the keys are too long for an index", "take fewer text columns as keys, or another database")
_PACKET = ("a row is larger than the server takes", "raise max_allowed_packet on the server")
_STOPPED = ("the server ended a statement", "raise its time limit for this user, or ask who stopped it")
_REASONS = {
    **dict.fromkeys((1044, 1142, 1143, 1227, 1370), _RIGHTS),
    **dict.fromkeys((1021, 1114, 3, 1026), _FULL),
    **dict.fromkeys((1290, 1792, 1836), _READ_ONLY),
    **dict.fromkeys((1022, 1048, 1062, 1364, 1451, 1452, 1557, 1644, 3819, 4025), _RULE),
    1045: ("the user or the password is not accepted", "check both in the URL"),
    1049: ("there is no such database", "create it, or correct the URL"),
    1153: _PACKET,
    1406: _LONG,
    1071: _WIDE,
    1264: ("a number is too large for its column", "look at the value, or take another type"),
    1366: ("the database cannot store a value", "mend the value, or write to Parquet"),
    **dict.fromkeys((1317, 1969, 3024), _STOPPED),
}
_LOST_CODES = {1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2055, 4031}
_UNREACHABLE_CODES = {2002, 2003, 2005}
_UNREACHABLE = ("the database cannot be reached", "check host, port and that the server runs; then run again")
_LOST = ("the connection to the database was lost", "run the same command again")
_UNKNOWN = ("the database refuses the load", "look at the table, its indexes, triggers and rights")


@contextmanager
def mariadb_translated(target: str, password: str, timeout: float) -> Iterator[None]:
    """Turn the errors of MariaDB, SQLAlchemy and the operating system into :class:`LoadError`."""
    try:
        with translated(target):
            yield
    except (sa.exc.DBAPIError, pymysql.Error) as error:
        plain = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        # The error itself may quote the URL, so it is not chained.
        raise _load_error(plain, target, password, timeout) from None


def is_lost(error: BaseException | None) -> bool:
    """Tell whether an error means that the connection is gone."""
    return _code(error) in _LOST_CODES or isinstance(error, pymysql.InterfaceError)


def is_silence(error: BaseException | None) -> bool:
    """Tell whether a connection could not be had because nobody answered in time."""
    # The kernel's own word for a connection that is gone is "Connection timed out".
    return "timed out" in str(error) if _code(error) in _UNREACHABLE_CODES else "(timed out)" in str(error)


def _code(error: BaseException | None) -> int:
    first = error.args[0] if error is not None and error.args else 0
    return first if isinstance(first, int) else 0


def _load_error(error: BaseException | None, target: str, password: str, timeout: float) -> LoadError:
    code = _code(error)
    message = mask_secrets(" ".join(map(str, error.args[1:] or error.args)) if error else "").strip()
    if password:
        message = message.replace(password, "***")
    if code in _BUSY:
        hint = "wait for it, then run the same command again"
        return TargetBusyError(f"{_BUSY[code]}; waited {timeout:g} s", target, message, hint=hint)
    if is_silence(error):
        return TargetLostError(SILENT, target, f"{message}; waited {timeout:g} s", hint=LOOK)
    if code not in _REASONS and is_lost(error):
        return TargetLostError(_LOST[0], target, message, hint=_LOST[1])
    what, hint = _REASONS.get(code, _UNREACHABLE if code in _UNREACHABLE_CODES else _UNKNOWN)
    return LoadError(what, where=target, got=message, hint=hint)
