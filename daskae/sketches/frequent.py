"""The most frequent values: exact counts while there are few different ones, bounds on the counts beyond.

Beyond its capacity the state is a Misra-Gries summary in the form that merges (Agarwal and others 2012): the count of
the first value that has no place is taken from all, and remembered as the error. A value's true count lies between its
count here and that plus the error; the error is below ``rows / capacity``.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import polars as pl

CAPACITY = 10_000
_VALUE, _COUNT = "value", "count"


class Frequency(NamedTuple):
    """A value and the bounds of how often it occurs; both are the same where counts are exact."""

    value: str
    lower: int
    upper: int


@dataclass(frozen=True, eq=False)
class FrequentValues:
    """Counts by value.

    As long as all values fit the capacity the state does not depend on how they were cut into parts; beyond, only the
    bounds hold whatever the parts.
    """

    table: pl.DataFrame
    """Columns ``value`` and ``count``, most frequent first, equal counts by value."""
    rows: int
    """Values taken in."""
    error: int
    capacity: int

    @classmethod
    def of(cls, values: pl.Series, capacity: int = CAPACITY) -> Self:
        """Count a column; nulls are left out, and what is not text is taken by its text."""
        texts = values.drop_nulls().cast(pl.String).alias(_VALUE)
        counted = texts.value_counts(sort=False, name=_COUNT)
        return cls.of_counts(counted[_VALUE], counted[_COUNT], capacity)

    @classmethod
    def of_counts(cls, values: pl.Series, counts: pl.Series, capacity: int = CAPACITY) -> Self:
        """Take in different texts, none of them null, with how often each occurs."""
        table = pl.DataFrame({_VALUE: values, _COUNT: counts.cast(pl.Int64)})
        return cls(*_fitting(table, 0, capacity), capacity)

    def merge(self, other: "FrequentValues") -> "FrequentValues":
        """Return the counts of the values of both; the smaller capacity holds."""
        both = pl.concat([self.table, other.table]).group_by(_VALUE).agg(pl.col(_COUNT).sum())
        capacity = min(self.capacity, other.capacity)
        table, _, error = _fitting(both, self.error + other.error, capacity)
        return FrequentValues(table, self.rows + other.rows, error, capacity)

    @property
    def is_exact(self) -> bool:
        """Whether all counts are exact and no value is missing."""
        return self.error == 0

    def top(self, number: int) -> list[Frequency]:
        """Return the most frequent values, equal counts by value."""
        return [Frequency(value, count, count + self.error) for value, count in self.table.head(number).iter_rows()]

    def bounds(self, value: str) -> Frequency:
        """Return the bounds of one value's count."""
        found = self.table.filter(pl.col(_VALUE) == value)[_COUNT]
        count = int(found[0]) if len(found) else 0
        return Frequency(value, count, count + self.error)

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain data."""
        lists = self.table.to_dict(as_series=False)
        return {
            "values": lists[_VALUE], "counts": lists[_COUNT], "rows": self.rows, "error": self.error,
            "capacity": self.capacity,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the state that :meth:`to_json` wrote."""
        values = pl.Series(_VALUE, data["values"], dtype=pl.String)
        table = pl.DataFrame({_VALUE: values, _COUNT: pl.Series(data["counts"], dtype=pl.Int64)})
        return cls(table, data["rows"], data["error"], data["capacity"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrequentValues) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]


def _fitting(table: pl.DataFrame, error: int, capacity: int) -> tuple[pl.DataFrame, int, int]:
    """Return the table in order and cut to the capacity, the rows it had, and the error."""
    rows = int(table[_COUNT].sum())
    if table.height > capacity:
        counts = table[_COUNT]
        lost = int(counts.top_k(capacity + 1).min())  # type: ignore[arg-type]
        table = table.filter(counts > lost).with_columns(pl.col(_COUNT) - lost)
        error += lost
    return table.sort(pl.col(_COUNT), pl.col(_VALUE), descending=[True, False]), rows, error
