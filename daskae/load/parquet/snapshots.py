"""Snapshots of a folder: many files in many tables that change in one step, by one rename.

::

    OUT/
      customer_metrics -> .daskae/current/customer_metrics
      .daskae/
        current -> snapshots/7-0f3a99c1
        snapshots/
          6-5be0d2aa/                     kept for readers that are in the middle of it
          7-0f3a99c1/
            ledger.jsonl                  the loads whose rows are in this snapshot
            contents.json                 checksums of the ledger and of all files
            customer_metrics/0f3a99c1-00000.parquet

Readers open ``OUT/customer_metrics/*.parquet``, or ``**/*.parquet`` for a table in folders. Who reads several tables
and wants them of one load resolves ``OUT/.daskae/current`` once and reads below that. A snapshot is complete and synced
to disk before ``current`` is turned to it; a folder under ``snapshots`` with a number above the current one is what a
dead run left.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from daskae.durable import sync, sync_names
from daskae.errors import LoadError
from daskae.faults import crash_point

HIDDEN = ".daskae"
LEDGER = "ledger.jsonl"
SCRATCH = ".scratch"


class Snapshots:
    """The snapshots of one output folder. All writing methods expect the publisher's lock to be held."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hidden = root / HIDDEN
        self._folders = self.hidden / "snapshots"
        self._pointer = self.hidden / "current"

    def current(self) -> Path | None:
        """Return the folder that readers see, if there is one."""
        return self._pointer.resolve() if self._pointer.is_dir() else None

    def check_links(self, tables: Iterable[str]) -> None:
        """Refuse to replace anything at ``OUT/<table>`` that this class did not put there.

        Raises
        ------
        LoadError
            For a file, a folder with content, or a link to elsewhere.
        """
        if self._pointer.exists() and not self._pointer.is_symlink():
            raise LoadError(
                "the output folder was copied without its links",
                where=str(self._pointer),
                hint="choose another folder, or copy it again with its links (cp -a, rsync -a)",
            )
        for table in tables:
            place = self.root / table
            if place.is_symlink():
                mine = os.readlink(place) == self._link_text(table)
            else:
                mine = not place.exists() or (place.is_dir() and not any(place.iterdir()))
            if not mine:
                raise LoadError(
                    "something that daskae did not write is in the place of an output table",
                    where=str(place),
                    hint="move it away, or choose another folder",
                )

    def start(self, name: str) -> Path:
        """Sweep what dead runs left and make the folder of the next snapshot."""
        self.sweep()
        current = self.current()
        number = _number(current) + 1 if current else 1
        folder = self._folders / f"{number}-{name}"
        folder.mkdir(parents=True)
        return folder

    def flip(self, folder: Path) -> None:
        """Make a finished snapshot the current one: after this rename all tables are new, before it all are old."""
        for path in [*(path for path in folder.rglob("*") if path.is_dir()), folder, self._folders]:
            sync(path)
        for table in folder.iterdir():
            if table.is_dir():
                self._link(table.name)
        sync(self.root)
        if not self._pointer.is_symlink():  # the first one may be in a folder that was made for it
            sync_names(self.root)
        fresh = self.hidden / "current.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.path.relpath(folder, self.hidden))
        crash_point("parquet.linked")
        fresh.replace(self._pointer)
        sync(self.hidden)

    def sweep(self) -> None:
        """Remove all snapshots but the current one and the one before it."""
        current = self.current()
        if not self._folders.is_dir():
            return
        numbers = {folder: _number(folder) for folder in self._folders.iterdir()}
        top = _number(current) if current else 0
        done = sorted((folder for folder, number in numbers.items() if number <= top), key=numbers.__getitem__)
        for folder in numbers.keys() - set(done[-2:]):
            shutil.rmtree(folder)

    def forget(self, unwanted: Callable[[Path], bool]) -> int:
        """Remove snapshots before the current one that hold what nobody may read any more; returns how many.

        Whoever is in the middle of one gets "no such file", sooner than is promised otherwise.
        """
        self.sweep()
        current = self.current()
        others = [folder for folder in self._folders.iterdir() if folder != current and unwanted(folder)]
        for folder in others:
            shutil.rmtree(folder)
        sync(self._folders)  # what is gone must not be back after a power cut
        return len(others)

    def _link(self, table: str) -> None:
        place = self.root / table
        if place.is_symlink():
            return
        if place.is_dir():
            place.rmdir()
        place.symlink_to(self._link_text(table))

    def _link_text(self, table: str) -> str:
        return f"{HIDDEN}/current/{table}"


def files_folder(table: Path) -> Path:
    """Return the folder below which the files of a table are: a partitioned one has a folder of its own for them."""
    inner = [path for path in table.iterdir() if path.is_dir() and "=" not in path.name] if table.is_dir() else []
    return inner[0] if inner else table


def carry_over_tables(current: Path | None, folder: Path, without: Collection[str]) -> None:
    """Bring the tables of other loads into a new snapshot."""
    for table in current.iterdir() if current else ():
        if table.is_dir() and table.name not in without:
            (folder / table.name).mkdir()
            for file in table.rglob("*.parquet"):
                carry_over(file, folder / file.relative_to(table.parent))


def carry_over(source: Path, target: Path) -> None:
    """Bring a file into a new snapshot without copying it where the disk allows that."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync(target)


def _number(folder: Path) -> int:
    digits = folder.name.partition("-")[0]
    return int(digits) if digits.isdecimal() else 0
