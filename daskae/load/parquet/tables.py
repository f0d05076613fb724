"""What a load makes of one table: which of its files stay, and which are written anew, from what.

Files in which nothing changes stay, so a small batch costs little in a large table. Rows of the others go, as they will
be, through a file in a folder for scratch, and from there into new files. An upsert or a merge that leaves more than
:data:`_MOST_SMALL` small files in a folder puts them together.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from daskae.errors import LoadError
from daskae.load.audits import Verdict
from daskae.load.base import FLAG_COLUMNS, Changes, Load, Rejected, TableParts
from daskae.load.checks import check_files_settings, check_options, wants_flags
from daskae.load.keys import DUPLICATE_KEY, NULL_KEY, row_error
from daskae.load.ledger import Entry, completed, short_id
from daskae.load.parquet.batch import Batch
from daskae.load.parquet.checking import Target, checks_of
from daskae.load.parquet.merging import Merge
from daskae.load.parquet.older import Older, may_be_lost, widen
from daskae.load.parquet.partitions import check_partitions, folder_columns
from daskae.load.parquet.writing import FILE_ROWS, Content, Put, file_schema, write_files
from daskae.load.parts import PartRows

_MOST_SMALL = 16
_FILES_PER_PUBLISH = 100_000
_SMALL_SHARE = 4  # of the rows of a full file


@dataclass(frozen=True)
class Written:
    """One table as it is with a load."""

    kept: tuple[str, ...]
    """Names of the files that were there before and stay, below the folder of the table."""
    written: tuple[str, ...]
    """Names of the new ones."""
    rows: int
    """Rows that carry the id of the load."""
    changes: Changes
    rejected: tuple[Rejected, ...]


def write_table(load: Load, batch: Batch, target: Target, first: str, scratch: Path, put: Put) -> Written:
    """Apply a load to one table.

    Parameters
    ----------
    load : Load
        The load.
    batch : Batch
        The rows of one of its tables.
    target : Target
        The files that are there, none of which is touched, and the columns of those that are written.
    first : str
        Name of the first new file, without its ending.
    scratch : Path
        A folder on this machine for rows on their way; what is in it afterwards is of no use.
    put : callable
        Where new files go.

    Raises
    ------
    LoadError
        When the table cannot take the load.
    """
    stem = first.rpartition("-")[0]
    parts, older, schema = batch.parts, target.older, target.schema
    with _Scratch(scratch / f"{stem}.arrow", schema, load) as old_rows:
        if load.strategy in ("replace", "append"):
            kept, deleted = _make_room(load, parts, older, stem, old_rows)
            new, changes = batch.places, Changes(inserted=len(batch.places), deleted=deleted)
        else:
            merge = Merge(load, batch, older, schema)
            kept = _merge(merge, old_rows)
            new, changes = merge.new_places(), merge.changes
            kept = _put_together(kept, older, old_rows)
    moved = old_rows.parts(parts)
    contents = [Content(moved, PartRows(moved), np.arange(moved.rows), None), Content(parts, batch.rows, new, load)]
    written = write_files(contents, schema, first, put)
    if sum(written.values()) != moved.rows + len(new):
        raise row_error(parts, f"{sum(written.values())} rows written", f"{moved.rows + len(new)} rows")
    kept = [name for name in kept if older.rows(name)]
    if not kept and not written:
        put(f"{first}.parquet", schema, ())  # tells readers the columns
        written = {f"{first}.parquet": 0}
    rows = sum(older.rows_of(name, load) for name in kept) + old_rows.own + len(new)
    changes = replace(changes, rejected=batch.left_out(NULL_KEY), duplicates=batch.left_out(DUPLICATE_KEY))
    return Written(tuple(kept), tuple(written), rows, changes, batch.rejected)


def entry_of(entry: Entry, written: Mapping[str, Written], started_at: str, verdicts: Sequence[Verdict]) -> Entry:
    """Complete the ledger's entry of a load by what became of its tables and checks."""
    rows = {name: table.rows for name, table in written.items()}
    changes = {name: asdict(table.changes) for name, table in written.items()}
    message = "; ".join(verdict.said for verdict in verdicts if verdict.message)
    entry = replace(entry, tables=rows, changes=changes, started_at=started_at, message=message)
    return completed(entry, {name: totals.keys() for name, totals in entry.totals.items()})


def check_files(load: Load) -> None:
    """Refuse a load that cannot be made into files, before anything is written.

    Raises
    ------
    LoadError, SettingsError
        For names that cannot be those of a folder, types without a place, options that fit no table, and checks that
        cannot be run over files.
    """
    check_files_settings(load)
    checks_of(load)
    for parts in load.tables:
        if "/" in parts.name or parts.name.startswith((".", "_daskae")):
            raise LoadError(
                "a table has a name that cannot be a folder",
                where=f"table {parts.name}",
                allowed="a name without / and not starting with a point or _daskae",
            )
        flags = [name for name in parts.schema.names if name.lower() in FLAG_COLUMNS]
        if wants_flags(load) and flags:
            raise LoadError("a column has a reserved name", f"table {parts.name}, column {flags[0]}")
        file_schema(parts, load.metadata)
        check_partitions(parts)
    if flags := [name for name in load.metadata.names if name.lower() in FLAG_COLUMNS]:
        raise LoadError("a column has a reserved name", f"[load] metadata, column {flags[0]}")
    check_options(load)


class _Scratch:
    """Rows of old files on their way into new ones, in a file that is made with the first of them."""

    def __init__(self, path: Path, schema: pa.Schema, load: Load) -> None:
        self.own = 0
        """How many of them carry the id of the load; all of them where there is no column for it."""
        self.schema = schema
        self._path, self._load, self._rows = path, load, 0
        self._writer: pa.RecordBatchFileWriter | None = None

    def __enter__(self) -> "_Scratch":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pa.ipc.new_file(str(self._path), self.schema)
        self._writer.write_table(table)
        self._rows += table.num_rows
        self.own += _count_own(table, self._load)

    def parts(self, table: TableParts) -> TableParts:
        """Describe the rows as a part of a table, once they are all there."""
        return replace(table, schema=self.schema, files=(self._path,) if self._writer else (), rows=self._rows)


def _count_own(table: pa.Table, load: Load) -> int:
    if load.metadata.load_id is None:
        return int(table.num_rows)
    return int(pc.sum(pc.equal(table[load.metadata.load_id], load.load_id)).as_py() or 0)


def _make_room(
    load: Load, parts: TableParts, older: Older, stem: str, old_rows: _Scratch
) -> tuple[list[str], int]:  # fmt: skip
    """Take out what a replace or an append puts anew; return the files that stay, and the rows taken out."""
    kept: list[str] = []
    deleted = 0
    for name in older.names:
        if may_be_lost(load, name, stem) and older.is_damaged(name):
            continue
        rows = older.rows(name)
        own = rows if load.strategy == "replace" else older.rows_of(name, load)
        deleted += own
        if load.strategy == "replace" or (own and own == rows):
            continue
        if own:
            table = widen(older.read(name), old_rows.schema)
            old_rows.write(table.filter(pc.not_equal(table[load.metadata.load_id], load.load_id)))
        elif _fits(name, parts, older, old_rows.schema):
            kept.append(name)
        else:
            old_rows.write(widen(older.read(name), old_rows.schema))
    return kept, deleted


def _merge(merge: Merge, old_rows: _Scratch) -> list[str]:
    """Send changed files through; return the others."""
    kept = []
    for name in merge.older.names:
        table = merge.pass_through(name)
        if table is not None:
            old_rows.write(table)
        elif _fits(name, merge.batch.parts, merge.older, old_rows.schema):
            kept.append(name)
        else:
            old_rows.write(widen(merge.older.read(name), old_rows.schema))
    return kept


def _put_together(kept: list[str], older: Older, old_rows: _Scratch) -> list[str]:
    """Send small files through, where there are many: each upsert that brings new rows adds one."""
    small: dict[str, list[str]] = defaultdict(list)
    for name in kept:
        if older.rows(name) < FILE_ROWS // _SMALL_SHARE:
            small[name.rpartition("/")[0]].append(name)
    gone = {name for names in small.values() if len(names) > _MOST_SMALL for name in names}
    for name in sorted(gone):
        old_rows.write(older.read(name))
    return [name for name in kept if name not in gone]


def _fits(name: str, parts: TableParts, older: Older, schema: pa.Schema) -> bool:
    """Tell whether a file is in a folder of the wanted kind and has all columns."""
    return folder_columns(name) == parts.partition_by and older.schema(name).names == schema.names


def first_file(load: Load, entries: Sequence[Entry]) -> str:
    """Name the first file of a load; a load that comes again takes other names, as the old ones may still be read."""
    times = sum(entry.load_id == load.load_id for entry in entries)
    return f"{short_id(load.load_id, entries)}-{times * _FILES_PER_PUBLISH:05d}"
