"""Names and values as SQL text, so that nothing in them can be taken for something else."""

from collections.abc import Sequence
from decimal import Decimal

from daskae.config import ColumnType
from daskae.interop.records import NUMBERS, NotExpressibleError


def quoted(name: str) -> str:
    """Write the name of a column."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object, dtype: ColumnType) -> str:
    """Write a value as it compares with a column of a type.

    Raises
    ------
    NotExpressibleError
    """
    if dtype == "text":
        return "'" + str(value).replace("'", "''") + "'"
    if dtype == "boolean" and isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if dtype in NUMBERS and isinstance(value, (int, float)) and not isinstance(value, bool):
        return format(Decimal(str(value)), "f")
    if dtype == "datetime" and isinstance(value, str):
        return f"TIMESTAMP '{value}'"
    if dtype == "date" and isinstance(value, str):
        return f"DATE '{value[:10]}'"
    raise NotExpressibleError(f"{value!r} cannot be compared with a column of type {dtype}")


def listed(values: Sequence[object], dtype: ColumnType) -> str:
    """Write values as the right side of ``IN``."""
    return "(" + ", ".join(literal(value, dtype) for value in values) + ")"
