"""Make an ``enrich`` step ready: its columns, types, identity, and whether it is small enough to be held whole."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from daskae.config import ColumnType
from daskae.errors import SettingsError
from daskae.hashing import digest_texts
from daskae.transform.enrich import BROADCAST_BELOW, KEY, Dimension, require_once
from daskae.transform.kinds import kind_of, settled
from daskae.transform.operations import Lookup
from daskae.transform.view import View
from daskae.units import parse_bytes

_KEY_KINDS: tuple[ColumnType, ...] = ("text", "integer")


def build_lookup(view: View, place: Callable[[str], Path], given: Mapping[str, Any]) -> Lookup:
    """Open a dimension and check its columns against the step's parameters.

    Raises
    ------
    SettingsError
    """
    dimension = Dimension(given["source"], given["on"], given.get("delimiter", ","), view.where)
    dimension.require_file()
    found = dimension.schema()
    columns = list(found) if given.get("columns") is None else given["columns"]
    names = {name: given.get("prefix", "") + name for name in columns if name != dimension.on or given.get("columns")}
    _require_columns(dimension, found, names)
    key = given.get("key", "customer_id")
    view.require(key, *_KEY_KINDS)
    _require_free_names(names, view)
    raw = pl.Schema({names[name]: found[name] for name in names})
    dtypes = settled(raw, pl.Schema(), view.scale, view.where)
    digest, nbytes = dimension.digest()
    late = nbytes >= _size(given.get("broadcast_below", BROADCAST_BELOW), view.where)
    rejects = given.get("missing", "null") == "reject"
    if late:
        _require_late(key, rejects, view)
    else:
        require_once(_all_keys(dimension), view.where, dimension.source)
    folder = place(digest_texts("dimension", digest, dimension.on, dimension.delimiter, repr(names), repr(dtypes)))
    return Lookup(
        dimension.source, dimension.on, names, dict(dtypes), key, rejects, dimension.delimiter, digest, nbytes,
        str(folder), late,
    )  # fmt: skip


def open_dimension(lookup: Lookup, where: str) -> Dimension:
    """Return the dimension of a look-up."""
    return Dimension(lookup.source, lookup.on, lookup.delimiter, where)


def _all_keys(dimension: Dimension) -> pl.Series:
    frames = [piece.select(KEY) for piece in dimension.pieces([])]
    return pl.concat(frames).to_series() if frames else pl.Series(KEY, dtype=pl.String)


def _size(given: int | str, where: str) -> int:
    try:
        return 0 if given == 0 else parse_bytes(given)
    except ValueError as error:
        raise SettingsError("a size cannot be read", f"{where}, broadcast_below", repr(given), str(error)) from None


def _require_columns(dimension: Dimension, found: Mapping[str, pl.DataType], names: Mapping[str, str]) -> None:
    for name in (dimension.on, *names):
        if name not in found:
            raise SettingsError(
                "a dimension has no such column", dimension.where, repr(name), ", ".join(found), dimension.source
            )
    if kind_of(found[dimension.on]) not in _KEY_KINDS:
        raise SettingsError(
            "a dimension's key must be a text or an integer", dimension.where, str(found[dimension.on]),
            "text or integer",
        )  # fmt: skip
    if not names:
        raise SettingsError("a dimension has no column to join", dimension.where, dimension.source)


def _require_free_names(names: Mapping[str, str], view: View) -> None:
    for name in names.values():
        if name in view.schema or name.startswith("_"):
            raise SettingsError(
                "a column of that name is there already", view.where, name, hint="set parameters.prefix"
            )


def _require_late(key: str, rejects: bool, view: View) -> None:
    hint = "raise parameters.broadcast_below if a process can hold the file"
    if key != "customer_id":
        raise SettingsError("a large dimension is joined by customer only", view.where, key, "customer_id", hint)
    if rejects:
        raise SettingsError(
            "a large dimension cannot reject rows", view.where, 'missing = "reject"', 'missing = "null"',
            f"{hint}, or use a reference rule",
        )  # fmt: skip
