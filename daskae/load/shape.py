"""What tables in a target should look like: the columns that say where rows came from, and what may differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

if TYPE_CHECKING:
    from daskae.load.base import Load

DriftPolicy = Literal["evolve", "freeze", "ignore", "quarantine"]
Change = Literal["create", "alter", "keep"]


@dataclass(frozen=True)
class Drift:
    """What happens where a table that exists has other columns than the result.

    ============  ======================  =============================  ===============================
    policy        a column of the result  a column of the table          a type that is too small
                  is not in the table     is not in the result
    ============  ======================  =============================  ===============================
    evolve        it is added             it stays; new rows have null   it is widened where that is safe
    freeze        refused                 refused                        refused
    ignore        it is left out          as evolve                      the column is left out
    quarantine    rows with a value in    as evolve                      rows with a value in it are left
                  it are left out, kept                                  out, kept
    ============  ======================  =============================  ===============================

    Whatever the policy, a column that must have a value and gets none, and a key that would be left out, are refused.
    Metadata columns are no drift: a table that lacks them gets them.
    """

    default: DriftPolicy = "evolve"
    columns: Mapping[str, DriftPolicy] = field(default_factory=dict)
    """Policies of single columns, by name."""

    def policy(self, name: str, fold: Callable[[str], str]) -> DriftPolicy:
        """Return the policy of a column; ``fold`` makes spellings of one name equal."""
        return {fold(column): policy for column, policy in self.columns.items()}.get(fold(name), self.default)

    def identity(self) -> tuple[str, ...]:
        """Name the policies that change what is loaded: loads that differ in them are different loads."""
        named = {"": self.default, **self.columns}
        return tuple(f"{policy} {name}" for name, policy in sorted(named.items()) if policy in ("ignore", "quarantine"))


@dataclass(frozen=True)
class Metadata:
    """Columns that every table gets beside its own, by the name they have there; None for one that is left out."""

    load_id: str | None = "_load_id"
    loaded_at: str | None = "_loaded_at"
    source_rows: str | None = "_source_rows"

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are used, in order."""
        return tuple(name for name in (self.load_id, self.loaded_at, self.source_rows) if name is not None)


@dataclass(frozen=True)
class TableChange:
    """What a load would do to the shape of one table."""

    table: str
    change: Change
    statements: tuple[str, ...] = ()
    """DDL in the order it would run."""
    notes: tuple[str, ...] = ()
    """The same in words, and what would be left out."""


@runtime_checkable
class Shaping(Protocol):
    """A sink that can say beforehand what it would do to its tables."""

    def plan_changes(self, load: "Load") -> tuple[TableChange, ...]:
        """Return what the load would do to the shape of each table, writing nothing.

        Raises
        ------
        LoadError
            When the target cannot take the load.
        """


POLICIES: tuple[DriftPolicy, ...] = get_args(DriftPolicy)
