"""Imported rules at work on rows, by way of the settings file that they are written to."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from daskae.config import ColumnSettings, RuleSettings
from daskae.interop.great_expectations import read_suite
from daskae.interop.records import Imported
from daskae.interop.rules import import_rules
from daskae.interop.text import settings_text
from daskae.schema import Contract, build_contract
from daskae.validate.build import build_rules
from daskae.validate.cast import cast_table
from daskae.validate.row_rules import judge_rows
from daskae.validate.rules import Rule

NEEDED = {"customer_id": "c", "order_date": "2024-01-01", "amount": "1"}


def expectation(kind: str, /, **kwargs: Any) -> dict[str, Any]:
    """One expectation as 1.x writes it."""
    return {"type": kind, "kwargs": kwargs}


def suite_of(*expectations: Mapping[str, Any]) -> Imported:
    """Import a suite of some expectations."""
    return import_rules(read_suite({"name": "s", "expectations": list(expectations)}, "s.json"))


def built(imported: Imported, sources: Sequence[str]) -> tuple[tuple[Rule, ...], Contract]:
    """Build the rules from the TOML text, over source columns and those that every contract needs."""
    document = tomllib.loads(settings_text(imported, "a source"))
    columns: dict[str, str | ColumnSettings] = {
        name: entry if isinstance(entry, str) else ColumnSettings(**entry)
        for name, entry in document.get("columns", {}).items()
    }
    available = list(dict.fromkeys([*sources, *NEEDED]))
    contract = build_contract({**{name: name for name in imported.missing}, **columns}, available, scale=4)
    return build_rules([RuleSettings(**rule) for rule in document.get("rules", [])], contract, available), contract


def broken_rows(imported: Imported, cells: Mapping[str, Sequence[str | None]]) -> dict[str, list[int]]:
    """For each row rule the rows that break it; the cells are texts, as a file holds them."""
    height = max(len(values) for values in cells.values())
    texts = {name: [text] * height for name, text in NEEDED.items()}
    texts |= {name: ["" if value is None else value for value in values] for name, values in cells.items()}
    frame = pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String))
    rules, contract = built(imported, frame.columns)
    table = cast_table(frame, contract).table
    table = table.with_columns(frame[name] for name in frame.columns if name not in table.columns)
    return {
        rule.name: [i for i, breaks in enumerate(judge_rows(rule, table, height).mask) if breaks]
        for rule in rules
        if rule.is_row
    }
