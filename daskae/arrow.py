"""Arrow values made without Arrow's own converters: the first use of those imports pandas, a quarter of a second."""

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
