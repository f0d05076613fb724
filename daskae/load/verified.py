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

    def verify(self) -> Verified:
        """Compare all that is there with what was noted when it was loaded.

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
    mark: str
    """Column with the id of the load; empty to measure all rows."""
    load_id: str
    columns: Mapping[str, bool]
    """By name, whether it is added up."""


Measure = Callable[[Question], Measured | str]
"""Looks at a table; a text where the table or the column with the id is not there."""


def compare_loads(
    entries: Sequence[Entry], measure: Measure, broken: Collection[str] = ()
) -> Iterator[Comparison | str]:  # fmt: skip
    """Compare every published load with its rows, except in broken tables; a text says what cannot be compared."""
    published = [entry for entry in entries if entry.status == "published"]
    for entry in published:
        later = rewritten_since(entries, entry)
        for table in (name for name in entry.tables if name not in broken):
            if table in later:
                yield _left_out(table, entry, "rows of it carry the id of a later load")
            elif table in entry.purged:
                yield _left_out(table, entry, "customers were taken out of it")
            else:
                yield from _compare_load(entries, entry, table, measure)
    for table in dict.fromkeys(name for entry in published for name in entry.tables):
        rows = known_rows(entries, table)
        if rows is not None and table not in broken:
            yield Comparison(table, "rows of all loads", str(rows), _rows(measure(Question(table, "", "", {}))))


def _compare_load(
    entries: Sequence[Entry], entry: Entry, table: str, measure: Measure
) -> Iterator[Comparison | str]:  # fmt: skip
    loaded = entry.totals.get(table, {})
    if not entry.mark and known_rows(entries, table) != entry.tables[table]:
        yield _left_out(table, entry, "no column tells its rows from others")
        return
    columns = {name: total is not None for name, (_, total) in loaded.items()}
    found = measure(Question(table, entry.mark, entry.load_id, columns))
    yield Comparison(table, "rows", str(entry.tables[table]), _rows(found), entry.load_id)
    if isinstance(found, str):
        return
    if not loaded:
        yield _left_out(table, entry, "its columns: only of a replace or an append that left no row out they are noted")
    for name, (values, total) in loaded.items():
        if name not in found.totals:
            yield Comparison(table, f"column {name}", "there", "no such column", entry.load_id)
            continue
        now, its_sum = found.totals[name]
        yield Comparison(table, f"values of {name}", str(values), str(now), entry.load_id)
        if total is not None and its_sum is None:
            yield _left_out(table, entry, f"the sum of {name}: the database does not add up exactly")
        elif total is not None and its_sum is not None:
            yield Comparison(table, f"sum of {name}", _plain(total), _plain(its_sum), entry.load_id)


def _rows(found: Measured | str) -> str:
    return found if isinstance(found, str) else str(found.rows)


def _left_out(table: str, entry: Entry, why: str) -> str:
    return f"{table}, load {entry.load_id[:8]}: {why}"


def _plain(number: str) -> str:
    """Write a decimal without zeros at its end, so that equal numbers are equal texts."""
    text = format(Decimal(number), "f")
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text
