"""How many different values there are: exact below 4,096, then an estimate with a stated error.

The state is the 4,096 smallest hashes (k minimum values; Bar-Yossef and others 2002, Beyer and others 2007). It is a
set, so the same values again change nothing, and parts may overlap, be cut and merged in any way.
"""

import base64
import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from daskae.hashing import hash_text

KEPT_HASHES = 4096
RELATIVE_ERROR = 1 / math.sqrt(KEPT_HASHES - 2)
"""Standard error of an estimate, as a share of the true number; exact counts have none."""
_ROTATION, _MIX = np.uint64(32), np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, eq=False)
class DistinctSketch:
    """The smallest hashes of a set of values, ascending."""

    hashes: NDArray[np.uint64]

    @classmethod
    def of(cls, values: pl.Series) -> Self:
        """Take in a column; nulls are left out, and what is not text is taken by its text."""
        texts = values.drop_nulls().cast(pl.String)
        return cls.of_unique(texts.unique()) if len(texts) > KEPT_HASHES else cls.of_unique(texts)

    @classmethod
    def of_unique(cls, texts: pl.Series) -> Self:
        """Take in texts that are known to differ, without nulls; equal ones do no harm but cost time."""
        return cls(_smallest(_spread(hash_text(texts))))

    def merge(self, other: "DistinctSketch") -> "DistinctSketch":
        """Return the sketch of the values of both."""
        return DistinctSketch(_smallest(np.concatenate([self.hashes, other.hashes])))

    @property
    def is_exact(self) -> bool:
        """Whether the number is exact; hashes of 64 bits of so few values do not meet."""
        return len(self.hashes) < KEPT_HASHES

    @property
    def estimate(self) -> int:
        """How many different values there are."""
        if self.is_exact:
            return len(self.hashes)
        return round((KEPT_HASHES - 1) / ((float(self.hashes[-1]) + 1) / 2.0**64))

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain data: the hashes in base 64, little-endian."""
        return {"hashes": base64.b64encode(self.hashes.astype("<u8").tobytes()).decode()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the sketch that :meth:`to_json` wrote."""
        return cls(np.frombuffer(base64.b64decode(data["hashes"]), "<u8").astype(np.uint64))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DistinctSketch) and np.array_equal(self.hashes, other.hashes)

    __hash__ = None  # type: ignore[assignment]


def _spread(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix once more: the order of the hashes decides here, and it must not follow the texts."""
    hashes = (hashes ^ (hashes >> _ROTATION)) * _MIX
    return hashes ^ (hashes >> _ROTATION)


def _smallest(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the smallest different hashes, ascending."""
    if len(hashes) > 4 * KEPT_HASHES:
        few = np.unique(np.partition(hashes, 2 * KEPT_HASHES)[: 2 * KEPT_HASHES])
        if len(few) >= KEPT_HASHES:
            return few[:KEPT_HASHES].copy()
    return np.unique(hashes)[:KEPT_HASHES].copy()
