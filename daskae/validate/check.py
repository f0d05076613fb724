"""Check one batch: split its rows into accepted and rejected, and count for every rule.

Conservation holds by construction and is asserted: each row read ends in exactly one of the two tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from daskae.batch import Batch
from daskae.schema import Contract
from daskae.validate.cast import Failure, cast_table, evaluate
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
    """The columns asked for, of the rows kept."""
    rows: NDArray[np.int64]
    """Index in the batch of each accepted row."""
    mask: pl.Series | None
    """Which rows of the batch's cells were accepted; None for all."""
    rejected: pl.DataFrame
    """REJECT_SCHEMA without ``raw`` and ``byte_offset``; ``row`` is the index in the batch."""
    counts: dict[str, RuleCounts] = field(default_factory=dict)


@dataclass(frozen=True)
class _Check:
    name: str
    column: str
    mask: pl.Series


def check_batch(batch: Batch, contract: Contract, rules: Sequence[Rule], keep: Sequence[str]) -> Checked:
    """Cast and check the rows of one batch.

    Parameters
    ----------
    batch : Batch
        Its broken rows are left out here.
    contract : Contract
    rules : sequence of Rule
        Global rules are left to later stages.
    keep : sequence of str
        Contract or source columns that accepted rows need later.
    """
    cells, rows = batch.cells, batch.row_numbers()
    cast = cast_table(cells, contract)
    others = [_as_text(cells[name]) for name in cells.columns if name not in cast.table.columns]
    table = cast.table.with_columns(others)
    row_rules = [rule for rule in rules if rule.breaks is not None]
    masks = {rule.name: evaluate(table, _breaks(rule), cells.height) for rule in row_rules}
    checks, counts = _judge(cast.failures, row_rules, masks, batch.is_header)
    kept = table.select(keep)
    if not checks:
        return Checked(kept, rows, None, pl.DataFrame(schema=_SHORT_SCHEMA), counts)
    broken = np.logical_or.reduce([check.mask.to_numpy() for check in checks])
    where = np.flatnonzero(broken)
    rejected = _rejected(checks, where, rows, cells, contract)
    good = pl.Series(~broken)
    return Checked(kept.filter(good), rows[~broken], good, rejected, counts)


def _as_text(values: pl.Series) -> pl.Series:
    """Source columns that are not of the contract are text to rules, whatever the source's type."""
    if values.dtype.is_nested():
        return pl.Series(values.name, [None if value is None else str(value) for value in values.to_list()], pl.String)
    return values.cast(pl.String, strict=False)


def _breaks(rule: Rule) -> pl.Expr:
    return pl.lit(False) if rule.breaks is None else rule.breaks.fill_null(False)


def _judge(
    failures: Sequence[Failure],
    rules: Sequence[Rule],
    masks: dict[str, pl.Series],
    is_header: pl.Series | None,
) -> tuple[list[_Check], dict[str, RuleCounts]]:
    """List the checks that some row fails, in their order, and count for every rule."""
    if is_header is not None:  # a repeated header is that and nothing else
        masks = {name: mask & ~is_header for name, mask in masks.items()}
        failures = [Failure(item.reason, item.column, item.mask & ~is_header) for item in failures]
    counts = {rule.name: RuleCounts(len(masks[rule.name]), int(masks[rule.name].sum())) for rule in rules}
    checks = []
    if is_header is not None:
        checks.append(_Check("repeated_header", "", is_header))
        counts["repeated_header"] = RuleCounts(len(is_header), int(is_header.sum()))
    for reason in dict.fromkeys(item.reason for item in failures):
        same = [item for item in failures if item.reason == reason]
        checks += [_Check(reason, item.column, item.mask) for item in same]
        together = np.logical_or.reduce([item.mask.to_numpy() for item in same])
        counts[reason] = RuleCounts(len(together), int(together.sum()))
    for rule in rules:
        if rule.rejects and counts[rule.name].affected:
            checks.append(_Check(rule.name, rule.columns[0] if rule.columns else "", masks[rule.name]))
    return checks, counts


_SHORT_SCHEMA = pl.Schema({name: REJECT_SCHEMA[name] for name in ("row", "reason", "reasons", "column", "value")})


def _rejected(
    checks: list[_Check], where: NDArray[np.int64], rows: NDArray[np.int64], cells: pl.DataFrame, contract: Contract
) -> pl.DataFrame:
    """Describe rejected rows: all reasons in order, and the cell behind the first."""
    broken = np.stack([check.mask.to_numpy()[where] for check in checks], axis=1)
    first = broken.argmax(axis=1)
    sources = {column.name: column.sources for column in contract.columns}
    shown = [[n for n in sources.get(check.column, (check.column,)) if n in cells.columns] for check in checks]
    names, columns = pl.Series([check.name for check in checks]), pl.Series([", ".join(item) or None for item in shown])
    values = pl.repeat(None, len(where), dtype=pl.String, eager=True)
    for i in np.unique(first):
        if shown[i]:
            hit = np.flatnonzero(first == i)
            values = values.scatter(hit, _cell_text(cells.select(shown[i])[where[hit]]))
    return pl.DataFrame(
        {
            "row": rows[where],
            "reason": names.gather(first),
            "reasons": _reason_lists(broken, [check.name for check in checks]),
            "column": columns.cast(pl.String).gather(first),
            "value": values,
        }
    )


def _reason_lists(broken: NDArray[np.bool_], names: list[str]) -> pl.Series:
    """Turn a table of rows by checks into lists of reasons, each reason once."""
    unique = list(dict.fromkeys(names))
    merged = np.stack([broken[:, [n == name for n in names]].any(axis=1) for name in unique], axis=1)
    row, reason = np.nonzero(merged)
    offsets = np.searchsorted(row, np.arange(len(merged) + 1)).astype(np.int64)
    texts = pl.Series(unique).gather(reason).to_arrow()
    return pl.Series(pl.from_arrow(pa.LargeListArray.from_arrays(pl.Series(offsets).to_arrow(), texts)))


def _cell_text(cells: pl.DataFrame) -> pl.Series:
    texts = [pl.col(name).cast(pl.String).fill_null("") for name in cells.columns]
    return cells.select(pl.concat_str(texts, separator=", ").str.head(200).alias("v")).to_series()
