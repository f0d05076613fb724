"""Run steps on batches of rows.

Rows that a step rejects are named and left out of what follows. Where a step may fail on single rows, a batch on which
it fails is halved until those rows stand alone: so which rows are left as they are does not depend on which other rows
came with them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from daskae.errors import DaskaeError
from daskae.repeats import SAMPLE_ROWS, require_same_values
from daskae.schema import REQUIRED
from daskae.transform.conditions import holds
from daskae.transform.enrich import joined
from daskae.transform.functions import call_function
from daskae.transform.kinds import LARGEST
from daskae.transform.operations import REJECTED, Expressions, Lookup, Operation, ReadyStep, UserFunction
from daskae.transform.states import StepState

Dimensions = Callable[[Lookup], pl.DataFrame]
"""Gives the rows of a dimension."""
Mark = tuple[str, str, NDArray[np.bool_]]
"""A step's name, the column it works on, and which rows it rejected."""


@dataclass
class Runner:
    """The steps of one partition, and what became of its rows."""

    facts: dict[str, int]
    """Of the partition."""
    dimensions: Dimensions
    states: dict[str, StepState] = field(default_factory=dict)
    checks_repeats: bool = False
    """Whether functions are called a second time with the first rows they see."""

    def __post_init__(self) -> None:
        self._new: set[str] = set()

    def run(self, steps: Sequence[ReadyStep], table: pl.DataFrame) -> tuple[pl.DataFrame, list[Mark]]:
        """Run some steps on a batch.

        Returns
        -------
        table : DataFrame
            The rows that are left, in their order.
        marks : list of (name, column, mask)
            For each step that rejected rows, which of the rows given they are.

        Raises
        ------
        DaskaeError
            If a step fails whose errors are not to be passed over.
        """
        height = table.height
        places = np.arange(height)
        marks: list[Mark] = []
        for step in steps:
            table, rejected = self._one(step, table)
            if rejected is not None and rejected.any():
                mask = np.zeros(height, bool)
                lost = rejected.to_numpy()
                mask[places[lost]] = True
                marks.append((step.name, _shown_column(step.operation), mask))
                table, places = table.filter(~rejected), places[~lost]
        return table, marks

    def _one(self, step: ReadyStep, table: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series | None]:
        state = self.states.get(step.name)
        runs = not step.condition or holds(step.condition, {**self.facts, **dict(step.facts)}, f"step {step.name}")
        if state is None:
            self._new.add(step.name)
            state = self.states[step.name] = StepState(partitions=1, skipped=0 if runs else 1)
        begun = time.perf_counter()
        state.rows_in += table.height
        if not runs or not table.height:
            result, rejected = _left_as_is(step, table), None
        else:
            result, rejected = self._attempt(step, table, state)
        state.rows_out += table.height - (0 if rejected is None else int(rejected.sum()))
        state.seconds += time.perf_counter() - begun
        return result, rejected

    def _attempt(self, step: ReadyStep, table: pl.DataFrame, state: StepState) -> tuple[pl.DataFrame, pl.Series | None]:
        try:
            return self._apply(step, table)
        except MemoryError:
            raise  # a smaller part of the input may fit
        except Exception as error:
            if isinstance(error, DaskaeError) or step.on_error == "raise":
                raise _explained(step, error) from error
            if table.height == 1:
                state.failed += 1
                text = _text(error)
                state.error = min(state.error or text, text)
                return _left_as_is(step, table), None
        half = table.height // 2
        parts = [self._attempt(step, piece, state) for piece in (table.head(half), table.tail(table.height - half))]
        masks = [
            pl.repeat(False, piece.height, dtype=pl.Boolean, eager=True) if mask is None else mask
            for piece, mask in parts
        ]
        return pl.concat([piece for piece, _ in parts]), pl.concat(masks)

    def _apply(self, step: ReadyStep, table: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series | None]:
        operation = step.operation
        if isinstance(operation, Expressions):
            result, rejected = _by_expressions(operation, table)
        elif isinstance(operation, Lookup):
            result, missing = joined(table, table[operation.key], operation, self.dimensions(operation))
            rejected = missing if operation.rejects_missing else None
        else:
            again = self.checks_repeats and step.name in self._new
            result, rejected = _by_function(operation, step, table, again=again)
            self._new.discard(step.name)
        result, unfit = _settle(step, result, _changed(operation, result))
        both = [mask for mask in (rejected, unfit) if mask is not None]
        return result, None if not both else (both[0] if len(both) == 1 else both[0] | both[1])


def _shown_column(operation: Operation) -> str:
    names = operation.outputs if isinstance(operation, Expressions) else ()
    return names[0] if names else next(iter(operation.inputs), "") if not isinstance(operation, UserFunction) else ""


def _by_expressions(operation: Expressions, table: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series | None]:
    rejected = None
    if operation.rejects is not None:
        rejected = table.select(operation.rejects.alias(REJECTED)).to_series()
        if len(rejected) != table.height:
            rejected = rejected.new_from_index(0, table.height)
    changed = table.with_columns(operation.columns) if operation.columns else table
    return changed.drop(operation.drops, strict=False).rename(dict(operation.renames)), rejected


def _by_function(
    operation: UserFunction, step: ReadyStep, table: pl.DataFrame, *, again: bool
) -> tuple[pl.DataFrame, pl.Series | None]:
    result = call_function(operation, table)
    if again:
        require_same_values(result, call_function(operation, table.head(SAMPLE_ROWS)), "its function")
    rejected = None
    if REJECTED in result:
        rejected = result[REJECTED].cast(pl.Boolean).fill_null(False)
        result = result.drop(REJECTED)
    wanted = [name for name in (*operation.takes, *operation.outputs) if name in step.schema]
    if set(result.columns) != set(wanted):
        odd = sorted(set(result.columns) ^ set(wanted))
        raise DaskaeError("a step's function gives other columns than on an empty table", "", ", ".join(odd))
    rest = [name for name in table.columns if name not in operation.takes]
    return result.select(wanted).hstack(table.select(rest)), rejected


def _changed(operation: Operation, result: pl.DataFrame) -> list[str]:
    """Columns that may not be what they were."""
    names = (*operation.takes, *operation.outputs) if isinstance(operation, UserFunction) else operation.outputs
    return [name for name in names if name in result.columns]


def _settle(step: ReadyStep, table: pl.DataFrame, names: Sequence[str]) -> tuple[pl.DataFrame, pl.Series | None]:
    """Bring changed columns to their types; rows whose values do not fit or lack what an order needs are unfit."""
    unfit: list[pl.Series] = []
    values: list[pl.Series] = []
    for name in names:
        value, wanted = table[name], step.schema[name]
        if value.dtype != wanted:
            _require_same_kind(step, value, wanted)
            cast = value.cast(wanted, strict=False)
            unfit.append(_lost(value, cast))
            value = cast
        value, bad = _guarded(name, value)
        unfit += bad
        values.append(value.alias(name))
    broken = [mask for mask in unfit if mask.any()]
    settled = table.with_columns(values)
    return settled, None if not broken else pl.Series(np.logical_or.reduce([mask.to_numpy() for mask in broken]))


def _require_same_kind(step: ReadyStep, value: pl.Series, wanted: pl.DataType) -> None:
    """Refuse a change of kind, such as a float where money is exact; a column of nulls is of any kind."""
    given = value.dtype
    whole = given.is_integer() and (wanted.is_integer() or isinstance(wanted, pl.Decimal))
    texts = given in (pl.Categorical, pl.Enum) and wanted == pl.String
    same = type(given) is type(wanted) or (given.is_float() and wanted.is_float())
    if not (same or whole or texts or given == pl.Null):
        raise DaskaeError("a step's function gives a column of another type", value.name, str(given), str(wanted))


def _lost(value: pl.Series, cast: pl.Series) -> pl.Series:
    """Whether a value does not survive a cast."""
    lost = cast.is_null() & value.is_not_null()
    if isinstance(value.dtype, pl.Decimal | pl.Datetime):
        lost |= (cast.cast(value.dtype, strict=False) != value).fill_null(True) & value.is_not_null()
    return lost


def _guarded(name: str, value: pl.Series) -> tuple[pl.Series, list[pl.Series]]:
    """Keep what the contract asks: ids that are not blank, money that fits, no nulls where an order needs a value."""
    unfit = []
    if name in ("customer_id", "order_id"):
        frame = value.to_frame("v")
        value = frame.select(pl.when(pl.col("v").str.strip_chars() != "").then(pl.col("v"))).to_series()
    if isinstance(value.dtype, pl.Decimal):
        units = value.to_physical()
        unfit.append(((units > LARGEST) | (units < -LARGEST)).fill_null(False))
    if name in REQUIRED:
        unfit.append(value.is_null())
    return value, unfit


def _left_as_is(step: ReadyStep, table: pl.DataFrame) -> pl.DataFrame:
    """Give rows that a step did not touch the columns it would have made, null, in the step's order."""
    operation = step.operation
    if isinstance(operation, Expressions) and (operation.drops or operation.renames):
        table = table.drop(operation.drops, strict=False).rename(dict(operation.renames), strict=False)
    names = _changed_names(operation, step)
    known = set(table.columns)
    made = [pl.lit(None, dtype=step.schema[name]).alias(name) for name in names if name not in known]
    cast = [pl.col(name).cast(step.schema[name], strict=False) for name in names if name in known]
    table = table.with_columns(*made, *cast)
    if isinstance(operation, UserFunction):
        wanted = [name for name in (*operation.takes, *operation.outputs) if name in step.schema]
        return table.select(*wanted, *(name for name in table.columns if name not in (*operation.takes, *wanted)))
    return table


def _changed_names(operation: Operation, step: ReadyStep) -> list[str]:
    names = (*operation.takes, *operation.outputs) if isinstance(operation, UserFunction) else operation.outputs
    return [name for name in names if name in step.schema]


def _explained(step: ReadyStep, error: Exception) -> DaskaeError:
    where = f"step {step.name}"
    if isinstance(error, DaskaeError):
        return type(error)(error.what, f"{where}, {error.where}" if error.where else where, error.got, error.allowed,
                           error.hint)  # fmt: skip
    return DaskaeError(
        "a step failed", where, _text(error), "every row",
        'on_error = "log" leaves rows on which it fails as they are, and counts them',
    )  # fmt: skip


def _text(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
