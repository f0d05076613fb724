"""Rules written in Python: a condition on a row, or a judgement of the whole data set.

>>> import polars as pl
>>> from daskae.validate import RowRule, TableRule
>>> RowRule("round_price", pl.col("price") == pl.col("price").round(2)).kind
'row_rule'
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from daskae.config import OnFailure
from daskae.errors import SettingsError
from daskae.schema import looks_beyond_row
from daskae.validate.columns import Columns
from daskae.validate.rules import ROW_FUNCTION, TABLE_FUNCTION, Rule

Merge = Literal["sum", "min", "max"]
MERGES: tuple[Merge, ...] = ("sum", "min", "max")


@dataclass(frozen=True)
class RowRule:
    """A condition that every row must satisfy.

    The condition is a Polars expression that is true where a row is fine or, with ``frame``, a function that gets a
    pandas DataFrame and returns such a Series. It may look at its own row only, because which rows are seen together
    depends on how the input is cut. A null breaks nothing. Rows for which the function raises are not rejected: the
    rule is then reported as failed inside, with the error's text.
    """

    name: str
    check: pl.Expr | Callable[[Any], Any]
    frame: bool = False
    """Whether ``check`` is a function on a pandas DataFrame."""
    columns: Sequence[str] = ()
    """Columns that the DataFrame has; all of the contract unless given."""
    on_failure: OnFailure = "reject_row"
    severity: Literal["error", "warning", "info"] | None = None
    max_rows: int | None = None
    max_share: float | None = None
    description: str = ""
    tags: Sequence[str] = ()
    enabled: bool = True
    kind = ROW_FUNCTION


@dataclass(frozen=True)
class TableRule:
    """A judgement of the whole data set by a few numbers that add up over its parts.

    ``chunk`` makes the numbers of some rows: Polars aggregates by name, or a function on a pandas DataFrame that
    returns a dict. ``combine`` says how the numbers of two parts merge. ``verdict`` gets the numbers of all rows that
    passed the row rules and returns whether they are fine, or that and a message.
    """

    name: str
    chunk: Mapping[str, pl.Expr] | Callable[[Any], Mapping[str, Any]]
    verdict: Callable[[dict[str, Any]], Any]
    combine: Merge | Mapping[str, Merge] = "sum"
    columns: Sequence[str] = ()
    """Columns that the DataFrame has; all of the contract unless given."""
    on_failure: Literal["warn", "info", "block_run"] = "block_run"
    severity: Literal["error", "warning", "info"] | None = None
    description: str = ""
    tags: Sequence[str] = ()
    enabled: bool = True
    kind = TABLE_FUNCTION


CustomRule = RowRule | TableRule


def build_custom(item: CustomRule, columns: Columns) -> Rule:
    """Check a rule written in Python and turn it into a record.

    Raises
    ------
    SettingsError
    """
    where = f"rule {item.name}"
    if not item.name:
        raise SettingsError("a rule in Python needs a name", where)
    return _row_rule(item, columns, where) if isinstance(item, RowRule) else _table_rule(item, columns, where)


def default_severity(on_failure: str) -> str:
    """Return the severity of a rule that names none."""
    return {"warn": "warning", "info": "info"}.get(on_failure, "error")


def _row_rule(item: RowRule, columns: Columns, where: str) -> Rule:
    breaks, function = None, None
    if item.frame:
        if not callable(item.check) or isinstance(item.check, pl.Expr):
            raise SettingsError("a rule with frame = True needs a function", where, type(item.check).__name__)
        function = item.check
        names = _frame_columns(item.columns, columns, where)
    else:
        names = _expression_columns([item.check], columns, where)
        breaks = ~item.check  # type: ignore[operator]
        if looks_beyond_row(breaks):
            raise SettingsError("a row rule may look at its own row only", where, hint="use a TableRule")
    severity = item.severity or default_severity(item.on_failure)
    return Rule(
        item.name, item.kind, item.on_failure, severity, names, breaks, item.max_rows, item.max_share, item.description,
        tuple(item.tags), function=function,
    )  # fmt: skip


def _table_rule(item: TableRule, columns: Columns, where: str) -> Rule:
    if item.on_failure not in ("warn", "info", "block_run"):
        raise SettingsError("a table rule rejects no row", where, item.on_failure, "warn, info, block_run")
    chunk: Mapping[str, pl.Expr] = {}
    function: Callable[[Any], Any] | None = None
    if isinstance(item.chunk, Mapping):
        chunk = dict(item.chunk)
        names = _expression_columns(list(chunk.values()), columns, where)
        if not chunk:
            raise SettingsError("a table rule needs at least one aggregate", where)
    else:
        function, names = item.chunk, _frame_columns(item.columns, columns, where)
    combine = item.combine if isinstance(item.combine, str) else dict(item.combine)
    for merge in [combine] if isinstance(combine, str) else combine.values():
        if merge not in MERGES:
            raise SettingsError("unknown way to merge", where, repr(merge), ", ".join(MERGES))
    if not isinstance(combine, str) and chunk and set(combine) != set(chunk):
        raise SettingsError("combine must name every aggregate", where, ", ".join(combine), ", ".join(chunk))
    severity = item.severity or default_severity(item.on_failure)
    return Rule(
        item.name, item.kind, item.on_failure, severity, names, description=item.description, tags=tuple(item.tags),
        parameters={"combine": combine}, function=function, chunk=chunk, verdict=item.verdict,
    )  # fmt: skip


def _expression_columns(expressions: Sequence[Any], columns: Columns, where: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for expression in expressions:
        if not isinstance(expression, pl.Expr):
            raise SettingsError(
                "a rule needs a Polars expression", where, type(expression).__name__, "pl.Expr",
                "a function on a pandas DataFrame needs frame = True",
            )  # fmt: skip
        try:
            expression.meta.serialize(format="json")
        except (pl.exceptions.PolarsError, TypeError, ValueError):
            raise SettingsError(
                "an expression calls Python, so that nothing tells when it changes", where, hint="use frame = True"
            ) from None
        names.update(dict.fromkeys(expression.meta.root_names()))
    for name in names:
        columns.dtype(name, where)
    return tuple(names)


def _frame_columns(given: Sequence[str], columns: Columns, where: str) -> tuple[str, ...]:
    for name in given:
        columns.dtype(name, where)
    return tuple(given) or columns.contract.names
