"""The ledger of a target: which loads it holds. It decides what "exactly once" means, the same for every sink.

The rule:

- Every publish that wrote something has one entry, numbered by ``sequence`` without gaps, never removed. An entry is
  ``published`` while the rows it brought are in the target, else ``replaced``. At most one entry of a load is
  ``published`` at a time.
- **append** is done when the load has a published entry. The same load is thus appended once, ever, unless a later
  replace wiped it; then it may come again.
- **replace** is done when the load has a published entry and its tables hold nothing else. After loads A, B, load A can
  be published again, as a third entry.
- **upsert** and **merge** are done when the load has a published entry and was the last to touch its tables. After
  loads A, B, load A can be published again, as a third entry.
- A replace turns the entries of all loads that share a table with it to ``replaced``. Loads of other tables stay.
- The entry becomes visible in the same step as the rows (one transaction, or one rename), so it can neither be missing
  for rows that are there nor be there for rows that are missing.

An entry whose rows were deleted by hand counts as not done: the sink compares the rows, then publishes again.

A database also keeps an entry of each load that ``failed``, with the reason. Those decide nothing.
"""

import hashlib
import json
import re
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from daskae.errors import LoadError
from daskae.load.base import Changes, ColumnTotal, Load, Receipt, Rejected, Strategy
from daskae.masking import HIDDEN, name_pattern

_BY_KEY = ("upsert", "merge")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")

Status = Literal["published", "replaced", "failed"]


@dataclass(frozen=True)
class Entry:
    """One line of the ledger."""

    sequence: int
    load_id: str
    run_id: str
    strategy: Strategy
    status: Status
    tables: dict[str, int]
    """Rows that carried the id of this load when it was published, by table."""
    source_rows: int
    loaded_at: str
    published_at: str
    """When the load ended, well or not."""
    message: str
    started_at: str = ""
    changes: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows inserted, updated and so on, by table; see :class:`daskae.load.base.Changes`."""
    totals: dict[str, dict[str, ColumnTotal]] = field(default_factory=dict)
    """By table and column, while the entry is published, of the rows that a replace or an append brought, if all of
    them went in; see :class:`~daskae.load.base.TableParts`."""
    mark: str = "_load_id"
    """Column that holds the load's id; empty where the settings left it out."""
    purged: tuple[str, ...] = ()
    """Tables that customers were taken out of."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "purged", tuple(self.purged))
        _require_shape(self)

    def rows(self) -> dict[str, int]:
        """Count the rows of the load by table; old entries know only those that carried its id."""
        return {
            name: counts["inserted"] + counts["updated"] + counts["unchanged"]
            if (counts := self.changes.get(name))
            else carried
            for name, carried in self.tables.items()
        }

    def receipt(
        self, already: bool, targets: dict[str, str], rejected: Sequence[Rejected] = (), seconds: float = 0.0
    ) -> Receipt:  # fmt: skip
        """Say what the target holds for the load."""
        changes = {name: Changes(**counts) for name, counts in self.changes.items()}
        return Receipt(self.load_id, already, self.rows(), targets, changes, tuple(rejected), seconds)

    def to_json(self) -> str:
        """Write the entry as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "Entry":
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        LoadError
            When somebody else has written it.
        """
        try:
            return cls(**json.loads(line))
        except (ValueError, TypeError, AttributeError) as error:
            raise LoadError(
                "the ledger of the target is damaged",
                got=f"{line[:100]} ({error})",
                hint="restore the target from a copy, or choose another",
            ) from error


def _require_shape(entry: Entry) -> None:
    """Refuse what somebody else has put into an entry.

    Raises
    ------
    ValueError
    """
    counts = [entry.tables, *entry.changes.values()]
    fits = all(isinstance(count, int) for table in counts for count in table.values())
    for total in (total for table in entry.totals.values() for total in table.values()):
        values, text = total
        fits = fits and isinstance(values, int) and (text is None or _NUMBER.fullmatch(text) is not None)
    if not fits:
        raise ValueError("a count is not a number")


def completed(entry: Entry, written: Mapping[str, Container[str]]) -> Entry:
    """Return the entry of a load, once it is known what became of it, with totals of what can be compared by them.

    Parameters
    ----------
    entry : Entry
    written : mapping
        By table, the columns that were written.
    """
    totals = {
        table: {name: total for name, total in found.items() if name in written[table]}
        for table, found in entry.totals.items()
        if not any(entry.changes.get(table, {}).get(name) for name in ("rejected", "duplicates"))
    }
    return replace(entry, totals=totals)


def after_purge(entries: Sequence[Entry], names: Sequence[str], tables: Collection[str]) -> list[Entry]:
    """Return entries that say nothing of some customers any more, who were taken out of some tables.

    A total of all rows beside the sum of those that are left would give away what they had.
    """
    return [
        replace(
            entry,
            totals={table: found for table, found in entry.totals.items() if table not in tables},
            purged=tuple(sorted({*entry.purged, *(entry.tables.keys() & tables)})),
        )
        for entry in without_names(entries, names)
    ]


def without_names(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """Return entries whose messages, which may quote a database or a check, name none of these."""
    pattern = name_pattern(names)
    return [replace(entry, message=pattern.sub(HIDDEN, entry.message)) for entry in entries]


def find_held(entries: Sequence[Entry], load: Load) -> Entry | None:
    """Find the entry that shows ``load`` as done, by the rule above."""
    names = {table.name for table in load.tables}
    published = (entry for entry in entries if entry.status == "published" and entry.load_id == load.load_id)
    mine = next(published, None)
    if mine is None or mine.tables.keys() != names:
        return None
    if load.strategy == "replace" and any(_loads_in(entries, name) != {load.load_id} for name in names):
        return None
    if load.strategy in _BY_KEY and (mine.strategy != load.strategy or touched_since(entries, mine) & names):
        return None
    return mine


def touched_since(entries: Sequence[Entry], entry: Entry) -> set[str]:
    """Name the tables that loads after this one have touched."""
    later = (other for other in entries if other.sequence > entry.sequence and other.status != "failed")
    return {name for other in later for name in other.tables}


def rewritten_since(entries: Sequence[Entry], entry: Entry) -> set[str]:
    """Name the tables in which later loads may have put their own id into rows of this one."""
    return touched_since([other for other in entries if other.strategy in _BY_KEY], entry)


def known_rows(entries: Sequence[Entry], table: str) -> int | None:
    """Return how many rows a table must have in all; None where rows may be in it that no entry counts."""
    rows = None
    for entry in entries:
        if table in entry.tables and entry.status != "failed":
            if entry.strategy == "replace":
                rows = entry.tables[table]
            elif entry.strategy == "append" and rows is not None and entry.status == "published":
                rows += entry.tables[table]
            else:  # by its keys, or rows of which some may be gone
                rows = None
            if table in entry.purged:
                rows = None
    return rows


def next_sequence(entries: Sequence[Entry]) -> int:
    """Return the number of the next entry."""
    return max((entry.sequence for entry in entries), default=0) + 1


def add_entry(entries: Sequence[Entry], load: Load) -> list[Entry]:
    """Return the ledger as it is once ``load`` is published; the new entry is the last."""
    sequence = next_sequence(entries)
    tables = {table.name: table.rows for table in load.tables}

    def wiped(entry: Entry) -> bool:
        shares = load.strategy == "replace" and bool(entry.tables.keys() & tables.keys())
        return entry.status == "published" and (shares or entry.load_id == load.load_id)

    def wipe(entry: Entry) -> Entry:
        said = [entry.message] if entry.message else []
        message = "; ".join([*said, f"replaced by sequence {sequence}"])
        return replace(entry, status="replaced", message=message, totals={})

    kept = [wipe(entry) if wiped(entry) else entry for entry in entries]
    new = Entry(
        sequence=sequence,
        load_id=load.load_id,
        run_id=load.run_id,
        strategy=load.strategy,
        status="published",
        tables=tables,
        source_rows=load.source_rows,
        loaded_at=iso_text(load.loaded_at),
        published_at=iso_text(datetime.now(UTC)),
        message="",
        totals={parts.name: dict(parts.totals) for parts in load.tables if load.strategy not in _BY_KEY},
        mark=load.metadata.load_id or "",
    )
    return [*kept, new]


def short_id(load_id: str, entries: Sequence[Entry] = ()) -> str:
    """Shorten a load id to 8 hexadecimal digits for names; more if an earlier load in the ledger begins alike."""
    earlier = set()
    for entry in entries:
        if entry.load_id == load_id:
            break
        earlier.add(_digits(entry.load_id))
    digits = _digits(load_id)
    return next(
        (digits[:size] for size in (8, 16) if not any(other.startswith(digits[:size]) for other in earlier)), digits
    )


def naive_utc(moment: datetime) -> datetime:
    """Drop the offset of a moment, after bringing it to UTC; one without offset is UTC already."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def iso_text(moment: datetime) -> str:
    """Write a moment in UTC as ``2011-12-01 08:26:00``, with six digits of a fraction if there is one."""
    return naive_utc(moment).isoformat(sep=" ")


def _loads_in(entries: Sequence[Entry], table: str) -> set[str]:
    """Play the history of one table: it may still hold rows of a load that lost its rows in another table."""
    loads: set[str] = set()
    for entry in entries:
        if table in entry.tables and entry.status != "failed":
            loads = {entry.load_id} if entry.strategy == "replace" else loads | {entry.load_id}
    return loads


def _digits(load_id: str) -> str:
    if re.fullmatch(r"[0-9a-f]{16,64}", load_id):
        return load_id
    return hashlib.sha256(load_id.encode()).hexdigest()
