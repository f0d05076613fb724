"""Dimensions: files of one row a key, whose columns are joined to the rows.

A dimension is read once, by the driver, in pieces; tasks find its rows by slot in the work directory. A small one is
held whole by each process, a large one is looked up bucket by bucket when customers are grouped. An empty cell is null.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import xxhash

from daskae.errors import SettingsError
from daskae.transform.kinds import dtype_of, kind_of
from daskae.transform.operations import Lookup

KEY = "_dimension_key"
FOUND = "_dimension_found"
BROADCAST_BELOW = 64 << 20
_READ = 8 << 20
_PIECE_BYTES, _PIECE_ROWS = 16 << 20, 1 << 18
"""A dimension is read and written in pieces of this size: few enough to be looked through, small enough to be held."""


def enrich(
    view: object,
    *,
    source: str,
    on: str,
    key: str = "customer_id",
    columns: list[str] | None = None,
    prefix: str = "",
    missing: Literal["null", "reject"] = "null",
    delimiter: str = ",",
    broadcast_below: int | str = BROADCAST_BELOW,
) -> None:
    """State the parameters of ``enrich`` and their types.

    Parameters
    ----------
    view
        Stands for the table.
    source : str
        A local CSV or Parquet file.
    on : str
        Its key column.
    key : str
        The column of the rows that holds the key.
    columns : list of str, optional
        Columns to join; all but the key unless given.
    prefix : str
        Put before their names.
    missing : {"null", "reject"}
        What becomes of rows whose key is not there.
    delimiter : str
        Of a CSV file.
    broadcast_below : int or str
        From this size on the rows are looked up bucket by bucket.
    """


@dataclass(frozen=True)
class Dimension:
    """A dimension file, opened to be read."""

    source: str
    on: str
    delimiter: str
    where: str

    @cached_property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet, by its first bytes."""
        with Path(self.source).open("rb") as file:
            return file.read(4) == b"PAR1"

    def require_file(self) -> None:
        """Check that the file can be opened.

        Raises
        ------
        SettingsError
        """
        try:
            with Path(self.source).open("rb"):
                pass
        except OSError as error:
            raise SettingsError(
                "a dimension file cannot be opened", self.where, self.source, "a local CSV or Parquet file",
                error.strerror or "",
            ) from None  # fmt: skip

    def schema(self) -> dict[str, pl.DataType]:
        """Return all columns and the types they are kept as; those of a CSV file are texts.

        Raises
        ------
        SettingsError
        """
        with self._explained():
            if not self.is_parquet:
                with self._csv(None) as reader:
                    return {name: pl.String() for name in reader.schema.names}
            empty = pl.DataFrame(pl.from_arrow(pq.read_schema(self.source).empty_table()))
        kinds = {name: kind_of(dtype) for name, dtype in empty.schema.items()}
        return {
            name: pl.Decimal(38, dtype.scale or 0) if isinstance(dtype, pl.Decimal) else dtype_of(kind, 0)
            for (name, kind), dtype in zip(kinds.items(), empty.schema.dtypes(), strict=True)
            if kind is not None
        }

    def digest(self) -> tuple[str, int]:
        """Return hash and size of the file."""
        state, size = xxhash.xxh3_128(), 0
        with Path(self.source).open("rb") as file:
            while piece := file.read(_READ):
                state.update(piece)
                size += len(piece)
        return str(state.hexdigest()), size

    def pieces(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield some columns in batches, the key's text as :data:`KEY` first; rows without a key are left out.

        Raises
        ------
        SettingsError
            If the file cannot be read to its end.
        """
        with self._explained():
            for table in self._tables(list(dict.fromkeys([self.on, *columns]))):
                frame = pl.DataFrame(pl.from_arrow(table))
                keyed = frame.select(pl.col(self.on).cast(pl.String).alias(KEY), *(pl.col(name) for name in columns))
                yield keyed.filter(pl.col(KEY).str.strip_chars() != "")

    def _tables(self, names: list[str]) -> Iterator[pa.Table]:
        if self.is_parquet:
            for batch in pq.ParquetFile(self.source).iter_batches(_PIECE_ROWS, columns=names):
                yield pa.Table.from_batches([batch])
            return
        with self._csv(names) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    def _csv(self, names: list[str] | None) -> Any:
        texts = None if names is None else dict.fromkeys(names, pa.string())
        options = pa.csv.ConvertOptions(
            column_types=texts, include_columns=names, strings_can_be_null=True, null_values=[""]
        )
        parse = pa.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True)
        reading = pa.csv.ReadOptions(block_size=_PIECE_BYTES)
        return pa.csv.open_csv(self.source, reading, parse, options)

    def _explained(self) -> "_Explained":
        return _Explained(self)


class _Explained:
    """Turns Arrow's errors into ours."""

    def __init__(self, dimension: Dimension) -> None:
        self._dimension = dimension

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError | ValueError) and not isinstance(error, pa.ArrowCancelled):
            raise SettingsError(
                "a dimension file cannot be read", self._dimension.where, self._dimension.source,
                "CSV with a header line, or Parquet", " ".join(str(error).split())[:200],
            ) from error  # fmt: skip


def require_once(keys: pl.Series, where: str, source: str) -> None:
    """Check that no key of a dimension is there twice.

    Raises
    ------
    SettingsError
        Naming some.
    """
    if not (repeated := keys.is_duplicated()).any():
        return
    names = keys.filter(repeated).unique().sort()
    shown = ", ".join(repr(name) for name in names.head(5).to_list()) + (" ..." if len(names) > 5 else "")
    raise SettingsError(
        "a dimension has a key twice", f"{where}, {source}", shown, "one row a key", "remove the rows that repeat a key"
    )


def joined(
    table: pl.DataFrame, keys: pl.Series, lookup: Lookup, dimension: pl.DataFrame
) -> tuple[pl.DataFrame, pl.Series]:
    """Join a dimension to rows, whose order stays.

    Parameters
    ----------
    table : DataFrame
    keys : Series
        Of each row.
    lookup : Lookup
    dimension : DataFrame
        :data:`KEY` and the dimension's columns.

    Returns
    -------
    table : DataFrame
        With the columns of the dimension under their new names; null where the key is not there.
    missing : Series of Boolean
        Where that is so.
    """
    renamed = dimension.select(KEY, *(pl.col(old).alias(new) for old, new in lookup.columns.items()))
    wanted = pl.DataFrame({KEY: keys.cast(pl.String)})
    found = wanted.join(renamed.with_columns(pl.lit(True).alias(FOUND)), on=KEY, how="left", maintain_order="left")
    return table.with_columns(found.select(lookup.outputs)), found[FOUND].is_null()
