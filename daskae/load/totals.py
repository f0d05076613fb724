"""What the columns of a table add up to: noted in the ledger with a load, compared when the target is verified."""

from collections.abc import Mapping
from decimal import Context, Decimal

import numpy as np
import pyarrow as pa

from daskae.load.base import ColumnTotal, TableParts
from daskae.load.parts import read_batches

_BATCH_ROWS = 1 << 16
_EXACT = Context(prec=120)


def column_totals(parts: TableParts) -> dict[str, ColumnTotal]:
    """Count the values of each column of a table, and add up those of whole numbers and exact decimals.

    Raises
    ------
    ExchangeError
        When a part cannot be read.
    """
    adder = Adder({field.name: _has_sum(field) for field in parts.schema})
    for batch in read_batches(parts, _BATCH_ROWS):
        adder.add(batch)
    return adder.totals()


class Adder:
    """Counts values of columns that are not null, and adds up those of some of them, exactly.

    Parameters
    ----------
    columns : mapping of str to bool
        By name, whether it is added up.
    """

    def __init__(self, columns: Mapping[str, bool]) -> None:
        self._values = dict.fromkeys(columns, 0)
        self._sums = {name: Decimal(0) for name, wanted in columns.items() if wanted}

    def add(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Take some rows, which may have further columns."""
        for name in self._values:
            column = rows.column(name)
            self._values[name] += len(column) - column.null_count
            if name in self._sums:
                self._sums[name] = add_exactly(self._sums[name], _sum(column))

    def totals(self) -> dict[str, ColumnTotal]:
        """Return what it is by now."""
        return {name: (values, self._text(name)) for name, values in self._values.items()}

    def _text(self, name: str) -> str | None:
        return format(self._sums[name], "f") if name in self._sums else None


def add_exactly(one: Decimal, other: Decimal) -> Decimal:
    """Add decimals of any usual size without rounding."""
    return _EXACT.add(one, other)


def _sum(column: pa.Array | pa.ChunkedArray) -> Decimal:
    """Add up in words of 32 bits: Arrow's own sum wraps where it is larger than its type."""
    if pa.types.is_integer(column.type):
        column = column.cast(pa.decimal128(38, 0))
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return Decimal(sum(map(_sum_of_units, chunks))).scaleb(-column.type.scale, _EXACT)


def _sum_of_units(column: pa.Array) -> int:
    column = column.drop_null()
    if not len(column):
        return 0
    words = np.frombuffer(column.buffers()[1], "<u4", 4 * len(column), 16 * column.offset).reshape(-1, 4)
    low = words[:, :3].sum(axis=0, dtype=np.uint64).tolist()
    high = int(words[:, 3].view(np.int32).sum(dtype=np.int64))
    return int(sum(word << 32 * place for place, word in enumerate([*low, high])))


def _has_sum(field: pa.Field) -> bool:
    exact = (field.metadata or {}).get(b"exact") != b"false"
    return pa.types.is_integer(field.type) or (pa.types.is_decimal128(field.type) and exact)
