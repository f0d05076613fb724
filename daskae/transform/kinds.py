"""The column types of the order contract as Polars types, and back."""

from collections.abc import Mapping

import polars as pl

from daskae.config import ColumnType
from daskae.errors import SettingsError
from daskae.schema import CONTRACT_TYPES

PRECISION = 38
LARGEST = 2**63 - 1
"""Units of money travel as 64-bit integers."""


def dtype_of(kind: ColumnType, scale: int) -> pl.DataType:
    """Return the Polars type of a column type."""
    types: Mapping[str, pl.DataType] = {
        "text": pl.String(), "decimal": pl.Decimal(PRECISION, scale), "integer": pl.Int64(), "float": pl.Float64(),
        "datetime": pl.Datetime("us"), "date": pl.Date(), "boolean": pl.Boolean(),
    }  # fmt: skip
    return types[kind]


def kind_of(dtype: pl.DataType) -> ColumnType | None:
    """Return the column type that a Polars type is kept as, None where it cannot be kept."""
    if isinstance(dtype, pl.Decimal):
        return "decimal"
    if isinstance(dtype, pl.Datetime):
        return None if dtype.time_zone else "datetime"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    if dtype.is_integer():
        return "integer"
    kinds: Mapping[type[pl.DataType], ColumnType] = {
        pl.Float32: "float", pl.Float64: "float", pl.Date: "date", pl.Boolean: "boolean"
    }  # fmt: skip
    return kinds.get(type(dtype))


def settled(schema: pl.Schema, before: pl.Schema, scale: int, where: str) -> pl.Schema:
    """Decide the types that columns have after a step.

    Raises
    ------
    SettingsError
        If a column of the contract has gone or changed its type, or a type cannot be kept.
    """
    for name in CONTRACT_TYPES:
        if name in before and name not in schema:
            raise SettingsError("a step must not take away a column of the contract", where, name)
    result = {}
    for name, dtype in schema.items():
        kind = kind_of(dtype)
        wanted = CONTRACT_TYPES.get(name) if name in before else None
        if kind is None:
            raise SettingsError(
                "a step makes a column of a type that cannot be kept", where, f"{name}: {dtype}",
                "text, numbers, dates, times without a zone, booleans", "CAST(... AS VARCHAR) makes a text of it",
            )  # fmt: skip
        if wanted is not None and kind != wanted and (kind, wanted) != ("integer", "decimal"):
            raise SettingsError(
                f"a step must keep the type of {name}", where, kind, wanted, "put the value into a column of its own"
            )
        result[name] = dtype_of(wanted or kind, scale)
    return pl.Schema(result)
