"""Check one batch: split its rows into accepted and rejected, and count for every rule.

Conservation holds by construction and is asserted: each row read ends in exactly one of the two tables.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from daskae.schema import Contract
from daskae.validate.cast import CastTable, cast_table
from daskae.validate.rules import Rule

REJECT_SCHEMA = pl.Schema(
    {
        "row": pl.Int64(),
        "reason": pl.String(),
        "reasons": pl.List(pl.String()),
        "column": pl.String(),
        "value": pl.String(),
        "raw": pl.String(),
        "byte_offset": pl.Int64(),
    }
)
"""Rejected rows as a task leaves them; ``row`` counts from 0 within the segment."""


@dataclass
class RuleCounts:
    """Mergeable counts of one rule."""

    checked: int = 0
    affected: int = 0


@dataclass
class Checked:
    """The outcome for one batch."""

    accepted: pl.DataFrame
    """Contract columns, and source columns that rules or keys need, of the rows kept."""
    rows: NDArray[np.int64]
    """Index in the batch of each accepted row."""
    rejected: pl.DataFrame
    """REJECT_SCHEMA without ``raw`` and ``byte_offset``; ``row`` is the index in the batch."""
    counts: dict[str, RuleCounts] = field(default_factory=dict)


@dataclass(frozen=True)
class _Check:
    name: str
    column: str
    mask: pl.Series


def check_batch(cells: pl.DataFrame, rows: NDArray[np.int64], contract: Contract, rules: Sequence[Rule]) -> Checked:
    """Cast and check the rows of one batch.

    Parameters
    ----------
    cells : DataFrame
        Source columns, as read.
    rows : ndarray of int64
        Index in the batch of each row of ``cells``.
    contract : Contract
    rules : sequence of Rule
        Global rules are left to later stages.
    """
    cast = cast_table(cells, contract)
    table = cast.table.with_columns([cells[name] for name in cells.columns if name not in cast.table.columns])
    row_rules = [rule for rule in rules if rule.breaks is not None]
    masks = table.select([rule.breaks.fill_null(False).alias(rule.name) for rule in row_rules if rule.breaks is not None])
    counts = {rule.name: RuleCounts(cells.height, int(masks[rule.name].sum())) for rule in row_rules}
    checks = [_Check(failure.reason, failure.column, failure.mask) for failure in cast.failures]
    checks += [
        _Check(rule.name, rule.columns[0] if rule.columns else "", masks[rule.name])
        for rule in row_rules
        if rule.rejects and counts[rule.name].affected
    ]
    if not checks:
        return Checked(table, rows, pl.DataFrame(schema=_SHORT_SCHEMA), counts)
    broken = np.logical_or.reduce([check.mask.to_numpy() for check in checks])
    where = np.flatnonzero(broken)
    rejected = _rejected(checks, where, rows, cells, cast, contract)
    kept = ~broken
    return Checked(table.filter(pl.Series(kept)), rows[kept], rejected, counts)


_SHORT_SCHEMA = pl.Schema({name: REJECT_SCHEMA[name] for name in ("row", "reason", "reasons", "column", "value")})


def _rejected(
    checks: list[_Check],
    where: NDArray[np.int64],
    rows: NDArray[np.int64],
    cells: pl.DataFrame,
    cast: CastTable,
    contract: Contract,
) -> pl.DataFrame:
    """Describe rejected rows: all reasons in order, and the cell behind the first."""
    sources = {column.name: column.sources for column in contract.columns}
    names, columns, values = [], [], []
    for i, check in enumerate(checks):
        hit = check.mask.gather(where)
        names.append(pl.select(pl.when(hit).then(pl.lit(check.name))).to_series().alias(f"n{i}"))
        shown = [name for name in sources.get(check.column, (check.column,)) if name in cells.columns]
        picked = cells.select(shown)[where]
        text = _cell_text(picked) if shown else pl.repeat(None, len(where), dtype=pl.String, eager=True)
        columns.append(pl.select(pl.when(hit).then(pl.lit(", ".join(shown)))).to_series().alias(f"c{i}"))
        values.append(pl.select(pl.when(hit).then(text)).to_series().alias(f"v{i}"))
    frame = pl.DataFrame([pl.Series("row", rows[where]), *names, *columns, *values])
    many = range(len(checks))
    return frame.select(
        "row",
        pl.coalesce([f"n{i}" for i in many]).alias("reason"),
        pl.concat_list([f"n{i}" for i in many]).list.drop_nulls().list.unique(maintain_order=True).alias("reasons"),
        pl.coalesce([f"c{i}" for i in many]).alias("column"),
        pl.coalesce([pl.when(pl.col(f"n{i}").is_not_null()).then(f"v{i}") for i in many]).alias("value"),
    )


def _cell_text(cells: pl.DataFrame) -> pl.Series:
    texts = [pl.col(name).cast(pl.String).fill_null("") for name in cells.columns]
    return cells.select(pl.concat_str(texts, separator=", ").str.head(200).alias("v")).to_series()


def first_reasons(rejected: pl.DataFrame) -> Counter[str]:
    """Count rejected rows by the first rule they broke."""
    return Counter(dict(rejected["reason"].value_counts().iter_rows()))
