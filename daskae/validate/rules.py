"""Rules as records: what a row, or the whole data set, must satisfy.

A *row rule* says of each row whether it breaks it; it is evaluated in the pass that reads the data. A *unique rule* is
global: every row that passed all row rules takes part, the first in input order is kept. A *table rule* judges the
whole data set by a small state that each part leaves of its rows that passed all row rules, before repeated rows are
looked for. A null neither breaks a row rule (except ``not_null`` and ``completeness``) nor takes part in a unique rule,
as in SQL.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import polars as pl

from daskae.config import OnFailure
from daskae.hashing import digest_texts

ALL_COLUMNS = "*"

RESERVED = (
    "wrong_field_count",
    "malformed_quoting",
    "invalid_encoding",
    "repeated_header",
    "missing_customer_id",
    "unparsable_date",
    "unparsable_number",
)
"""Reasons of the reader and the contract; always tried first, in this order."""

ROW_FUNCTION, TABLE_FUNCTION = "row_rule", "table_rule"
"""Kinds of the rules that are written in Python."""
TABLE_KINDS = ("monotonic", "freshness", "row_count", "distribution", TABLE_FUNCTION)


@dataclass(frozen=True)
class Rule:
    """One rule, ready to run."""

    name: str
    kind: str
    on_failure: OnFailure
    severity: str
    columns: tuple[str, ...]
    """Columns it looks at; ``("*",)`` for all of the source."""
    breaks: pl.Expr | None = None
    """For row rules: true where a row breaks it."""
    max_rows: int | None = None
    max_share: float | None = None
    description: str = ""
    tags: tuple[str, ...] = ()
    min_share: float | None = None
    """Share of rows that must not break it."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What else decides which rows break it, or which state a part leaves; plain values."""
    bounds: Mapping[str, Any] = field(default_factory=dict)
    """What the state of the whole data set is judged by; a change of these needs no row again."""
    function: Callable[[Any], Any] | None = None
    """A user's function on a pandas DataFrame."""
    chunk: Mapping[str, pl.Expr] = field(default_factory=dict)
    """A user's aggregates, for table rules."""
    verdict: Callable[[dict[str, Any]], Any] | None = None
    """A user's judgement of the whole data set's state."""
    keys: str = ""
    """File of the keys of a reference, where the run has put it."""

    @property
    def is_global(self) -> bool:
        """Whether it looks for rows that repeat others."""
        return self.kind == "unique"

    @property
    def is_table(self) -> bool:
        """Whether it judges the data set by a state and names no row of its own."""
        return self.kind in TABLE_KINDS

    @property
    def is_row(self) -> bool:
        """Whether it judges each row by itself."""
        return not (self.is_global or self.is_table)

    @property
    def rejects(self) -> bool:
        """Whether a row that breaks it is rejected."""
        return self.on_failure == "reject_row"

    @property
    def definition(self) -> str:
        """Everything that decides which rows break it, as text; part of the fingerprint."""
        expression = "" if self.breaks is None else self.breaks.meta.serialize(format="json")
        given = repr(sorted(self.parameters.items())) if self.parameters else ""
        chunks = [f"{name}:{item.meta.serialize(format='json')}" for name, item in sorted(self.chunk.items())]
        return "|".join([self.name, self.kind, self.on_failure, ",".join(self.columns), expression, given, *chunks])

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the definition; a state belongs to it and to the content of a part."""
        return digest_texts(self.definition)[:16]

    def passed(self, affected: int, checked: int) -> bool:
        """Decide over the whole data set: within the thresholds, or no row at all where none is set."""
        if self.max_rows is None and self.max_share is None and self.min_share is None:
            return affected == 0
        most = self.max_share is None or affected <= _exact(self.max_share) * checked
        least = self.min_share is None or checked - affected >= _exact(self.min_share) * checked
        return most and least and (self.max_rows is None or affected <= self.max_rows)


def _exact(share: float) -> Fraction:
    """Return a share as it is written: 0.29 of 100 rows are 29, though the nearest double is less."""
    return Fraction(repr(share))
