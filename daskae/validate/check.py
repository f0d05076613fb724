"""Check one batch: split its rows into accepted and rejected, and count for every rule.

Conservation holds by construction and is asserted: each row read ends in exactly one of the two tables.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from daskae.batch import Batch
from daskae.schema import Contract
from daskae.validate.cast import CastTable, Failure, cast_table, shown_text
from daskae.validate.evidence import Shown, row_states, table_states
from daskae.validate.quality import Quality
from daskae.validate.row_rules import judge_rows, require_repeatable
from daskae.validate.rules import Rule
from daskae.validate.states import RuleState

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


Change = Callable[[pl.DataFrame], tuple[pl.DataFrame, list[tuple[str, str, NDArray[np.bool_]]]]]
"""Gives back the rows that are left of some, changed, and by name and column which of them it rejected."""


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
    counts: dict[str, RuleState] = field(default_factory=dict)
    quality: Quality | None = None
    """Counts for quality scores, where they were asked for."""


@dataclass(frozen=True)
class _Check:
    name: str
    column: str
    mask: pl.Series


def check_batch(
    batch: Batch,
    contract: Contract,
    rules: Sequence[Rule],
    keep: Sequence[str],
    *,
    done: Sequence[int] = (),
    samples: int = 0,
    thorough: bool = False,
    before: Change | None = None,
    after: Change | None = None,
    again: bool = False,
) -> Checked:
    """Cast and check the rows of one batch.

    Parameters
    ----------
    batch : Batch
        Its broken rows are left out here.
    contract : Contract
    rules : sequence of Rule
        Unique rules are left to later stages; table rules look at the rows that are accepted here.
    keep : sequence of str
        Contract or source columns that accepted rows need later.
    done : sequence of int
        Rows of each segment in earlier batches.
    samples : int
        How many rows are shown for each rule.
    thorough : bool
        Whether to count for quality scores.
    before, after : callable, optional
        Change the rows that satisfy the contract before the rules see them, and the rows that the rules accepted.
    again : bool
        Whether functions of a person's own are called a second time with the first rows.
    """
    cells, rows = batch.cells, batch.row_numbers()
    cast = cast_table(cells, contract)
    table, dead, asked = _table_to_judge(cast, batch, before)
    row_rules = [rule for rule in rules if rule.is_row]
    judged = {rule.name: judge_rows(rule, table, cells.height) for rule in row_rules}
    if again:
        require_repeatable(row_rules, judged, table)
    masks = {name: item.mask if asked is None else item.mask & asked for name, item in judged.items()}
    failures = _without_headers(cast.failures, batch.is_header)
    shown = _shown(cells, contract)
    counts = row_states(row_rules, judged, masks, batch.places(rows, done), shown, samples)
    checks = [*_judge(failures, row_rules, masks, batch.is_header, counts), *dead]
    quality = Quality.of(table, row_rules, masks) if thorough else None
    good = _unbroken(checks)
    accepted, kept_rows = table, rows
    if good is not None:
        needed = [name for rule in rules if rule.is_table for name in rule.columns]
        wanted = table.columns if after is not None else list(dict.fromkeys([*keep, *needed]))
        accepted, kept_rows = table.select(wanted).filter(good), rows[good.to_numpy()]
    counts |= table_states([rule for rule in rules if rule.is_table], accepted, kept_rows, batch, done, samples)
    if after is not None:
        accepted, marks = after(accepted)
        checks += _spread(marks, good, cells.height)
        good = _unbroken(checks)
    if good is None:
        return Checked(accepted.select(keep), rows, None, pl.DataFrame(schema=_SHORT_SCHEMA), counts, quality)
    kept = good.to_numpy()
    rejected = _rejected(checks, np.flatnonzero(~kept), rows, cells, contract)
    return Checked(accepted.select(keep), rows[kept], good, rejected, counts, quality)


def _table_to_judge(
    cast: CastTable, batch: Batch, before: Change | None
) -> tuple[pl.DataFrame, list[_Check], pl.Series | None]:
    """Return the rows as rules see them, what was rejected before, and which rows rules are asked of."""
    cells = batch.cells
    others = [_as_text(cells[name]) for name in cells.columns if name not in cast.table.columns]
    table = cast.table.with_columns(others)
    if before is not None:
        return _changed_first(table, cast.failures, batch.is_header, before)
    return table, [], None if batch.is_header is None else ~batch.is_header


def _unbroken(checks: Sequence[_Check]) -> pl.Series | None:
    """Return which rows pass all checks; None for all."""
    return ~pl.Series(np.logical_or.reduce([check.mask.to_numpy() for check in checks])) if checks else None


def _changed_first(
    table: pl.DataFrame, failures: Sequence[Failure], is_header: pl.Series | None, change: Change
) -> tuple[pl.DataFrame, list[_Check], pl.Series | None]:
    """Change the rows that satisfy the contract; return all rows, what was rejected, and which rows rules are asked of.

    Rows that no rule is asked of keep the values they had, so that they can be counted and shown.
    """
    broken = [item.mask for item in failures] + ([] if is_header is None else [is_header])
    good = ~pl.Series(np.logical_or.reduce([mask.to_numpy() for mask in broken])) if broken else None
    changed, marks = change(table if good is None else table.filter(good))
    dead = _spread(marks, good, table.height)
    asked = _unbroken(dead) if good is None else (good if not dead else good & _unbroken(dead))
    if asked is None:
        return changed, dead, None
    order = np.argsort(np.concatenate([asked.arg_true().to_numpy(), (~asked).arg_true().to_numpy()]))
    rest = table.filter(~asked).select(
        pl.col(name) if table.schema.get(name) == dtype else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in changed.schema.items()
    )
    return pl.concat([changed, rest])[order], dead, asked


def _spread(marks: Sequence[tuple[str, str, NDArray[np.bool_]]], good: pl.Series | None, height: int) -> list[_Check]:
    """Turn marks of some rows into checks of all."""
    places = np.arange(height) if good is None else good.arg_true().to_numpy()
    checks = []
    for name, column, mask in marks:
        whole = np.zeros(height, bool)
        whole[places[mask]] = True
        checks.append(_Check(name, column, pl.Series(whole)))
    return checks


def _without_headers(failures: Sequence[Failure], is_header: pl.Series | None) -> Sequence[Failure]:
    """Return what breaks the contract, where a repeated header is that and nothing else."""
    if is_header is None:
        return failures
    return [Failure(item.reason, item.column, item.mask & ~is_header) for item in failures]


def _shown(cells: pl.DataFrame, contract: Contract) -> Shown:
    """Return the function that gives the source text of what a rule looks at."""
    sources = {column.name: column.sources for column in contract.columns}

    def texts(rule: Rule, rows: NDArray[np.int64]) -> list[str | None]:
        names = [source for name in rule.columns for source in sources.get(name, (name,))]
        names = [name for name in dict.fromkeys(names) if name in cells.columns]
        if not names:
            return [None] * len(rows)
        return _cell_text(cells.select(names)[rows]).to_list()

    return texts


def _as_text(values: pl.Series) -> pl.Series:
    """Source columns that are not of the contract are text to rules, whatever the source's type."""
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        return shown_text(values)
    return values.cast(pl.String, strict=False)


def _judge(
    failures: Sequence[Failure],
    rules: Sequence[Rule],
    masks: dict[str, pl.Series],
    is_header: pl.Series | None,
    counts: dict[str, RuleState],
) -> list[_Check]:
    """List the checks that some row fails, in their order, and count those of the contract."""
    checks = []
    if is_header is not None:
        checks.append(_Check("repeated_header", "", is_header))
        counts["repeated_header"] = RuleState(len(is_header), int(is_header.sum()))
    for reason in dict.fromkeys(item.reason for item in failures):
        same = [item for item in failures if item.reason == reason]
        checks += [_Check(reason, item.column, item.mask) for item in same]
        together = np.logical_or.reduce([item.mask.to_numpy() for item in same])
        counts[reason] = RuleState(len(together), int(together.sum()))
    for rule in rules:
        if rule.rejects and counts[rule.name].affected:
            checks.append(_Check(rule.name, rule.columns[0] if rule.columns else "", masks[rule.name]))
    return checks


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
    texts = pl.DataFrame([shown_text(values).fill_null("") for values in cells.get_columns()])
    return texts.select(pl.concat_str(pl.all(), separator=", ").str.head(200).alias("v")).to_series()
