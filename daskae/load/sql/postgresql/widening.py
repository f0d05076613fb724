"""Which types of PostgreSQL hold all values of which others."""

import re

_NUMERIC = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?", re.IGNORECASE)
_TEXTS = ("text", "character varying")
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_MOST_DIGITS = 1000
LARGEST_WHOLE = 2**53
"""Whole numbers up to this are doubles too."""
_TIMES = ("timestamp without time zone", "timestamp")


def accepts(found: str, wanted: str) -> bool:
    """Tell whether a column of one type can hold every value of another one."""
    found, wanted = found.lower(), wanted.lower().replace(", ", ",")
    if wanted == "text":
        return found in _TEXTS
    if wanted in _TIMES:
        return found in _TIMES
    if theirs := _NUMERIC.fullmatch(found):
        if theirs[1] is None:
            return wanted in _DIGITS or _NUMERIC.fullmatch(wanted) is not None
        ours = _digits(wanted)
        return ours is not None and int(theirs[2]) >= ours[1] and int(theirs[1]) - int(theirs[2]) >= ours[0]
    return found == wanted


def wider_type(found: str, wanted: str) -> str | None:
    """Return the type that holds all values of both, where the one can become it in place; None where none can.

    A ``bigint`` can become ``double precision`` only where all its values are within :data:`LARGEST_WHOLE`.
    """
    found, wanted = found.lower(), wanted.lower().replace(", ", ",")
    if wanted == "text":
        return "TEXT" if found.startswith("character varying") else None
    if wanted in _TIMES:
        fine = found == "date" or re.fullmatch(r"timestamp\(\d\) without time zone", found)
        return "TIMESTAMP WITHOUT TIME ZONE" if fine else None
    if wanted == "bigint" and found in _DIGITS:
        return "BIGINT"
    if wanted == "double precision":
        return "DOUBLE PRECISION" if found in ("real", *_DIGITS) else None
    ours, theirs = _digits(wanted), _digits(found)
    if ours is None or theirs is None:
        return None
    room, scale = max(ours[0], theirs[0]), max(ours[1], theirs[1])
    return f"NUMERIC({room + scale}, {scale})" if room + scale <= _MOST_DIGITS else None


def _digits(kind: str) -> tuple[int, int] | None:
    """Return how many digits a type has before and after the point."""
    if kind in _DIGITS:
        return _DIGITS[kind], 0
    found = _NUMERIC.fullmatch(kind)
    if found is None or found[1] is None:
        return None
    return int(found[1]) - int(found[2]), max(0, int(found[2]))
