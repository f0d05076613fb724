"""Arrow values made without Arrow's own converters, whose first use imports pandas, a quarter of a second."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy.typing as npt
import polars as pl
import pyarrow as pa


def to_array(values: npt.NDArray[Any]) -> pa.Array:
    """Return a NumPy array of numbers or truth values as an Arrow array."""
    return pl.Series(values).to_arrow()


def to_scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    """Return a text, a number, a time or None as an Arrow scalar of a type."""
    return pl.Series([value]).to_arrow().cast(kind)[0]


def gathered(tables: Iterable[pa.Table], least_rows: int) -> Iterator[pa.Table]:
    """Put tables together until they have so many rows; the last one has what is left, and none is empty."""
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= least_rows:
            yield pa.concat_tables(held)
            held, rows = [], 0
    if rows:
        yield pa.concat_tables(held)
