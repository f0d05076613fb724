"""Load the keys that reference rules look up: once, by the driver, into a file that workers map into memory."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl

from daskae.config import InputSettings, Settings
from daskae.errors import InputError, SettingsError
from daskae.exchange import MANIFEST, commit_files, files_are_whole, load_manifest
from daskae.partition import ExchangeFile
from daskae.read.dialect import Dialect
from daskae.read.reader import read_segments
from daskae.run.context import RunContext
from daskae.run.inputs import discover
from daskae.validate.reference import distinct_keys, keys_digest, write_keys
from daskae.validate.rules import Rule


def with_references(rules: Sequence[Rule], context: RunContext) -> tuple[Rule, ...]:
    """Return rules whose references are loaded; the digest of the keys is part of the rule's definition.

    Raises
    ------
    SettingsError
        If a source of keys cannot be found or read, or lacks the column.
    """
    return tuple(_loaded(rule, context) if rule.kind == "reference" else rule for rule in rules)


def _loaded(rule: Rule, context: RunContext) -> Rule:
    given = rule.parameters
    where = f"rule {rule.name}"
    try:
        keys = distinct_keys(_read_keys(rule, context.settings))
    except InputError as error:
        raise SettingsError(
            "the keys of a reference cannot be read", f"{where}: {given['source']}", error.got or error.what,
            error.allowed, error.hint,
        ) from error  # fmt: skip
    if not keys.height:
        raise SettingsError("a reference has no keys", f"{where}: {given['source']}", given["source_column"])
    digest = keys_digest(keys)
    path = context.references / digest[:24] / "keys.arrow"
    if not context.dry:
        context.outputs.append((path.parent, _stored(keys, path)))
        with suppress(OSError):
            os.utime(path.parent / MANIFEST)
    # Where the keys came from decides nothing, so the same keys in another file need no row again.
    parameters = {"keys": digest, "count": keys.height}
    return replace(rule, parameters=parameters, keys=str(path))


def _stored(keys: pl.DataFrame, path: Path) -> tuple[ExchangeFile, ...]:
    """Write keys that are not there, or of which the file is not as it was written."""
    manifest = load_manifest(path.parent)
    if manifest is not None:
        files = tuple(ExchangeFile(**item) for item in manifest["files"])
        if files_are_whole(path.parent, files, thorough=True):
            return files
        (path.parent / MANIFEST).unlink(missing_ok=True)
    write_keys(keys, path)
    return tuple(ExchangeFile(**item) for item in commit_files(path.parent, {}, [path.name])["files"])


def _read_keys(rule: Rule, settings: Settings) -> pl.Series:
    """Read the distinct keys of a source as text."""
    given = rule.parameters
    column: str = given["source_column"]
    query = InputSettings(table=given["table"]) if given["table"] else InputSettings()
    source = discover(
        settings.model_copy(update={"inputs": [given["source"]], "input": query, "columns": {column: column}}), None
    )
    for segment in source.segments:
        if column not in segment.columns:
            raise InputError(
                "a column is missing", segment.label, f"no column {column!r}", ", ".join(segment.columns),
                "name the column of the keys by source_column",
            )  # fmt: skip
    found = [pl.Series("key", [], dtype=pl.String)]
    for batch in read_segments(source.segments, Dialect(), lambda segment: [column]):
        if batch.broken:
            raise InputError("a source of keys has damaged rows", str(Path(given["source"])), batch.broken[0].reason)
        cells = batch.cells[column]
        if batch.is_header is not None:
            cells = cells.filter(~batch.is_header)
        found.append(_as_keys(cells, given["dtype"]).unique().alias("key"))
    return pl.concat(found)


def _as_keys(cells: pl.Series, dtype: str) -> pl.Series:
    """Write keys as the contract writes the column's values: no key of blanks only, integers in their plain form."""
    texts = cells.cast(pl.String, strict=False)
    texts = texts.filter((texts.str.strip_chars() != "").fill_null(False))
    if dtype == "integer":
        texts = texts.str.strip_chars().cast(pl.Int64, strict=False).cast(pl.String)
    return texts.drop_nulls()
