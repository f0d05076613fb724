"""Tables that are read a part at a time, as a ``dask.dataframe``."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa


def to_dask_dataframe(read: Callable[..., pa.Table], parts: int, empty: pa.Table, *shared: Any) -> Any:
    """Return a lazy data frame of which each partition is one call of ``read(part, *shared)``.

    Parameters
    ----------
    read : callable
        Returns the rows of a part; it runs where Dask computes.
    parts : int
        How many there are.
    empty : Table
        The columns without rows.
    *shared
        Further arguments for ``read``.
    """
    import dask.dataframe as dd

    return dd.from_map(_read_pandas, range(parts), args=[read, *shared], meta=_to_pandas(empty))


def _read_pandas(part: int, read: Callable[..., pa.Table], *shared: Any) -> Any:
    return _to_pandas(read(part, *shared))


def _to_pandas(table: pa.Table) -> Any:
    import pandas as pd

    return table.to_pandas(types_mapper=pd.ArrowDtype)
