"""The history of loads that a target keeps: what was loaded when, what that did, and what failed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daskae.errors import LoadError, SettingsError
from daskae.load.base import Changes
from daskae.load.failures import mask_secrets
from daskae.load.ledger import Entry
from daskae.load.targets import open_dialect

_COUNTS = tuple(Changes.__dataclass_fields__)


@dataclass(frozen=True)
class LoadLine:
    """One load in the overview."""

    sequence: int
    load_id: str
    run_id: str
    tables: dict[str, int]
    """Rows that carried its id when it was published, by table."""
    strategy: str
    status: str
    """``published`` while its rows are in the target, ``replaced``, or ``failed``."""
    source_rows: int
    started_at: str
    ended_at: str
    message: str
    rows: dict[str, int]
    """Rows inserted, updated and so on, over all tables; empty where a load of an older version did not count."""
    changes: dict[str, dict[str, int]]
    """The same by table."""


def load_history(url: str, last: int = 0, timeout: float = 30.0) -> list[LoadLine]:
    """Return the loads of a database, newest last.

    Parameters
    ----------
    url : str
        As it is given to ``--to``.
    last : int, default 0
        How many; all for 0.
    timeout : float, default 30
        Seconds to wait for the database.

    Raises
    ------
    SettingsError
        When the URL is not that of a database.
    LoadError
        When nothing was ever loaded into it.
    """
    dialect = open_dialect(url, timeout)
    if dialect is None:
        hint = "a folder of Parquet files keeps its own: ledger.jsonl or manifest.json in it"
        raise SettingsError("a load history is in a database", "--to", mask_secrets(url), "a database URL", hint)
    from daskae.load.sql.ledger import read_ledger

    with dialect.translated(), dialect.reading() as session:
        entries = read_ledger(session) if session is not None else []
    if not entries:
        raise LoadError("nothing was ever loaded into this database", dialect.target, hint="name another one by --to")
    return [_line(entry) for entry in entries[-last:]]


def loads_document(lines: Sequence[LoadLine], url: str) -> dict[str, Any]:
    """Return a history as plain data."""
    return {"schema_version": 1, "target": mask_secrets(url), "loads": [vars(line) for line in lines]}


def _line(entry: Entry) -> LoadLine:
    counts = list(entry.changes.values())
    rows = {name: sum(count.get(name, 0) for count in counts) for name in _COUNTS} if counts else {}
    return LoadLine(
        entry.sequence, entry.load_id, entry.run_id, entry.tables, entry.strategy, entry.status, entry.source_rows,
        entry.started_at or entry.loaded_at, entry.published_at, entry.message, rows, entry.changes,
    )  # fmt: skip
