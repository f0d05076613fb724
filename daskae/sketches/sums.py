"""Sums of doubles without any rounding, so that neither order nor partition shows in a total or a mean."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

_UNIT_BITS = 1074
"""All finite doubles are whole multiples of 2**-1074."""
_LOW_BITS = 26
_MOST_ROWS = 1 << 24
"""So many halves of a mantissa add up to less than 2**53, and so exactly, in one double."""


@dataclass(frozen=True)
class ExactSum:
    """How many finite values there are, and their sum in units of 2**-1074."""

    count: int = 0
    units: int = 0

    @classmethod
    def of(cls, values: pl.Series) -> Self:
        """Add up a column of numbers; nulls, NaN and infinities are left out."""
        numbers = values.cast(pl.Float64).drop_nulls().to_numpy()
        return cls.of_counts(numbers, np.ones(len(numbers), np.int64))

    @classmethod
    def of_counts(cls, numbers: NDArray[np.float64], counts: NDArray[np.int64]) -> Self:
        """Add up numbers by how often each occurs."""
        finite = np.isfinite(numbers)
        numbers, counts = numbers[finite], counts[finite]
        units, start, total = 0, 0, int(counts.sum())
        while start < len(numbers):  # as many values as keep the sums exact, a single one at least
            reach = np.cumsum(counts[start : start + _MOST_ROWS])
            stop = start + max(1, int(np.searchsorted(reach, _MOST_ROWS, side="right")))
            units += _units(numbers[start:stop], counts[start:stop])
            start = stop
        return cls(total, units)

    def merge(self, other: "ExactSum") -> "ExactSum":
        """Return the sum of both."""
        return ExactSum(self.count + other.count, self.units + other.units)

    @property
    def mean(self) -> float | None:
        """The double nearest to the true mean; None without values."""
        return None if not self.count else _double(Fraction(self.units, self.count << _UNIT_BITS))

    @property
    def total(self) -> float:
        """The double nearest to the true sum."""
        return _double(Fraction(self.units, 1 << _UNIT_BITS))

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain data; the units as hex digits."""
        return {"count": self.count, "units": hex(self.units)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the sum that :meth:`to_json` wrote."""
        return cls(data["count"], int(data["units"], 16))


def _double(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _units(numbers: NDArray[np.float64], counts: NDArray[np.int64]) -> int:
    """Add up the mantissas of each exponent, in two halves."""
    if len(numbers) == 1:  # its count may be of any size
        top, bottom = float(numbers[0]).as_integer_ratio()
        return int(counts[0]) * (top << _UNIT_BITS) // bottom
    fractions, exponents = np.frexp(numbers)
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    shifts = exponents.astype(np.int64) - 53 + _UNIT_BITS
    base = int(shifts.min())
    shifts -= base
    high = np.bincount(shifts, (mantissas >> _LOW_BITS) * counts)
    low = np.bincount(shifts, (mantissas & ((1 << _LOW_BITS) - 1)) * counts)
    total = sum(((int(high[i]) << _LOW_BITS) + int(low[i])) << int(i) for i in np.flatnonzero((high != 0) | (low != 0)))
    return total << base if base >= 0 else total >> -base
