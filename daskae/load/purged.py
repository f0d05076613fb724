"""What is taken out of a target with single customers: their rows, in every table that has the column ``customer_id``.

Ids are compared as texts, code point by code point. Tables without that column hold sums over many customers and stay
as they were loaded. The ledger stays too: it tells of loads, and a load of which rows are missing counts as not done,
so the same command again brings them back if its input still has them. (On an object store, whose ledger is compared
by files alone, it does so once the input has changed.)

A SQLite file is written anew, and earlier snapshots of a folder that name the customers go. Not reached are places that
only others can clean: free pages of DuckDB and of database servers, their logs, backups, replicas, old versions in a
bucket.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from daskae.errors import LoadError

CUSTOMER = "customer_id"


@dataclass(frozen=True)
class Purged:
    """What was taken out of a target, or would be."""

    rows: dict[str, int]
    """Rows by table; 0 for a table that has the column and none of the customers."""
    older_snapshots: int = 0
    """Earlier states of a folder that named the customers, and are gone as a whole."""


@runtime_checkable
class CanPurge(Protocol):
    """A sink that can take out the rows of customers."""

    def purge(self, customers: Sequence[str], dry_run: bool) -> Purged:
        """Take them out, all of them or none, while nobody else publishes.

        Raises
        ------
        LoadError
            The target is as it was, or holds leftovers of removed rows, which the same command again removes.
        TargetBusyError
            Somebody else holds the target; trying again later can succeed.
        """


def nothing_loaded(target: str) -> LoadError:
    """Return the error for a target without a ledger: most likely not the one that was meant."""
    return LoadError("nothing was ever loaded into this target", target, hint="name another one by --to")
