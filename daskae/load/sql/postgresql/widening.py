"""Which types of PostgreSQL hold all values of which others."""

import re

from daskae.load.sql.digits import digits_of, holds, wider_decimal

_TEXTS = ("text", "character varying")
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_MOST_DIGITS = 1000
LARGEST_WHOLE = 2**53
"""Whole numbers up to this are doubles too."""
_TIMES = ("timestamp without time zone", "timestamp")


def accepts(found: str, wanted: str) -> bool:
    """Tell whether a column of one type can hold every value of another one."""
    found, wanted = found.lower(), wanted.lower()
    if wanted == "text":
        return found in _TEXTS
    if wanted in _TIMES:
        return found in _TIMES
    if found == "numeric":
        return digits_of(wanted, _DIGITS) is not None
    if found.startswith("numeric"):
        return holds(digits_of(found, _DIGITS), digits_of(wanted, _DIGITS))
    return found == wanted


def wider_type(found: str, wanted: str) -> str | None:
    """Return the type that holds all values of both, where the one can become it in place; None where none can.

    A ``bigint`` can become ``double precision`` only where all its values are within :data:`LARGEST_WHOLE`.
    """
    found, wanted = found.lower(), wanted.lower()
    if wanted == "text":
        return "TEXT" if found.startswith("character varying") else None
    if wanted in _TIMES:
        fine = found == "date" or re.fullmatch(r"timestamp\(\d\) without time zone", found)
        return "TIMESTAMP WITHOUT TIME ZONE" if fine else None
    if wanted == "bigint" and found in _DIGITS:
        return "BIGINT"
    if wanted == "double precision":
        return "DOUBLE PRECISION" if found in ("real", *_DIGITS) else None
    return wider_decimal(digits_of(wanted, _DIGITS), digits_of(found, _DIGITS), _MOST_DIGITS)
