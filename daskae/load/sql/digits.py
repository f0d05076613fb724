"""Numbers by their digits before and after the point: which types hold all values of which others."""

import re
from collections.abc import Mapping

import sqlalchemy as sa

from daskae.load.sql.dialect import Session

_DECIMAL = re.compile(r"(?:decimal|numeric)\((\d+), ?(-?\d+)\)", re.IGNORECASE)

Digits = tuple[int, int]


def digits_of(kind: str, whole: Mapping[str, int]) -> Digits | None:
    """Return how many digits a type has before and after the point, negative where it rounds; None for other types.

    Parameters
    ----------
    kind : str
        Its name.
    whole : mapping
        Digits of the types for whole numbers.
    """
    if kind in whole:
        return whole[kind], 0
    found = _DECIMAL.fullmatch(kind)
    return None if found is None else (int(found[1]) - int(found[2]), int(found[2]))


def holds(room: Digits | None, digits: Digits | None) -> bool:
    """Tell whether there is room for all numbers with so many digits."""
    return room is not None and digits is not None and room[0] >= digits[0] and room[1] >= digits[1]


def wider_decimal(one: Digits | None, other: Digits | None, most: int) -> str | None:
    """Name the decimal that holds the numbers of both; None where it would need more than ``most`` digits."""
    if one is None or other is None:
        return None
    room, scale = max(one[0], other[0]), max(one[1], other[1])
    return f"NUMERIC({room + scale}, {scale})" if room + scale <= most else None


def has_beyond(session: Session, table: str, column: str, largest: int) -> bool:
    """Tell whether a column of whole numbers holds one that is larger, or smaller than its negative."""
    found = session.table(table, sa.Column(column, sa.BigInteger, quote=True))
    outside = ~found.c[column].between(-largest, largest)
    return session.connection.execute(sa.select(1).select_from(found).where(outside).limit(1)).first() is not None
