"""What a load is, and the two methods a sink has.

A *sink* takes the finished tables of one run, all of them or none. It knows nothing of orders or customers: a table
is a name, its key columns, an Arrow schema and a list of Arrow IPC files whose concatenation, in that order, is its
content.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa

from daskae.load.audits import LoadCheck, Verdict
from daskae.load.shape import Drift, Metadata

Strategy = Literal["replace", "append", "upsert", "merge"]
NullKeys = Literal["reject", "match", "error"]
OnMissing = Literal["keep", "delete", "flag"]

METADATA_COLUMNS = Metadata().names
"""Added by every sink to every table unless told otherwise; the only columns that differ between two runs over the same
input."""

FLAG_COLUMNS = ("_is_active", "_inactive_since")
"""Added where a merge flags rows that left the source."""

REJECT_COLUMNS = ("_reason", "_row")
"""Columns in front of the rows in a file of left out rows; ``_row`` is the place in the batch, from 1."""


ColumnTotal = tuple[int, str | None]
"""Values of a column that are not null, and their exact sum as a text: None where they are no numbers, or inexact."""


@dataclass(frozen=True)
class TableParts:
    """One finished table, still in the work directory."""

    name: str
    """Table name in the target."""
    keys: tuple[str, ...]
    """Columns that identify a row within one load."""
    schema: pa.Schema
    """Column names and types, without the metadata columns. Money is ``decimal128``."""
    files: tuple[Path, ...]
    """Arrow IPC files; together, in this order, they are the table."""
    rows: int
    """Rows of all files together."""
    partition_by: tuple[str, ...] = ()
    """Columns whose values make folders in a target of files; none for one folder."""
    personal: bool = False
    """Whether its keys name persons, so that no message may show them."""
    totals: Mapping[str, ColumnTotal] = field(default_factory=dict)
    """By column; kept in the ledger, to verify the target by. See :func:`daskae.load.totals.column_totals`."""


@dataclass(frozen=True)
class LoadOptions:
    """What the keys of a batch mean, and what an upsert or a merge may touch."""

    duplicates: str = "error"
    """Which row of a key stays: the ``first`` or ``last`` one of the batch, the one with the greatest value in the
    column of this name (the last one of equals), or none of them: ``error``, which holds too for tables without that
    column."""
    null_keys: NullKeys = "reject"
    """Whether a row with a null in its key is left out, is a key like any other, or fails the load."""
    update_columns: tuple[str, ...] = ()
    """Columns that an upsert or a merge may change in existing rows; all unless given. Tables with none of these
    columns are not limited."""
    on_missing: OnMissing = "keep"
    """What a merge does with rows whose keys the batch does not hold."""
    only_if_newer: str = ""
    """Column that must be greater in the batch before an existing row is changed, in tables that have it."""


@dataclass(frozen=True)
class Load:
    """Everything one publish puts into a target."""

    load_id: str
    """Identity of the *content*: same input, settings and target, same id, so a repeated run is recognised."""
    run_id: str
    """The run that brings it, for the ledger only."""
    strategy: Strategy
    """``replace`` makes the tables equal to this load; ``append`` adds it to what is there; ``upsert`` inserts new keys
    and changes known ones; ``merge`` does that and deals with the keys that are missing."""
    source_rows: int
    """Rows read from the input."""
    loaded_at: datetime
    """When the run started, UTC without offset."""
    tables: tuple[TableParts, ...]
    """All tables of the load; they become visible together."""
    options: LoadOptions = LoadOptions()
    rejects: Path | None = None
    """Folder for the rows that are left out; they are only counted where there is none."""
    drift: Drift = field(default_factory=Drift)
    metadata: Metadata = field(default_factory=Metadata)
    checks: tuple[LoadCheck, ...] = ()
    """Run before anything becomes visible."""


@dataclass(frozen=True)
class Changes:
    """What a load did to one table, in rows."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    """Rows of the batch that the table held already, or that were not newer."""
    deleted: int = 0
    """Rows taken out, those that a replace put others in the place of included."""
    flagged: int = 0
    """Rows marked as no longer active."""
    rejected: int = 0
    """Rows of the batch left out for a null in their key, or a value that the table has no column for."""
    duplicates: int = 0
    """Rows of the batch left out for another row with their key."""


@dataclass(frozen=True)
class Rejected:
    """Rows of a batch that were left out for one reason."""

    table: str
    reason: str
    rows: int
    samples: tuple[Mapping[str, Any], ...]
    """The first few of them."""
    file: Path | None
    """Parquet file with all of them, behind :data:`REJECT_COLUMNS`."""


@dataclass(frozen=True)
class Receipt:
    """What the target holds for a load after :meth:`Sink.publish`."""

    load_id: str
    already_published: bool
    """True when the ledger already held this load, so nothing was written."""
    rows: dict[str, int]
    """Rows of this load by table, without those that were left out."""
    targets: dict[str, str]
    """Where each table is, for people: a folder, or ``database: table``. Never holds a password."""
    changes: dict[str, Changes] = field(default_factory=dict)
    """What the load did, by table; nothing for targets that do not count it."""
    rejected: tuple[Rejected, ...] = ()
    seconds: float = 0.0
    """Time the publish took."""
    checks: tuple[Verdict, ...] = ()
    """How each check went; none where the load was there already."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong by checks that do not block."""
        return tuple(verdict.said for verdict in self.checks if verdict.message)


class Sink(Protocol):
    """A target that takes whole loads."""

    def preflight(self, load: Load) -> Receipt | None:
        """Check that the target can take the load, writing nothing.

        ``load.tables`` may be empty of files here: only names, keys and schemas are looked at.

        Returns
        -------
        Receipt or None
            The receipt, when the ledger shows this load as one the target already holds (see
            :mod:`daskae.load.ledger`), and the tables are still there with their rows; else None.

        Raises
        ------
        LoadError
            When the target cannot take the load; the text says why and what to do.
        """

    def publish(self, load: Load) -> Receipt:
        """Make the load visible, all tables at once, exactly once.

        Raises
        ------
        LoadError
            The target is as it was before.
        TargetBusyError
            Somebody else holds the target; trying again later can succeed.
        """
