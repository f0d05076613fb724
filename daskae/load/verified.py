"""Whether a target still holds what was loaded into it: its ledger against its rows, and files against their checksums.

Of each load that is ``published`` the rows that carry its id are counted, and where the ledger has totals of its
columns, values are counted and whole numbers and exact decimals added up again. A table that a later upsert or merge
has touched holds some of a load's rows under another id, so there the older loads are not compared.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, runtime_checkable

from daskae.load.base import ColumnTotal
from daskae.load.ledger import Entry, known_rows, rewritten_since


@dataclass(frozen=True)
class Comparison:
    """One thing that was noted when it was loaded, and what is there now."""

    table: str
    what: str
    """``rows``, ``sum of total_revenue``, ``file 0f3a99c1-00000.parquet`` and so on."""
    loaded: str
    found: str
    load_id: str = ""
    """Empty for what belongs to no single load."""

    @property
    def is_same(self) -> bool:
        """Whether it is as it was loaded."""
        return self.loaded == self.found


@dataclass(frozen=True)
class Verified:
    """What a look at a target found."""

    target: str
    loads: int
    """Loads whose rows are in the target, by its ledger."""
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]
    """What could not be compared, and why."""

    @property
    def differences(self) -> tuple[Comparison, ...]:
        """What is not as it was loaded."""
        return tuple(item for item in self.comparisons if not item.is_same)


@runtime_checkable
class CanVerify(Protocol):
    """A sink that can look at what it holds."""

    def verify(self, mark: str | None) -> Verified:
        """Compare all that is there with what was noted when it was loaded.

        Parameters
        ----------
        mark : str or None
            Name of the metadata column that holds the id of the load; None where the settings leave it out.

        Raises
        ------
        LoadError
            When nothing was ever loaded, or the target cannot be read.
        TargetBusyError
            When somebody publishes meanwhile; trying again can succeed.
        """


@dataclass(frozen=True)
class Measured:
    """What a table holds now."""

    rows: int
    totals: Mapping[str, ColumnTotal]
    """By column, without those that are not there; a sum is None where the target cannot add up exactly."""


@dataclass(frozen=True)
class Question:
    """What is to be measured of a table."""

    table: str
    load_id: str
    """Rows of this load only; all rows for an empty text."""
    columns: Mapping[str, bool]
    """By name, whether it is added up."""


Measure = Callable[[Question], Measured | None]
"""Looks at a table: None where there is none, or no column that tells the loads apart though one is asked for."""


def compare_loads(
    entries: Sequence[Entry], mark: str | None, measure: Measure, broken: Collection[str] = ()
) -> Iterator[Comparison | str]:  # fmt: skip
    """Compare every published load with its rows, except in broken tables; a text says what cannot be compared."""
    published = [entry for entry in entries if entry.status == "published"]
    for entry in published:
        later = rewritten_since(entries, entry)
        for table in entry.tables:
            if table not in broken:
                if table in later:
                    yield f"{table}, load {entry.load_id[:8]}: rows of it carry the id of a later load"
                else:
                    yield from _compare_load(entries, entry, table, mark, measure)
    for table in dict.fromkeys(name for entry in published for name in entry.tables):
        rows = known_rows(entries, table)
        if rows is not None and table not in broken:
            found = measure(Question(table, "", {}))
            yield Comparison(table, "rows of all loads", str(rows), _rows(found))


def _compare_load(
    entries: Sequence[Entry], entry: Entry, table: str, mark: str | None, measure: Measure
) -> Iterator[Comparison | str]:  # fmt: skip
    loaded = entry.column_totals(table)
    alone = known_rows(entries, table) == entry.tables[table]
    if mark is None and not alone:
        yield f"{table}, load {entry.load_id[:8]}: no column tells its rows from others"
        return
    columns = {name: total is not None for name, (_, total) in loaded.items()}
    found = measure(Question(table, "" if mark is None else entry.load_id, columns))
    yield Comparison(table, "rows", str(entry.tables[table]), _rows(found), entry.load_id)
    if found is None:
        return
    for name, (values, total) in loaded.items():
        if name not in found.totals:
            yield f"{table}, load {entry.load_id[:8]}: column {name} is not in the table"
            continue
        now, its_sum = found.totals[name]
        yield Comparison(table, f"values of {name}", str(values), str(now), entry.load_id)
        if total is not None and its_sum is None:
            yield f"{table}, load {entry.load_id[:8]}: {name} cannot be added up exactly"
        elif total is not None and its_sum is not None:
            yield Comparison(table, f"sum of {name}", _plain(total), _plain(its_sum), entry.load_id)


def _rows(found: Measured | None) -> str:
    return "no table with them" if found is None else str(found.rows)


def _plain(number: str) -> str:
    """Write a decimal without zeros at its end, so that equal numbers are equal texts."""
    text = format(Decimal(number), "f")
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text
