"""Tables as a user's function gets them: a pandas DataFrame with Arrow types, money as exact decimals."""

from typing import Any

import polars as pl


def to_pandas(table: pl.DataFrame) -> Any:
    """Return a table as a pandas DataFrame."""
    import pandas as pd

    return table.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)


def from_pandas(values: Any, height: int) -> pl.Series:
    """Return a function's answer as one truth value a row; null where it is missing.

    Raises
    ------
    TypeError, ValueError
        If it is not that.
    """
    import pandas as pd
    import pyarrow as pa

    if not isinstance(values, pd.Series):
        raise TypeError(f"a pandas Series of true and false was expected, {type(values).__name__} came")
    if len(values) != height:
        raise ValueError(f"{height} values were expected, one a row, {len(values)} came")
    return pl.Series("ok", pl.from_arrow(pa.array(values, from_pandas=True).cast(pa.bool_())), dtype=pl.Boolean)
