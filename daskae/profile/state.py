"""What is known of a column and of a table so far: sums, ends and sketches, which merge to those of all parts."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Self

import polars as pl

from daskae.sketches.distinct import DistinctSketch
from daskae.sketches.frequent import FrequentValues
from daskae.sketches.quantiles import QuantileSketch
from daskae.sketches.sums import ExactSum

KEPT_VALUES = 2_000
"""Values, and shapes, counted exactly."""

Ends = dict[str, tuple[str, str]]
_KEYS: Mapping[str, Any] = {"integer": int, "length": int, "scale": int, "decimal": Decimal, "float": float}


@dataclass(frozen=True)
class ColumnState:
    """State of one column; partitions of the same rows give the same state, but for values beyond KEPT_VALUES."""

    counts: Counter[str]
    """``rows``; ``nulls`` (with empty cells and null texts); ``blanks`` (texts of blanks only); of the rest: how many
    can be read as what (``integer`` ... or a date format), ``edge_blanks``, ``leading_zeros``, ``email``, ``long``
    (too long for a shape); ``length`` is the sum of their lengths."""
    ends: Ends
    """Smallest and largest, as texts, by what the values are read as; also of ``length`` and of ``scale``, the digits
    after the point."""
    types: frozenset[str]
    """How the sources store it."""
    numbers: QuantileSketch
    total: ExactSum
    distinct: DistinctSketch
    values: FrequentValues
    """Long texts are cut."""
    shapes: FrequentValues

    @classmethod
    def nothing(cls) -> Self:
        """Return the state of no rows."""
        none = pl.Series([], dtype=pl.String)
        numbers = pl.Series([], dtype=pl.Float64)
        return cls(
            Counter(), {}, frozenset(), QuantileSketch.of(numbers), ExactSum(), DistinctSketch.of(none),
            FrequentValues.of(none, KEPT_VALUES), FrequentValues.of(none, KEPT_VALUES),
        )  # fmt: skip

    def merge(self, other: "ColumnState") -> "ColumnState":
        """Return the state of the rows of both."""
        return ColumnState(
            self.counts + other.counts, _merge_ends(self.ends, other.ends), self.types | other.types,
            self.numbers.merge(other.numbers), self.total.merge(other.total), self.distinct.merge(other.distinct),
            self.values.merge(other.values), self.shapes.merge(other.shapes),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain data."""
        ends = {key: list(pair) for key, pair in sorted(self.ends.items())}
        return {
            "counts": dict(sorted(self.counts.items())), "ends": ends,
            "types": sorted(self.types), "numbers": self.numbers.to_json(), "total": self.total.to_json(),
            "distinct": self.distinct.to_json(), "values": self.values.to_json(), "shapes": self.shapes.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the state that :meth:`to_json` wrote."""
        return cls(
            Counter(data["counts"]), {key: (low, high) for key, (low, high) in data["ends"].items()},
            frozenset(data["types"]), QuantileSketch.from_json(data["numbers"]), ExactSum.from_json(data["total"]),
            DistinctSketch.from_json(data["distinct"]), FrequentValues.from_json(data["values"]),
            FrequentValues.from_json(data["shapes"]),
        )  # fmt: skip


def _merge_ends(one: Ends, other: Ends) -> Ends:
    merged = dict(one)
    for name, (low, high) in other.items():
        key = _KEYS.get(name, str)
        lows, highs = [low], [high]
        if name in one:
            lows, highs = [one[name][0], low], [one[name][1], high]
        merged[name] = (min(lows, key=key), max(highs, key=key))
    return merged


@dataclass(frozen=True)
class TableState:
    """State of a source."""

    rows: int = 0
    """Records read, broken ones and repeated headers included."""
    broken: Counter[str] = field(default_factory=Counter)
    """Records that are no rows, by reason."""
    columns: dict[str, ColumnState] = field(default_factory=dict)

    def merge(self, other: "TableState") -> "TableState":
        """Return the state of the rows of both."""
        columns = dict(self.columns)
        for name, state in other.columns.items():
            columns[name] = columns[name].merge(state) if name in columns else state
        return TableState(self.rows + other.rows, self.broken + other.broken, columns)

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain data."""
        columns = {name: state.to_json() for name, state in self.columns.items()}
        return {"rows": self.rows, "broken": dict(sorted(self.broken.items())), "columns": columns}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the state that :meth:`to_json` wrote."""
        columns = {name: ColumnState.from_json(state) for name, state in data["columns"].items()}
        return cls(data["rows"], Counter(data["broken"]), columns)
