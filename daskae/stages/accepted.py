"""Accepted rows, one partition at a time, from the files between the stages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from daskae.exchange import read_frame
from daskae.stages.frames import with_decimals
from daskae.stages.late_rejects import late_tables
from daskae.stages.layout import Layout
from daskae.stages.spec import Spec


@dataclass(frozen=True)
class AcceptedRows:
    """Where the accepted rows of a run are."""

    layout_path: Path
    late: tuple[Path, ...]
    """Files that name the rows which global rules rejected."""
    spec: Spec
    parts: int


def read_accepted(part: int, rows: AcceptedRows) -> pa.Table:
    """Read the accepted rows of one partition, in input order.

    Returns
    -------
    Table
        The contract columns that metrics use; money as ``decimal128(38, scale)``.

    Raises
    ------
    ExchangeError
        If the work directory has been swept since the run.
    """
    path = Layout.load(rows.layout_path).parts[part].path("rows")
    frame = read_frame([path]) if path is not None else pl.DataFrame()
    if not frame.height:
        return empty_table(rows.spec)
    if late := list(late_tables(rows.late, part, ["part", "seq"])):
        frame = frame.join(pl.DataFrame(pl.from_arrow(pa.concat_tables(late))), on="seq", how="anti")
    return _for_people(frame.sort("seq").select(rows.spec.kept_columns), rows.spec)


def empty_table(spec: Spec) -> pa.Table:
    """Return the columns without rows."""
    types: dict[str, Any] = {
        "text": pl.String(), "decimal": pl.Int64(), "integer": pl.Int64(), "float": pl.Float64(),
        "datetime": pl.Datetime("us"), "date": pl.Date(), "boolean": pl.Boolean(),
    }  # fmt: skip
    dtypes = {column.name: types[column.dtype] for column in spec.final_columns}
    return _for_people(pl.DataFrame(schema={name: dtypes[name] for name in spec.kept_columns}), spec)


def _for_people(frame: pl.DataFrame, spec: Spec) -> pa.Table:
    money = [column.name for column in spec.final_columns if column.dtype == "decimal"]
    shown = with_decimals(frame, [name for name in money if name in frame.columns], spec.contract.scale)
    return shown.to_arrow(compat_level=pl.CompatLevel.oldest())
