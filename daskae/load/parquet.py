"""The Parquet sink for a local folder: all tables of a load become visible by one rename.

``replace`` makes a snapshot with this load's files in its tables; ``append`` one with the files that were there, as
hard links, and this load's beside them. Tables of other loads are carried along. Each snapshot carries the ledger, so
rows and ledger change in the same rename and a load is there once; :mod:`daskae.load.ledger` has the rule and
:mod:`daskae.load.snapshots` the layout.

Files are named after their load. Who listed a table before a replace and opens its files after it gets "no such file",
never rows of two loads; the snapshot before the current one stays, so open files and resolved paths remain good.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from daskae.errors import LoadError
from daskae.faults import crash_point
from daskae.load.base import Load, Receipt
from daskae.load.checks import check_files_strategy, check_load
from daskae.load.failures import translated
from daskae.load.ledger import Entry, add_entry, find_held, short_id
from daskae.load.lock import publisher_lock
from daskae.load.parquet_files import check_older_file, encode, file_schema, write_files
from daskae.load.snapshots import LEDGER, Snapshots, carry_over, sync


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
        check_files_strategy(load)
        with translated(self._target):
            self._check_place()
            current = self._snapshots.current()
            if receipt := self._find_receipt(current, load):
                return receipt
            self._check_tables(current, load)
        return None

    def publish(self, load: Load) -> Receipt:
        """Make the load visible by one rename; see :class:`daskae.load.base.Sink`."""
        check_load(load)
        check_files_strategy(load)
        with translated(self._target):
            self._check_place()
            self._snapshots.hidden.mkdir(parents=True, exist_ok=True)
            with publisher_lock(self._snapshots.hidden / "lock", self._timeout, self._target):
                current = self._snapshots.current()
                if receipt := self._find_receipt(current, load):
                    return receipt
                self._check_tables(current, load)
                self._publish(load, current)
        return self._receipt(load, already=False)

    def _publish(self, load: Load, current: Path | None) -> None:
        entries = _read_ledger(current)
        stem = short_id(load.load_id, entries)
        folder = self._snapshots.start(stem)
        try:
            _carry_over(load, current, folder, stem)
            _write(load, folder, stem)
            _write_ledger(folder, add_entry(entries, load))
            crash_point("parquet.written")
            tables = [path.name for path in folder.iterdir() if path.is_dir()]
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._snapshots.flip(folder, tables)
        crash_point("parquet.flipped")
        with suppress(OSError):  # the load is published; what cannot be removed is removed by the next run
            self._snapshots.sweep()

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

    def _check_tables(self, current: Path | None, load: Load) -> None:
        stem = short_id(load.load_id, _read_ledger(current))
        for parts in load.tables:
            if "/" in parts.name or parts.name.startswith("."):
                raise LoadError(
                    "a table has a name that cannot be a folder",
                    where=f"table {parts.name}",
                    allowed="a name without / and not starting with a point",
                )
            schema = file_schema(parts)
            if load.strategy == "append" and current:
                for older in _other_files(current / parts.name, stem)[:1]:
                    check_older_file(older, schema, parts)
        self._snapshots.check_links(parts.name for parts in load.tables)

    def _find_receipt(self, current: Path | None, load: Load) -> Receipt | None:
        entries = _read_ledger(current)
        entry = find_held(entries, load)
        if entry is None or current is None:
            return None
        stem = short_id(load.load_id, entries)
        for name, rows in entry.tables.items():
            reachable = (self._snapshots.root / name).is_dir()
            if not reachable or sum(map(_count_rows, _own_files(current / name, stem))) != rows:
                return None
        return self._receipt(load, already=True, rows=entry.tables)

    def _receipt(self, load: Load, already: bool, rows: Mapping[str, int] | None = None) -> Receipt:
        rows = rows or {parts.name: parts.rows for parts in load.tables}
        return Receipt(load.load_id, already, dict(rows), {name: str(Path(self._target) / name) for name in rows})


def _carry_over(load: Load, current: Path | None, folder: Path, stem: str) -> None:
    replaced = {parts.name for parts in load.tables} if load.strategy == "replace" else set()
    for old in current.iterdir() if current else ():
        if not old.is_dir() or old.name in replaced:
            continue
        (folder / old.name).mkdir()
        # Files of this very load are left out: they are about to be written again.
        for file in _other_files(old, stem):
            carry_over(file, folder / old.name / file.name)


def _write(load: Load, folder: Path, stem: str) -> None:
    for parts in load.tables:
        (folder / parts.name).mkdir(exist_ok=True)

    def put(name: str, number: int, table: pa.Table) -> None:
        path = folder / name / f"{stem}-{number:05d}.parquet"
        encode(table, str(path))
        sync(path)

    write_files(load, put)


def _own_files(table: Path, stem: str) -> list[Path]:
    return [path for path in table.glob("*.parquet") if path.name.startswith(f"{stem}-")]


def _other_files(table: Path, stem: str) -> list[Path]:
    return [path for path in table.glob("*.parquet") if not path.name.startswith(f"{stem}-")]


def _count_rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except pa.ArrowInvalid:  # damaged: the load is not there as it should be, and is written again
        return -1


def _read_ledger(current: Path | None) -> list[Entry]:
    if current is None:
        return []
    return [Entry.from_json(line) for line in (current / LEDGER).read_text(encoding="utf-8").splitlines()]


def _write_ledger(folder: Path, entries: Sequence[Entry]) -> None:
    path = folder / LEDGER
    path.write_text("".join(entry.to_json() + "\n" for entry in entries), encoding="utf-8")
    sync(path)
