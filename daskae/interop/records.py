"""What is taken from another tool before it becomes rules: its checks, its columns, and what could not be taken."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from daskae.config import ColumnType, OnFailure

Need = Literal["any", "stated", "text", "number", "time", "boolean"]
"""What a check asks of the type of a column it reads; ``stated`` is the type that the tool gives it, if it does."""

NUMBERS: tuple[ColumnType, ...] = ("integer", "decimal", "float")
TIMES: tuple[ColumnType, ...] = ("datetime", "date")
FITTING: Mapping[Need, tuple[ColumnType, ...]] = {
    "any": ("text", *NUMBERS, *TIMES, "boolean"),
    "stated": ("text", *NUMBERS, *TIMES, "boolean"),
    "text": ("text",),
    "number": NUMBERS,
    "time": TIMES,
    "boolean": ("boolean",),
}


class NotExpressibleError(Exception):
    """A check has no equal here; the message says why."""


@dataclass(frozen=True)
class Check:
    """One check of the other tool, in neutral terms."""

    kind: str
    """Which maker of :mod:`daskae.interop.makers` turns it into a rule."""
    origin: str
    """What it is called there; shown to people."""
    columns: tuple[str, ...] = ()
    """Source columns it reads."""
    need: Need = "any"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    """Name given by a person, if any."""
    description: str = ""
    on_failure: OnFailure = "warn"
    severity: str | None = None
    max_share: float | None = None


@dataclass(frozen=True)
class Skipped:
    """Something that was not imported."""

    what: str
    reason: str


@dataclass
class Suite:
    """All that was found in one source."""

    tool: str
    types: dict[str, ColumnType | None] = field(default_factory=dict)
    """Columns it names, with the type it gives them, if it does."""
    formats: dict[str, str] = field(default_factory=dict)
    """How the dates of a column are written, where it says so."""
    checks: list[Check] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Where a verdict here can differ from the one there."""

    def skip(self, what: str, reason: str) -> None:
        """Keep what is not imported, with the reason."""
        self.skipped.append(Skipped(what, reason))

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if text not in self.notes:
            self.notes.append(text)

    def name(self, column: str, dtype: ColumnType | None = None) -> None:
        """Say that a column exists, and of what type; the first type given holds."""
        self.types[column] = self.types.get(column) or dtype


@dataclass(frozen=True)
class Imported:
    """Settings that say the same as the source."""

    tool: str
    columns: dict[str, str | dict[str, Any]]
    """Entries for ``[columns]``, without those that the given settings have already."""
    missing: tuple[str, ...]
    """Required contract columns that no source column is known for."""
    rules: list[dict[str, Any]]
    skipped: list[Skipped]
    notes: list[str]
