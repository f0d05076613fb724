"""Values of other tools as the plain ones that settings hold."""

import math
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from daskae.config import ColumnType
from daskae.interop.records import NUMBERS, TIMES, Need, NotExpressibleError

_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d([ T].*)?")
_TYPES: tuple[tuple[str, ColumnType], ...] = (
    (r"u?int\d*(dtype)?|int(eger)?(type)?|(big|small|tiny)int|(long|short|byte)(type)?", "integer"),
    (r"float\d*(dtype|type)?|double(type|_precision)?|real", "float"),
    (r"decimal(type)?|numeric|number", "decimal"),
    (r"bool(ean)?_?(dtype|type)?", "boolean"),
    (r"datetime(64|type)?|timestamp(type|ntztype|_ntz|_tz|_ltz)?|datetime64tz", "datetime"),
    (r"date(type)?", "date"),
    (r"str(ing)?(dtype|type|_)?|utf8|large_string|text|n?varchar|n?char|character_varying|object_?|o|category|categorical"
     r"|categoricaldtype|enum", "text"),
)  # fmt: skip


def type_named(name: str) -> ColumnType | None:
    """Return the type that another tool's name of one stands for; None for one that has no equal here."""
    plain = re.split(r"[\[(]", name.strip().lower().replace(" ", "_"))[0].rpartition(".")[2]
    return next((dtype for pattern, dtype in _TYPES if re.fullmatch(pattern, plain)), None)


def plain_value(value: Any) -> Any:
    """Return a number, text or truth value as Python's own, and a time as ISO text.

    A time with a zone is taken to UTC, the zone that runs read times in unless told otherwise.

    Raises
    ------
    NotExpressibleError
    """
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):  # one of NumPy's
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Decimal) and value.is_finite():
        number = float(value)
        if Decimal(repr(number)) != value:
            raise NotExpressibleError(f"{value} has more digits than a number in settings holds")
        return int(value) if value == int(value) else number
    if isinstance(value, datetime):
        if value != value:  # pandas' missing time
            return None
        moment = datetime.fromisoformat(value.isoformat())
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
        return moment.isoformat(" ")
    if isinstance(value, date):
        return value.isoformat()
    raise NotExpressibleError(f"a value of type {type(value).__name__} has no form in settings")


def need_of(dtype: ColumnType | None, values: list[Any], *, iso_dates: bool = False) -> Need:
    """Say what type of column plain values can be compared with, by its stated type or else by the values."""
    if dtype is not None:
        return (
            "number" if dtype in NUMBERS else "time" if dtype in TIMES else "boolean" if dtype == "boolean" else "text"
        )
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return "boolean"
    if known and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        return "number"
    if iso_dates and known and all(isinstance(value, str) and _is_iso(value) for value in known):
        return "time"
    return "text"


def _is_iso(text: str) -> bool:
    if not _ISO_DATE.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def whole_bounds(name: str) -> tuple[int | None, int | None]:
    """Return what a type of whole numbers narrower than 64 bits can hold; nothing for other types."""
    found = re.fullmatch(r"(u?)int(8|16|32|64)", name.strip().lower())
    if found is None or found.group() == "int64":
        return None, None
    bits = int(found.group(2))
    if found.group(1):
        return 0, 2**bits - 1 if bits < 64 else None
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def share_of(mostly: Any) -> float | None:
    """Return the share of rows that may break a check of which ``mostly`` must hold."""
    if not isinstance(mostly, (int, float)) or isinstance(mostly, bool) or not 0 <= mostly <= 1 or math.isnan(mostly):
        raise NotExpressibleError(f"mostly is {mostly!r}, not a share")
    return float(1 - Decimal(str(mostly))) if mostly != 1 else None
