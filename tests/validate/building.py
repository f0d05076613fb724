"""Batches and contracts for the tests of checks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from daskae.batch import Batch, Broken, Span
from daskae.config import ColumnSettings, RuleSettings
from daskae.schema import Contract, build_contract
from daskae.validate.build import build_rules
from daskae.validate.check import Checked, check_batch
from daskae.validate.rules import Rule

SOURCES = ("c", "d", "a", "q", "o", "country")
COLUMNS: dict[str, str | ColumnSettings] = {
    "customer_id": "c", "order_date": "d", "amount": "a", "quantity": "q", "order_id": "o",
    "items": ColumnSettings(column="q", dtype="integer"), "weight": ColumnSettings(column="q", dtype="float"),
    "day": ColumnSettings(column="d", dtype="date"), "paid": ColumnSettings(column="o", dtype="boolean"),
}  # fmt: skip


def contract(names: Sequence[str] = ("customer_id", "order_date", "amount", "quantity")) -> Contract:
    """Contract of some of the columns above."""
    return build_contract({name: COLUMNS[name] for name in names}, SOURCES, scale=4)


def rules(*given: Mapping[str, Any], over: Contract | None = None) -> tuple[Rule, ...]:
    """Build rules from settings as people write them."""
    return build_rules([RuleSettings(**item) for item in given], over or contract(tuple(COLUMNS)), SOURCES)


def batch(cells: pl.DataFrame, broken: Sequence[int] = (), header: Sequence[int] = ()) -> Batch:
    """Make a batch of cells; ``broken`` are rows among them that could not be split."""
    count = cells.height + len(broken)
    marks = None if not header else pl.Series([i in header for i in range(cells.height)])
    items = [Broken(row, "wrong_field_count", "3 fields expected, 1 found") for row in broken]

    def raw(rows: Any) -> tuple[pl.Series, pl.Series]:
        return pl.Series([f"row {row}" for row in rows], dtype=pl.String), pl.Series(np.asarray(rows), dtype=pl.Int64)

    return Batch(cells, count, raw, (Span(0, count),), items, is_header=marks)


def orders(**cells: Any) -> pl.DataFrame:
    """Good rows, but for the cells given."""
    rows = max((len(values) for values in cells.values()), default=1)
    good: dict[str, Any] = {
        "c": ["x"] * rows, "d": ["2024-01-01"] * rows, "a": ["10"] * rows, "q": ["1"] * rows, "o": ["true"] * rows,
        "country": ["NL"] * rows,
    }  # fmt: skip
    return pl.DataFrame(good | cells)


def check(
    cells: pl.DataFrame,
    *given: Mapping[str, Any],
    broken: Sequence[int] = (),
    header: Sequence[int] = (),
    **options: Any,
) -> Checked:
    """Check rows against some rules."""
    over = contract()
    kept = ["customer_id", "amount"]
    return check_batch(batch(cells, broken, header), over, rules(*given, over=over), kept, **options)
