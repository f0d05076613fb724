"""States of table rules: made of the accepted rows of a batch, merged in any order, judged at the end.

A state is plain data. Sums and means are exact for every type of number, so neither the order of merging nor the
cutting of the input shows. Quantiles come from a sketch of integer counts, which merges exactly too; its stated error
is that of the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from daskae.sketches.quantiles import QuantileSketch
from daskae.sketches.sums import ExactSum
from daskae.validate.frames import to_pandas
from daskae.validate.monotonic import merge_pieces, moved_pieces, observe_order
from daskae.validate.rules import TABLE_FUNCTION, Rule

State = dict[str, Any]


@dataclass(frozen=True)
class AcceptedRows:
    """Rows of one batch that passed all row rules, and where they stand."""

    table: pl.DataFrame
    segments: NDArray[np.int64]
    rows: NDArray[np.int64]
    """Number of each row in its segment, from 0."""


def observe(rule: Rule, accepted: AcceptedRows, samples: int) -> State:
    """Return the state of a table rule over some rows; what a user's own chunk raises is passed on."""
    if rule.kind == TABLE_FUNCTION:
        return _observe_chunk(rule, accepted.table)
    if rule.kind == "row_count":
        return {}
    column = _present(accepted.table[rule.columns[0]])
    if rule.kind == "monotonic":
        return observe_order(column, accepted.segments, accepted.rows, rule.parameters, samples)
    if rule.kind == "freshness":
        return {"n": len(column) - column.null_count(), "value": _end(column, "max")}
    return _observe_distribution(column, rule.parameters)


def _present(column: pl.Series) -> pl.Series:
    """Return a column where texts of blanks only are null, as they are to ``not_null``."""
    if column.dtype != pl.String:
        return column
    blank = (column.str.strip_chars() == "").fill_null(False)
    return column.set(blank, None) if blank.any() else column


def merge_table_states(rule: Rule, states: Sequence[State], samples: int) -> State:
    """Return the state of all rows behind some states of one rule."""
    merged = states[0]
    for state in states[1:]:
        merged = _merge(rule, merged, state, samples)
    return merged


def moved_table_state(rule: Rule, state: State, overall: Sequence[int]) -> State:
    """Return a task's state with places counted in the whole input."""
    return moved_pieces(state, overall) if rule.kind == "monotonic" else state


def _merge(rule: Rule, one: State, other: State, samples: int) -> State:
    if rule.kind == "monotonic":
        return merge_pieces(one, other, samples)
    if rule.kind == TABLE_FUNCTION:
        return _merge_chunks(rule, one, other)
    if rule.kind == "row_count":
        return {}
    n = one["n"] + other["n"]
    statistic = rule.parameters.get("statistic", "max")
    if statistic in ("min", "max"):
        ends = [state["value"] for state in (one, other) if state["value"] is not None]
        choose: Any = min if statistic == "min" else max
        return {"n": n, "value": choose(ends, key=read_plain, default=None)}
    if statistic == "share":
        return {"n": n, "hits": one["hits"] + other["hits"]}
    if statistic == "quantile":
        sketches = [QuantileSketch.from_json(state["sketch"]) for state in (one, other)]
        return {"n": n, "sketch": sketches[0].merge(sketches[1]).to_json()}
    return {"n": n, "sum": str(Fraction(one["sum"]) + Fraction(other["sum"]))}


def _observe_distribution(column: pl.Series, parameters: Mapping[str, Any]) -> State:
    statistic = parameters["statistic"]
    if column.dtype.is_float():
        column = column.filter(column.is_finite().fill_null(False))
    n = len(column) - column.null_count()
    if statistic in ("min", "max"):
        return {"n": n, "value": _end(column, statistic)}
    if statistic == "share":
        return {"n": n, "hits": int(_equal(column, parameters["value"]).sum())}
    if statistic == "quantile":
        return {"n": n, "sketch": QuantileSketch.of(column).to_json()}
    return {"n": n, "sum": str(_exact_sum(column))}


def _end(column: pl.Series, statistic: str) -> str | None:
    """Return the least or the greatest value as text that reads back exactly; numbers as fractions."""
    value: Any = column.min() if statistic == "min" else column.max()
    if value is None:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(Fraction(value))


def read_plain(text: str) -> Fraction | str:
    """Read a value of a state: a number, or the text of a date, which sorts as it is."""
    return text if "-" in text[1:] else Fraction(text)


def _exact_sum(column: pl.Series) -> Fraction:
    if column.dtype.is_float():
        return Fraction(ExactSum.of(column).units, 1 << 1074)
    if isinstance(column.dtype, pl.Decimal):
        units = column.to_physical().cast(pl.Int128).sum() or 0
        return Fraction(int(units), 10 ** (column.dtype.scale or 0))
    return Fraction(int(column.cast(pl.Int128).sum() or 0))


def _equal(column: pl.Series, value: str) -> pl.Series:
    if column.dtype == pl.String:
        return (column == value).fill_null(False)
    if column.dtype == pl.Boolean:
        return (column.cast(pl.String) == value.lower()).fill_null(False)
    number: Any = float(value) if column.dtype.is_float() else Decimal(value)
    return column.to_frame("v").select(pl.col("v") == pl.lit(number)).to_series().fill_null(False)


def _observe_chunk(rule: Rule, table: pl.DataFrame) -> State:
    """Call a user's aggregates; numbers become text that reads back exactly."""
    if rule.function is not None:
        found: Mapping[str, Any] = rule.function(to_pandas(table))
        if not isinstance(found, Mapping):
            raise TypeError(f"a dict of numbers was expected, {type(found).__name__} came")
    else:
        found = table.select(chunk.alias(name) for name, chunk in rule.chunk.items()).row(0, named=True)
    return {name: _number_text(name, found[name]) for name in sorted(found)}


def _number_text(name: str, value: Any) -> str | None:
    """Write a number as its kind and a fraction, so that merging never rounds."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or type(plain).__name__ == "NAType" or plain != plain:
        return None
    if not isinstance(plain, int | Decimal | float):
        raise TypeError(f"{name} is no number: {type(plain).__name__}")
    kind = "i" if isinstance(plain, int) else "d" if isinstance(plain, Decimal) else "f"
    return kind + str(Fraction(plain))


def read_chunk(state: State) -> dict[str, Any]:
    """Return a user's state as the numbers that the verdict gets."""
    return {name: None if text is None else _number(text) for name, text in state.items()}


def _number(text: str) -> int | float | Decimal:
    exact = Fraction(text[1:])
    if text[0] == "i":
        return int(exact)
    if text[0] == "f":
        return float(exact)
    with localcontext(prec=60):
        return Decimal(exact.numerator) / Decimal(exact.denominator)


def _merge_chunks(rule: Rule, one: State, other: State) -> State:
    merges = rule.parameters["combine"]
    merged: State = {}
    for name in sorted({*one, *other}):
        texts = [state[name] for state in (one, other) if state.get(name) is not None]
        how = merges if isinstance(merges, str) else merges.get(name, "sum")
        merged[name] = _combined(how, texts) if len(texts) > 1 else next(iter(texts), None)
    return merged


def _combined(how: str, texts: Sequence[str]) -> str:
    """Merge two numbers; the kind that holds more wins, whole numbers before decimals before floats."""
    kind = max((text[0] for text in texts), key="idf".index)
    values = [Fraction(text[1:]) for text in texts]
    return kind + str(sum(values, Fraction(0)) if how == "sum" else min(values) if how == "min" else max(values))
