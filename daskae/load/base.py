"""What a load is, and the two methods a sink has.

A *sink* takes the finished tables of one run, all of them or none. It knows nothing of orders or customers: a table
is a name, its key columns, an Arrow schema and a list of Arrow IPC files whose concatenation, in that order, is its
content.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa

Strategy = Literal["replace", "append"]

METADATA_COLUMNS = ("_load_id", "_loaded_at", "_source_rows")
"""Added by every sink to every table; the only columns that differ between two runs over the same input."""


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


@dataclass(frozen=True)
class Load:
    """Everything one publish puts into a target."""

    load_id: str
    """Identity of the *content*: same input, settings and target, same id, so a repeated run is recognised."""
    run_id: str
    """The run that brings it, for the ledger only."""
    strategy: Strategy
    """``replace`` makes the tables equal to this load; ``append`` adds it to what is there."""
    source_rows: int
    """Rows read from the input."""
    loaded_at: datetime
    """When the run started, UTC without offset."""
    tables: tuple[TableParts, ...]
    """All tables of the load; they become visible together."""


@dataclass(frozen=True)
class Receipt:
    """What the target holds for a load after :meth:`Sink.publish`."""

    load_id: str
    already_published: bool
    """True when the ledger already held this load, so nothing was written."""
    rows: dict[str, int]
    """Rows of this load by table."""
    targets: dict[str, str]
    """Where each table is, for people: a folder, or ``database: table``. Never holds a password."""


class Sink(Protocol):
    """A target that takes whole loads."""

    def preflight(self, load: Load) -> Receipt | None:
        """Check that the target can take the load, writing nothing.

        ``load.tables`` may be empty of files here: only names, keys and schemas are looked at.

        Returns
        -------
        Receipt or None
            The receipt, when the ledger shows this load as the one the target already holds (for ``replace``: the last
            one published; for ``append``: any), and the tables are still there with their rows; else None.

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
