"""Values that name a person: which columns hold them, and results without them."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from daskae.config import ColumnSettings, Settings
from daskae.errors import SettingsError
from daskae.schema import Contract
from daskae.summary import RuleOutcome
from daskae.validate.rules import ALL_COLUMNS

HIDDEN = "***"
_COUNTS = ("name", "type", "rows", "values", "nulls", "blanks", "distinct", "distinct_is_exact", "stored", "readable")


def personal_columns(settings: Settings, contract: Contract, available: Sequence[str]) -> tuple[str, ...]:
    """Return all columns that hold personal values: those named, and those that they come from or go into.

    Raises
    ------
    SettingsError
        If a name stands for no column: a misspelt one would show what it was to hide.
    """
    named = set(settings.privacy.mask)
    named |= {name for name, given in settings.columns.items() if isinstance(given, ColumnSettings) and given.personal}
    known = {*available, *contract.names}
    for name in sorted(named - known):
        near = difflib.get_close_matches(name, known, 1)
        raise SettingsError(
            "a column to be masked does not exist", "privacy.mask", name, ", ".join(sorted(known)),
            f"did you mean {near[0]!r}?" if near else "",
        )  # fmt: skip
    sources = {source for column in contract.columns if column.name in named for source in column.sources}
    named |= sources
    return tuple(sorted(named | {column.name for column in contract.columns if named & set(column.sources)}))


def without_personal(rules: Sequence[RuleOutcome], personal: Sequence[str]) -> tuple[RuleOutcome, ...]:
    """Return outcomes in which rules over personal columns show places, but no values."""
    return tuple(_hidden(rule) if _looks_at(rule, personal) else rule for rule in rules)


def _looks_at(rule: RuleOutcome, personal: Sequence[str]) -> bool:
    columns = rule.details.get("columns", ())
    return bool(personal) and (ALL_COLUMNS in columns or not set(columns).isdisjoint(personal))


def _hidden(rule: RuleOutcome) -> RuleOutcome:
    samples = tuple({**item, "value": HIDDEN} for item in rule.samples)
    return replace(rule, samples=samples, observed=dict.fromkeys(rule.observed, HIDDEN))


def profile_without_personal(profile: dict[str, Any], personal: Sequence[str]) -> dict[str, Any]:
    """Return a profile in which personal columns have counts only."""
    columns = [
        {name: value for name, value in column.items() if name in _COUNTS} if column["name"] in personal else column
        for column in profile["columns"]
    ]
    return {**profile, "columns": columns}
