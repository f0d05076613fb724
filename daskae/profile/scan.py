"""One batch of cells in, its profile state out.

Values are counted first, so that everything else is done once a different value. What can be read as what is decided by
the very function that reads the columns of a run: what is said here of a column holds there.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from daskae.batch import Batch
from daskae.config import ColumnType
from daskae.patterns import EMAIL
from daskae.profile.shapes import DATE, ISO_TIME, LONG, NUMBER, date_formats, decimals_of, shapes_of
from daskae.profile.state import KEPT_VALUES, ColumnState, Ends, TableState
from daskae.schema import ISO_FORMATS, Column, Contract
from daskae.sketches.distinct import DistinctSketch
from daskae.sketches.frequent import FrequentValues
from daskae.sketches.quantiles import QuantileSketch
from daskae.sketches.sums import ExactSum
from daskae.validate.cast import cast_table

LONGEST_VALUE = 80
"""Characters; longer values are cut where values are counted."""
_WORD = r"(?i)^\s*(true|false|t|f|yes|no|1|0)\s*$"
_NUMBERS: tuple[ColumnType, ...] = ("integer", "decimal", "float")


@dataclass(frozen=True)
class Reading:
    """Settings that decide how cells are read."""

    scale: int = 4
    null_values: tuple[str, ...] = ()
    timezone: str = "UTC"


def count_broken(batch: Batch) -> TableState:
    """Count a batch's records, and by reason those that are no rows; nothing is said of columns."""
    broken = Counter(item.reason for item in batch.broken)
    if batch.is_header is not None and batch.is_header.any():
        broken["repeated_header"] += int(batch.is_header.sum())
    return TableState(batch.count, broken, {})


def rows_of(batch: Batch) -> pl.DataFrame:
    """Return a batch's cells without repeated header lines."""
    return batch.cells if batch.is_header is None else batch.cells.filter(~batch.is_header)


def profile_chunk(cells: pl.DataFrame, reading: Reading | None = None) -> TableState:
    """Profile rows of cells: text, or a typed source's own types; records are counted by :func:`count_broken`.

    Parameters
    ----------
    cells : DataFrame
    reading : Reading, optional
    """
    reading = reading or Reading()
    columns = {values.name: profile_column(values, reading) for values in cells.iter_columns()}
    return TableState(0, Counter(), columns)


def profile_column(cells: pl.Series, reading: Reading) -> ColumnState:
    """Profile one column."""
    types = frozenset(["text" if cells.dtype == pl.String else str(cells.dtype)])
    table = _counted(_plain(cells), reading)
    counts = Counter({"rows": len(cells), "nulls": len(cells) - int(table["count"].sum())})
    texts = table["text"]
    bare = texts.str.strip_chars()
    if (bare == "").any():
        blank = bare == ""
        counts["blanks"] = int(table["count"].filter(blank).sum())
        table, bare, texts = table.filter(~blank), bare.filter(~blank), texts.filter(~blank)
    if not table.height:
        return replace(ColumnState.nothing(), counts=+counts, types=types)
    table = table.with_columns(shapes_of(texts).alias("shape"), texts.str.len_chars().alias("length"))
    ends: Ends = {"length": (str(table["length"].min()), str(table["length"].max()))}
    counts["length"] = _sum(table["length"].cast(pl.Int64) * table["count"])
    counts["edge_blanks"] = _sum(table["count"].filter(texts != bare))
    counts["email"] = _emails(table)
    counts["long"] = _sum(table["count"].filter(table["shape"] == LONG))
    shapes = table.group_by("shape").agg(pl.col("count").sum())
    numbers, total = _read_numbers(table, shapes, reading, counts, ends)
    _read_words(table, reading, counts)
    _read_dates(table, shapes, reading, counts, ends)
    distinct, clipped = DistinctSketch.of_unique(texts), _clipped(table)
    values = FrequentValues.of_counts(clipped["text"], clipped["count"], KEPT_VALUES)
    forms = FrequentValues.of_counts(shapes["shape"], shapes["count"], KEPT_VALUES)
    return ColumnState(+counts, ends, types, numbers, total, distinct, values, forms)


def _sum(values: pl.Series) -> int:
    return int(values.sum())


def _plain(cells: pl.Series) -> pl.Series:
    """Turn what has no simple values into text, as a run does."""
    if cells.dtype.is_nested():
        return pl.Series(cells.name, [None if item is None else str(item) for item in cells.to_list()], pl.String)
    if cells.dtype == pl.Binary:
        return pl.Series(cells.name, [_decoded(item) for item in cells.to_list()], pl.String)
    if cells.dtype in (pl.Categorical, pl.Enum, pl.Null, pl.Time, pl.Duration):
        return cells.cast(pl.String)
    return cells


def _decoded(item: bytes | None) -> str | None:
    try:
        return None if item is None else item.decode()
    except UnicodeDecodeError:
        return None


def _counted(cells: pl.Series, reading: Reading) -> pl.DataFrame:
    """Return each different value that is no null, with its text and how often it occurs."""
    table = cells.alias("value").drop_nulls().value_counts(name="count")
    table = table.with_columns(pl.col("value").cast(pl.String).alias("text"), pl.col("count").cast(pl.Int64))
    nulls = ["", *reading.null_values] if cells.dtype == pl.String else [""]
    return table.filter(~pl.col("text").is_in(nulls))


def _clipped(table: pl.DataFrame) -> pl.DataFrame:
    """Cut long texts, and count together what is then the same."""
    if not (table["length"] > LONGEST_VALUE).any():
        return table
    return table.group_by(pl.col("text").str.head(LONGEST_VALUE)).agg(pl.col("count").sum())


def _emails(table: pl.DataFrame) -> int:
    """Count values that look like an address of e-mail."""
    some = table.filter(pl.col("text").str.contains("@", literal=True))
    return _sum(some["count"].filter(some["text"].str.contains(EMAIL))) if some.height else 0


def _cast(table: pl.DataFrame, columns: Sequence[Column], reading: Reading) -> pl.DataFrame:
    contract = Contract(tuple(columns), reading.scale, (), reading.timezone)
    return cast_table(table.select("value"), contract).table


def _note(name: str, values: pl.Series, weights: pl.Series, counts: Counter[str], ends: Ends) -> None:
    """Note how many values can be read as something, and the smallest and largest of them."""
    readable = values.is_not_null()
    if not readable.any():
        return
    counts[name] += _sum(weights.filter(readable))
    if values.dtype != pl.Boolean:
        low, high = (_end(value) for value in (values.min(), values.max()))
        ends[name] = (low, high)


def _end(value: object) -> str:
    """Write one end so that it can be read back exactly; times of one length, so that texts compare as times do."""
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat(timespec="microseconds")) if isoformat else str(value)


def _read_numbers(
    table: pl.DataFrame, shapes: pl.DataFrame, reading: Reading, counts: Counter[str], ends: Ends
) -> tuple[QuantileSketch, ExactSum]:
    """Read what may be numbers."""
    dtype = table["value"].dtype
    if dtype == pl.String:
        forms = shapes.filter(pl.col("shape").str.contains(NUMBER))["shape"]
        some = table.filter(pl.col("shape").is_in(forms.implode())) if len(forms) else table.clear()
    else:
        some = table if dtype.is_numeric() else table.clear()
    if not some.height:
        return QuantileSketch.of(pl.Series([], dtype=pl.Float64)), ExactSum()
    read = _cast(some, [Column(name, name, "value", False) for name in _NUMBERS], reading)
    if isinstance(dtype, pl.Decimal):  # whose digits after the point a cast to integers would drop
        whole = (some["value"] == some["value"].cast(pl.Int64, strict=False)).fill_null(False)
        read = read.with_columns(pl.when(whole).then(pl.col("integer")).alias("integer"))
    finite = pl.DataFrame([read["float"].is_finite().fill_null(False).alias("finite"), some["count"]])
    read, weights = read.filter(finite["finite"]), finite.filter("finite")["count"]
    for name in _NUMBERS:
        _note(name, read[name], weights, counts, ends)
    if dtype == pl.String:
        zeros = some["text"].str.contains(r"^\s*[+-]?0[0-9]+\s*$")
        counts["leading_zeros"] = _sum(some["count"].filter(zeros))
    scales = [decimals_of(shape) for shape in some["shape"].unique()]
    ends["scale"] = (str(min(scales)), str(max(scales)))
    found: NDArray[np.float64] = read["float"].to_numpy()
    times: NDArray[np.int64] = weights.to_numpy()
    return QuantileSketch.of_counts(found, times), ExactSum.of_counts(found, times)


def _read_words(table: pl.DataFrame, reading: Reading, counts: Counter[str]) -> None:
    """Count words for true and false."""
    dtype = table["value"].dtype
    if dtype not in (pl.String, pl.Boolean):
        return
    some = table.filter(pl.col("text").str.contains(_WORD))
    if not some.height:
        return
    read = _cast(some, [Column("boolean", "boolean", "value", False)], reading)["boolean"]
    counts["boolean"] = _sum(some["count"].filter(read.is_not_null()))


def _read_dates(table: pl.DataFrame, shapes: pl.DataFrame, reading: Reading, counts: Counter[str], ends: Ends) -> None:
    """Try the formats that each shape allows."""
    dtype = table["value"].dtype
    if dtype.is_temporal():
        moments = _cast(table, [Column("moment", "datetime", "value", False)], reading)["moment"]
        _note("stored day" if dtype == pl.Date else "stored time", moments, table["count"], counts, ends)
        return
    if dtype != pl.String:
        return
    families: dict[tuple[str, ...], list[str]] = {}
    for shape in shapes.filter(pl.col("shape").str.contains(DATE))["shape"]:
        if formats := date_formats(shape):
            families.setdefault(formats, []).append(shape)
    for formats, members in families.items():
        some = table.filter(pl.col("shape").is_in(members))
        tried = [_date_column(date_format) for date_format in formats]
        read = _cast(some, tried, reading)
        for date_format in formats:
            _note(f"date {date_format}", read[date_format], some["count"], counts, ends)


def _date_column(date_format: str) -> Column:
    formats = ISO_FORMATS if date_format == ISO_TIME else (date_format,)
    return Column(date_format, "datetime", "value", False, formats)
