"""Raw bytes of records as text a person can read."""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.read.source import RangeReader

_FEW = 256
"""Records that are decoded one by one where one of them is not valid."""


def decode_texts(values: pa.LargeBinaryArray, encoding: str) -> pl.Series:
    """Bytes as text; what is not valid shows as a backslash escape."""
    if encoding == "utf-8":
        try:
            return pl.Series(pl.from_arrow(values.cast(pa.large_string())))
        except pa.ArrowInvalid:
            if len(values) > _FEW:  # one record that is not valid must not make all the others slow
                half = len(values) // 2
                return pl.concat([decode_texts(part, encoding) for part in (values[:half], values[half:])])
    texts = [value.decode(encoding, "backslashreplace") for value in values.to_pylist()]
    return pl.Series(texts, dtype=pl.String)


def read_records(
    segment: Segment, dialect: Dialect, starts: Sequence[int], ends: Sequence[int]
) -> tuple[pl.Series, pl.Series]:
    """Read the raw text of some records by their places in the file; returns (texts, byte offsets)."""
    with RangeReader(segment.path) as reader:
        texts = [
            reader.read(start, end - start).rstrip(b"\r\n").decode(dialect.encoding, "backslashreplace")
            for start, end in zip(starts, ends, strict=True)
        ]
    return pl.Series(texts, dtype=pl.String), pl.Series(starts, dtype=pl.Int64)
