"""The Parquet sink for a local folder: all tables of a load become visible by one rename.

Every load makes a new snapshot: files in which nothing changes are hard links to those that were there, rows of the
others are written anew; :mod:`.tables` decides that. Tables of other loads are carried along. Each snapshot carries the
ledger, so rows and ledger change in the same rename and a load is there once; :mod:`daskae.load.ledger` has the rule
and :mod:`.snapshots` the layout.

What a reader on the same machine may rely on, while any number of loads is published:

- ``OUT/customer_metrics/*.parquet``, or ``**/*.parquet`` for a table in folders, gives the rows of one load, never of
  two and never a part. New files have names of their own, so who listed the table before a publish and opens the files
  after it gets "no such file" for one that changed, and lists again.
- The snapshot before the current one stays, so open files and resolved paths remain good for one publish more.
- Who wants several tables of one load resolves ``OUT/.daskae/current`` once, and reads below that.

A table in folders has one folder more above them, named after the snapshot that last changed it
(``OUT/customer_metrics/7-0f3a99c1/cohort_month=2011-12-01/0f3a99c1-00000.parquet``): folders are listed one after the
other, and a list that was begun before a publish must not be finished in the files of the next load.

On a network file system the same holds where its rename is atomic and its clients do not cache links (NFS may serve the
old snapshot for some seconds). Object stores have their own sink, :mod:`.remote`.
"""

import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from daskae.durable import sync
from daskae.errors import LoadError, TargetBusyError
from daskae.faults import crash_point
from daskae.hashing import file_checksum
from daskae.load.base import Load, Receipt, Rejected
from daskae.load.checks import check_load
from daskae.load.failures import translated
from daskae.load.ledger import (
    Entry,
    add_entry,
    after_purge,
    find_held,
    iso_text,
    rewritten_since,
    short_id,
    without_names,
)
from daskae.load.lock import publisher_lock
from daskae.load.parquet.batch import Batch, read_batch
from daskae.load.parquet.checking import Target, run_checks, try_checks
from daskae.load.parquet.contents import FileSum, read_contents, verify_files, write_contents
from daskae.load.parquet.older import Older, target_schema
from daskae.load.parquet.purging import count_rows, find_rows, rewrite
from daskae.load.parquet.snapshots import (
    LEDGER,
    SCRATCH,
    Snapshots,
    carry_over,
    carry_over_tables,
    files_folder,
)
from daskae.load.parquet.tables import Written, check_files, entry_of, first_file, write_table
from daskae.load.parquet.writing import Put, encode
from daskae.load.purged import Purged, nothing_loaded
from daskae.load.verified import Comparison, Verified


class ParquetSink:
    """Publish loads as Parquet files into a local folder.

    Parameters
    ----------
    folder : Path
        The folder; it is created when the first load is published.
    timeout : float, default 30
        Seconds to wait for another publisher before :class:`~daskae.errors.TargetBusyError`.
    """

    def __init__(self, folder: Path, timeout: float = 30.0) -> None:
        self._target = str(folder)
        # Two names of one folder must lead to one lock.
        self._snapshots = Snapshots(folder.resolve())
        self._timeout = timeout

    def preflight(self, load: Load) -> Receipt | None:
        """Check that the folder can take the load; see :class:`daskae.load.base.Sink`."""
        check_load(load)
        check_files(load)
        with translated(self._target):
            self._check_place()
            current = self._snapshots.current()
            if receipt := self._find_receipt(current, load):
                return receipt
            try_checks(load, self._check_tables(current, load))
        return None

    def publish(self, load: Load) -> Receipt:
        """Make the load visible by one rename; see :class:`daskae.load.base.Sink`."""
        check_load(load)
        check_files(load)
        with translated(self._target):
            self._check_place()
            self._snapshots.hidden.mkdir(parents=True, exist_ok=True)
            with publisher_lock(self._snapshots.hidden / "lock", self._timeout, self._target):
                current = self._snapshots.current()
                if receipt := self._find_receipt(current, load):
                    return receipt
                return self._publish(load, current, self._check_tables(current, load))

    def _publish(self, load: Load, current: Path | None, targets: Mapping[str, Target]) -> Receipt:
        began, started_at = time.monotonic(), iso_text(datetime.now(UTC))
        entries = _read_ledger(current)
        first = first_file(load, entries)
        batches = {parts.name: read_batch(load, parts) for parts in load.tables}
        verdicts = run_checks(load, "before", targets, batches)
        folder = self._snapshots.start(short_id(load.load_id, entries))
        try:
            crash_point("parquet.started")
            carry_over_tables(current, folder, {parts.name for parts in load.tables})
            written = {name: _write(load, batch, targets[name], folder, first) for name, batch in batches.items()}
            after = {name: replace(target, older=_older(folder, name)) for name, target in targets.items()}
            verdicts += run_checks(load, "after", after, batches)
            *others, entry = add_entry(entries, load)
            entry = entry_of(entry, written, started_at, verdicts)
            _write_ledger(folder, [*others, entry])
            _note_contents(folder, current)
            crash_point("parquet.written")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._snapshots.flip(folder)
        crash_point("parquet.flipped")
        with suppress(OSError):  # the load is published; what cannot be removed is removed by the next run
            self._snapshots.sweep()
        rejected = tuple(found for table in written.values() for found in table.rejected)
        receipt = self._receipt(entry, False, rejected, time.monotonic() - began)
        return replace(receipt, checks=tuple(verdicts))

    def purge(self, customers: Sequence[str], dry_run: bool) -> Purged:
        """Make a snapshot without customers, and remove older ones that name them; see :mod:`daskae.load.purged`."""
        with translated(self._target):
            current = self._snapshots.current()
            if current is None:
                raise nothing_loaded(self._target)
            if dry_run:
                return Purged(count_rows(_find(current, customers)))
            with publisher_lock(self._snapshots.hidden / "lock", self._timeout, self._target):
                current = self._snapshots.current()
                assert current is not None
                found = _find(current, customers)
                if _names(current, customers):
                    self._leave_out(found, customers, current)
                crash_point("parquet.purged")
                return Purged(count_rows(found), self._snapshots.forget(lambda older: _names(older, customers)))

    def verify(self) -> Verified:
        """Compare the current snapshot with its ledger and checksums; see :class:`daskae.load.verified.CanVerify`."""
        with translated(self._target):
            current = self._snapshots.current()
            if current is None:
                raise nothing_loaded(self._target)
            try:
                return self._verify(current)
            except (LoadError, FileNotFoundError):
                if current.is_dir():
                    raise
                raise TargetBusyError(
                    "others have loaded while the target was looked at", self._target, hint="run the same command again"
                ) from None

    def _verify(self, current: Path) -> Verified:
        noted, names = read_contents(current), sorted(path.name for path in current.iterdir() if path.is_dir())
        self._snapshots.check_links(names)
        links = [name for name in names if not (self._snapshots.root / name).is_symlink()]
        gone = [Comparison(name, "link that readers open", "there", "no such link") for name in links]
        tables = {name: _older(current, name) for name in names}

        def measure(table: str, name: str) -> FileSum:
            return file_checksum(files_folder(current / table) / name)

        found = verify_files(self._target, _read_ledger(current), noted and noted[1], tables, measure)
        return replace(found, comparisons=(*gone, *found.comparisons))

    def _leave_out(self, found: Mapping[str, Mapping[str, int]], customers: Sequence[str], current: Path) -> None:
        folder = self._snapshots.start("purge")
        touched = {name: files for name, files in found.items() if files}
        try:
            carry_over_tables(current, folder, touched)
            for name, files in touched.items():
                older, source, place = _older(current, name), files_folder(current / name), folder / name
                place = place if source == current / name else place / folder.name  # see the module's text
                place.mkdir(parents=True)
                for kept in set(rewrite(older, files, customers, _put_into(place))) & set(older.names):
                    carry_over(source / kept, place / kept)
            _write_ledger(folder, after_purge(_read_ledger(current), customers, touched))
            _note_contents(folder, current)
            crash_point("parquet.unpurged")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._snapshots.flip(folder)

    def _check_place(self) -> None:
        place = self._snapshots.root
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise LoadError("the output folder is a file", where=str(place), hint="choose another folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise LoadError(
                "the output folder cannot be written", where=str(place), hint="give write access, or choose another"
            )

    def _check_tables(self, current: Path | None, load: Load) -> dict[str, Target]:
        stem = short_id(load.load_id, _read_ledger(current))
        olders = {parts.name: _older(current, parts.name) for parts in load.tables}
        targets = {
            parts.name: Target(olders[parts.name], target_schema(load, parts, olders[parts.name], stem))
            for parts in load.tables
        }
        self._snapshots.check_links(targets)
        return targets

    def _find_receipt(self, current: Path | None, load: Load) -> Receipt | None:
        entries = _read_ledger(current)
        entry = find_held(entries, load)
        if entry is None or current is None:
            return None
        rewritten = rewritten_since(entries, entry)
        for name, rows in entry.tables.items():
            if not (self._snapshots.root / name).is_dir():
                return None
            older = _older(current, name)
            if any(older.is_damaged(file) for file in older.names):
                return None
            if name not in rewritten and sum(older.rows_of(file, load) for file in older.names) != rows:
                return None
        return self._receipt(entry, already=True)

    def _receipt(
        self, entry: Entry, already: bool, rejected: tuple[Rejected, ...] = (), seconds: float = 0.0
    ) -> Receipt:  # fmt: skip
        targets = {name: str(Path(self._target) / name) for name in entry.tables}
        return entry.receipt(already, targets, rejected, seconds)


def _older(current: Path | None, name: str) -> Older:
    """Describe the files of a table as readers see them."""
    place = files_folder(current / name) if current else Path()
    names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*.parquet")) if current else []
    return Older(names, lambda file: nullcontext(place / file))


def _write(load: Load, batch: Batch, target: Target, folder: Path, first: str) -> Written:
    place = folder / batch.parts.name
    place.mkdir()
    if batch.parts.partition_by:
        place = place / folder.name  # see the module's text
        place.mkdir()

    written = write_table(load, batch, target, first, folder / SCRATCH, _put_into(place))
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    for name in written.kept:
        with target.older.open_file(name) as source:
            carry_over(source, place / name)
    return written


def _put_into(place: Path) -> Put:
    def put(name: str, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encode(schema, groups, str(path))
        sync(path)
        crash_point("parquet.writing")

    return put


def _names(snapshot: Path, customers: Sequence[str]) -> bool:
    entries = _read_ledger(snapshot)
    return any(_find(snapshot, customers).values()) or without_names(entries, customers) != entries


def _find(snapshot: Path, customers: Sequence[str]) -> dict[str, dict[str, int]]:
    tables = sorted(path.name for path in snapshot.iterdir() if path.is_dir())
    return find_rows({name: _older(snapshot, name) for name in tables}, customers)


def _read_ledger(current: Path | None) -> list[Entry]:
    if current is None:
        return []
    noted = read_contents(current)
    if not (current / LEDGER).exists() or (noted is not None and file_checksum(current / LEDGER) != noted[0]):
        raise LoadError(
            "the ledger of the target is gone, or not as it was written",
            where=str(current / LEDGER),
            hint="restore the target from a copy, or choose another",
        )
    return [Entry.from_json(line) for line in (current / LEDGER).read_text(encoding="utf-8").splitlines()]


def _write_ledger(folder: Path, entries: Sequence[Entry]) -> None:
    path = folder / LEDGER
    path.write_text("".join(entry.to_json() + "\n" for entry in entries), encoding="utf-8")
    sync(path)


def _note_contents(folder: Path, current: Path | None) -> None:
    """Note the checksums of a finished snapshot: of files that stay those of the time when they were new."""
    noted = read_contents(current) if current else None
    files: dict[str, dict[str, FileSum]] = {}
    for table in sorted(path for path in folder.iterdir() if path.is_dir()):
        known, place = noted[1].get(table.name, {}) if noted else {}, files_folder(table)
        names = _older(folder, table.name).names
        files[table.name] = {name: known.get(name) or file_checksum(place / name) for name in names}
    write_contents(folder, folder / LEDGER, files)
