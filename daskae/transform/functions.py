"""Make a person's function ready: which columns it is given, and which it makes."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from daskae.errors import DaskaeError, SettingsError
from daskae.transform.frames import call_on_frame
from daskae.transform.kinds import dtype_of, settled
from daskae.transform.operations import REJECTED, ROW, UserFunction
from daskae.transform.registry import Registered
from daskae.transform.view import View


def call_function(operation: UserFunction, table: pl.DataFrame) -> pl.DataFrame:
    """Call a function with the columns it takes, and check that it gave back the same rows.

    Raises
    ------
    DaskaeError
        If rows are gone, new or moved.
    Exception
        Whatever the function raises.
    """
    given = table.select(operation.takes)
    if operation.frame:
        result = call_on_frame(operation.function, given, operation.parameters)
    else:
        result = operation.function(given.with_row_index(ROW), **operation.parameters)
        if not isinstance(result, pl.DataFrame):
            raise TypeError(f"a DataFrame is expected, not {type(result).__name__}")
        if result.height == table.height and ROW in result and not _counts_up(result[ROW]):
            raise DaskaeError("a step's function has moved rows", hint="keep the rows and their order")
        result = result.drop(ROW, strict=False)
    if result.height != table.height:
        raise DaskaeError(
            "a step's function must give back every row", "", f"{result.height} rows", f"{table.height} rows",
            f"mark rows to be rejected in a boolean column {REJECTED}",
        )  # fmt: skip
    return result


def _counts_up(rows: pl.Series) -> bool:
    return bool((rows == pl.Series(range(len(rows)), dtype=rows.dtype)).all())


def build_user_function(
    function: Registered, given: Mapping[str, Any], takes: tuple[str, ...], view: View
) -> tuple[UserFunction, pl.Schema]:
    """Find out which columns a function makes.

    Raises
    ------
    SettingsError
        If they are not declared and it fails on an empty table, or they do not fit the contract.
    """
    operation = UserFunction(function.function, given, function.frame, takes)
    if function.adds is None:
        schema = dict(_tried(operation, view))
    else:
        added = {name: dtype_of(kind, view.scale) for name, kind in function.adds.items()}
        schema = {**{name: view.schema[name] for name in takes}, **added}
    schema.pop(REJECTED, None)
    rest = {name: dtype for name, dtype in view.schema.items() if name not in takes}
    for name in schema:
        if name.startswith("_") or name in rest:
            raise SettingsError("a column's name is taken or not allowed", view.where, name)
    whole = settled(pl.Schema({**schema, **rest}), view.schema, view.scale, view.where)
    outputs = tuple(name for name in schema if name not in takes)
    return UserFunction(function.function, given, function.frame, takes, outputs), whole


def _tried(operation: UserFunction, view: View) -> pl.Schema:
    try:
        return call_function(operation, view.schema.to_frame()).schema
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise SettingsError(
            "a step's function fails on an empty table", view.where, text, "a table of the columns it makes",
            "mend it, or declare its columns with register(..., adds={...})",
        ) from error  # fmt: skip
