"""Quality scores of columns and rows, as counts that add up over any parts.

A cell is good where it holds a value that could be read and no rule on its column is broken in its row; the score of a
column is the share of good cells. The score of a row is 1 less the share of row rules that it breaks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from daskae.validate.rules import Rule


@dataclass(frozen=True)
class Quality:
    """Counts over some rows."""

    columns: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Cells and good cells by column."""
    rows: Mapping[int, int] = field(default_factory=dict)
    """Rows by the number of row rules they break."""

    @classmethod
    def of(cls, table: pl.DataFrame, rules: Sequence[Rule], masks: Mapping[str, pl.Series]) -> "Quality":
        """Count a table whose unreadable cells are null, with the rows that break each row rule."""
        broken = {name: mask.to_numpy() for name, mask in masks.items()}
        columns = {}
        for name in table.columns:
            bad = table[name].is_null().to_numpy(writable=True)
            if table.schema[name] == pl.String:
                bad |= (table[name].str.strip_chars() == "").fill_null(False).to_numpy()
            for rule in rules:
                if name in rule.columns:
                    bad |= broken[rule.name]
            columns[name] = (len(bad), len(bad) - int(bad.sum()))
        counts = np.zeros(table.height, np.int64)
        for mask in broken.values():
            counts += mask
        found, times = np.unique(counts, return_counts=True)
        return cls(columns, {int(number): int(count) for number, count in zip(found, times, strict=True)})

    def merge(self, other: "Quality") -> "Quality":
        """Return the counts of both."""
        columns = dict(self.columns)
        for name, (cells, good) in other.columns.items():
            known = columns.get(name, (0, 0))
            columns[name] = (known[0] + cells, known[1] + good)
        rows = {key: self.rows.get(key, 0) + other.rows.get(key, 0) for key in sorted({*self.rows, *other.rows})}
        return Quality(columns, rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "columns": {name: list(counts) for name, counts in self.columns.items()},
            "rows": {str(key): count for key, count in self.rows.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Quality":
        """Rebuild from :meth:`to_json`."""
        columns = {name: (counts[0], counts[1]) for name, counts in data.get("columns", {}).items()}
        return cls(columns, {int(key): count for key, count in data.get("rows", {}).items()})

    def scores(self, rules: int) -> dict[str, Any]:
        """Return the scores as plain data.

        Parameters
        ----------
        rules : int
            Number of row rules; without any, every row scores 1.
        """
        total = sum(self.rows.values())
        broken = sum(number * count for number, count in self.rows.items())
        score = {number: 1 - number / rules if rules else 1.0 for number in self.rows}
        return {
            "columns": {
                name: {"cells": cells, "good": good, "score": good / cells if cells else None}
                for name, (cells, good) in self.columns.items()
            },
            "rows": {
                "rows": total,
                "mean_score": (1 - broken / (rules * total) if rules else 1.0) if total else None,
                "histogram": [
                    {"broken_rules": number, "score": round(score[number], 6), "rows": count}
                    for number, count in sorted(self.rows.items())
                ],
            },
        }
