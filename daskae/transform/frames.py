"""Tables as people's functions on pandas DataFrames see them: Arrow types, exact decimals."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from daskae.errors import DaskaeError


def call_on_frame(function: Callable[..., Any], table: pl.DataFrame, parameters: Mapping[str, Any]) -> pl.DataFrame:
    """Call a function with a pandas DataFrame and take back what it returns.

    Raises
    ------
    DaskaeError
        If the rows were moved, which their index tells.
    """
    import pandas as pd

    frame = _narrow(table).to_arrow(compat_level=pl.CompatLevel.oldest()).to_pandas(types_mapper=pd.ArrowDtype)
    result = function(frame, **parameters)
    if not isinstance(result, pd.DataFrame):
        raise TypeError(f"a DataFrame is expected, not {type(result).__name__}")
    if len(result) == table.height and not result.index.equals(frame.index):
        raise DaskaeError("a step's function has moved rows", hint="keep the rows and their order")
    arrow = pa.Table.from_pandas(result.reset_index(drop=True), preserve_index=False)
    return pl.DataFrame(pl.from_arrow(arrow.replace_schema_metadata(None)))


def _narrow(table: pl.DataFrame) -> pl.DataFrame:
    """Write decimals with 18 digits: Arrow multiplies only what leaves room in 38, and a whole number takes 19."""
    decimals = [(name, dtype) for name, dtype in table.schema.items() if isinstance(dtype, pl.Decimal)]
    return table.with_columns(pl.col(name).cast(pl.Decimal(18, dtype.scale)) for name, dtype in decimals)
