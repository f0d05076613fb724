"""Evaluate row rules on a table: which rows break each, how long it took, and what failed inside a rule itself.

A rule that raises is not the end of a task. The rows are halved until those for which it raises stand alone; they are
counted as errors of the rule and not as rows that break it. A rule that raises for too many rows of a batch counts as
failed for all of the batch, so that one that always raises costs no more than one that works.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from daskae.errors import DaskaeError
from daskae.repeats import SAMPLE_ROWS, require_same_values
from daskae.schema import Column, Contract
from daskae.validate.cast import cast_table, evaluate
from daskae.validate.frames import from_pandas, to_pandas
from daskae.validate.reference import is_missing
from daskae.validate.rules import Rule

MOST_ERRORS = 64
"""Rows of a batch for which a rule may raise before it counts as failed for all of them."""


@dataclass(frozen=True)
class Judged:
    """What one rule says of a table's rows."""

    mask: pl.Series
    """True where a row breaks it."""
    seconds: float
    errors: int = 0
    error: str = ""


class _ManyErrorsError(Exception):
    """A rule raises for more rows than are worth looking for."""


def judge_rows(rule: Rule, table: pl.DataFrame, height: int) -> Judged:
    """Say which rows break a row rule.

    Parameters
    ----------
    rule : Rule
    table : DataFrame
        Contract columns, and other source columns as text; it may have no columns at all.
    height : int
        Number of rows.
    """
    begun = time.perf_counter()
    broken = _function(rule)
    try:
        mask, errors, error = broken(table, height), 0, ""
    except (DaskaeError, MemoryError):
        raise  # no verdict: a smaller part of the input may fit
    except Exception as failure:
        mask, errors, error = _by_halves(broken, table, height, failure)
    return Judged(mask, time.perf_counter() - begun, errors, error)


def require_repeatable(rules: Sequence[Rule], judged: Mapping[str, Judged], table: pl.DataFrame) -> None:
    """Judge the first rows once more by the rules that are functions, and compare.

    Raises
    ------
    DaskaeError
    """
    head = table.head(SAMPLE_ROWS)
    for rule in rules:
        first = judged[rule.name]
        if rule.function is not None and head.height and not first.errors:
            again = judge_rows(rule, head, head.height)
            where = f"rule {rule.name}"
            require_same_values(pl.DataFrame({"rejected": first.mask}), pl.DataFrame({"rejected": again.mask}), where)


def _function(rule: Rule) -> Callable[[pl.DataFrame, int], pl.Series]:
    """Return the function that gives the rows that break a rule."""
    breaks, function = rule.breaks, rule.function
    if breaks is not None:
        return lambda table, height: evaluate(table, breaks.fill_null(False), height)
    if function is not None:
        return lambda table, height: (
            ~from_pandas(function(to_pandas(table.select(rule.columns))), height).fill_null(True)
        )
    column = rule.columns[0]
    if rule.kind == "reference":
        return lambda table, _: is_missing(table[column], Path(rule.keys))
    return lambda table, _: _unreadable(table[column], rule)


def _by_halves(
    broken: Callable[[pl.DataFrame, int], pl.Series], table: pl.DataFrame, height: int, failure: Exception
) -> tuple[pl.Series, int, str]:
    """Halve the rows until those for which a rule raises stand alone."""
    texts = [error_text(failure)]
    alone: list[str] = []

    def judged(part: pl.DataFrame, rows: int) -> pl.Series:
        try:
            return broken(part, rows)
        except (DaskaeError, MemoryError):
            raise
        except Exception as error:
            if rows <= 1:
                alone.append(error_text(error))
                if len(alone) > MOST_ERRORS:
                    raise _ManyErrorsError from None
                return _no_rows(rows)
        half = rows // 2
        return pl.concat([judged(part.head(half), half), judged(part.tail(rows - half), rows - half)])

    try:
        mask = judged(table, height)
    except _ManyErrorsError:
        return _no_rows(height), height, min(alone)
    # A function that fails for many rows at once but for none of them alone has no failing row to name.
    return (mask, len(alone), min(alone)) if alone else (mask, 0, texts[0])


def _no_rows(height: int) -> pl.Series:
    return pl.repeat(False, height, dtype=pl.Boolean, eager=True)


def error_text(error: Exception) -> str:
    """Write the type and the text of an exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _unreadable(values: pl.Series, rule: Rule) -> pl.Series:
    """Whether a text cannot be read as a type, exactly as the contract would read it."""
    given = rule.parameters
    column = Column("cell", given["dtype"], "cell", False, tuple(given["formats"]))
    contract = Contract((column,), given["scale"], tuple(given["null_values"]), given["timezone"])
    failures = cast_table(values.alias("cell").to_frame(), contract).failures
    mask = _no_rows(len(values))
    for failure in failures:
        mask |= failure.mask
    return mask
