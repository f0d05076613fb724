"""States that one batch leaves of its rules: counts, the first rows that break each, and what table rules keep."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from daskae.batch import Batch
from daskae.errors import DaskaeError
from daskae.validate.row_rules import Judged, error_text
from daskae.validate.rules import Rule
from daskae.validate.states import RuleState, Sample
from daskae.validate.table_states import AcceptedRows, observe

Shown = Callable[[Rule, NDArray[np.int64]], list[str | None]]
"""Gives the text of what a rule looks at, for some rows."""


def row_states(
    rules: Sequence[Rule],
    judged: Mapping[str, Judged],
    masks: Mapping[str, pl.Series],
    places: tuple[NDArray[np.int64], NDArray[np.int64]],
    shown: Shown,
    samples: int,
) -> dict[str, RuleState]:
    """Return the states of row rules.

    Parameters
    ----------
    rules : sequence of Rule
    judged, masks : mapping
        By rule name; the masks leave out what no rule is asked about.
    places : tuple of ndarray
        Segment of each row, and its number in the segment.
    shown : callable
    samples : int
        How many rows are shown.
    """
    states = {}
    for rule in rules:
        mask, found = masks[rule.name], judged[rule.name]
        affected = int(mask.sum())
        rows = mask.arg_true().head(samples).to_numpy().astype(np.int64) if affected and samples else np.empty(0, int)
        first = _samples(rows, places, shown(rule, rows)) if len(rows) else []
        states[rule.name] = RuleState(
            len(mask), affected, found.errors, found.error, first, None, found.seconds, rule.fingerprint
        )
    return states


def _samples(
    rows: NDArray[np.int64], places: tuple[NDArray[np.int64], NDArray[np.int64]], texts: Sequence[str | None]
) -> list[Sample]:
    segments, numbers = places
    return [[[int(segments[i]), int(numbers[i])], text] for i, text in zip(rows, texts, strict=True)]


def table_states(
    rules: Sequence[Rule], accepted: pl.DataFrame, rows: NDArray[np.int64], batch: Batch, done: Sequence[int],
    samples: int,
) -> dict[str, RuleState]:  # fmt: skip
    """Return the states of table rules; one that fails inside leaves the error instead.

    Parameters
    ----------
    rules : sequence of Rule
    accepted : DataFrame
        Rows that passed all row rules, with the columns that the rules look at.
    rows : ndarray
        Index in the batch of each of them.
    batch : Batch
    done : sequence of int
        Rows read before this batch, by segment.
    samples : int
    """
    if not rules:
        return {}
    states = {}
    segments, numbers = batch.places(rows, done)
    for rule in rules:
        begun = time.perf_counter()
        height = accepted.height
        try:
            # Without any column a table would have no rows to count.
            seen = accepted.select(rule.columns or accepted.columns)
            table = observe(rule, AcceptedRows(seen, segments, numbers), samples)
            state = RuleState(height, table=table, rule=rule.fingerprint)
        except (DaskaeError, MemoryError):
            raise
        except Exception as failure:
            state = RuleState(height, errors=height, error=error_text(failure), rule=rule.fingerprint)
        states[rule.name] = RuleState(**{**state.__dict__, "seconds": time.perf_counter() - begun})
    return states
