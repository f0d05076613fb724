"""What a target of files holds, by size and checksum of each file: noted with a load, compared when it is verified."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from daskae.durable import sync
from daskae.errors import LoadError
from daskae.faults import crash_point
from daskae.hashing import file_checksum
from daskae.load.ledger import Entry
from daskae.load.parquet.older import Older
from daskae.load.totals import Adder
from daskae.load.verified import Comparison, Measured, Question, Verified, compare_loads
from daskae.sealed import seal, unseal

CONTENTS = "contents.json"
FileSum = tuple[int, str]
"""Bytes of a file, and their XXH3-128."""
Files = Mapping[str, Mapping[str, FileSum]]
"""By table, and by name below its folder."""


def write_contents(folder: Path, ledger: Path, files: Files) -> None:
    """Note what is in a folder: its files, and its ledger."""
    path = folder / CONTENTS
    path.write_text(seal({"ledger": file_checksum(ledger), "files": files}))
    sync(path)


def read_contents(folder: Path) -> tuple[FileSum, Files] | None:
    """Return what :func:`write_contents` noted of the ledger and the files; None where nobody did.

    Raises
    ------
    LoadError
        When the note is not as it was written.
    """
    path = folder / CONTENTS
    try:
        data = unseal(path.read_text())
        size, checksum = data["ledger"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LoadError(
            "the checksums of the target's files are damaged", str(path), str(error)[:200],
            hint="compare the files with a copy, then remove this one: the next load takes them anew",
        ) from error  # fmt: skip
    return (size, checksum), as_files(data["files"])


def as_files(data: Mapping[str, Mapping[str, Sequence[Any]]]) -> Files:
    """Return checksums as they were before they became JSON."""
    return {
        table: {name: (int(size), str(checksum)) for name, (size, checksum) in files.items()}
        for table, files in data.items()
    }


def verify_files(
    target: str,
    entries: Sequence[Entry],
    noted: Files | None,
    tables: Mapping[str, Older],
    measure_file: Callable[[str, str], FileSum],
) -> Verified:
    """Compare files with their checksums and rows with the ledger.

    Parameters
    ----------
    target : str
        The target in words.
    entries : sequence of Entry
        Its ledger.
    noted : mapping or None
        Checksums by table and file, where they were noted.
    tables : mapping
        The files that are there, by table.
    measure_file : callable
        Takes table and name of a file, returns its size and checksum.
    """
    files = [] if noted is None else list(_compare_files(noted, tables, measure_file))
    unnoted = ["files: nobody has noted their checksums"] if noted is None else []
    crash_point("verifying.compared")
    broken = {item.table for item in files if not item.is_same}
    # What is in a file that is another one is not looked at: reading it may end this process.
    found = list(compare_loads(entries, partial(_measure, tables), broken))
    return Verified(
        target,
        sum(entry.status == "published" for entry in entries),
        (*files, *(item for item in found if isinstance(item, Comparison))),
        (
            *unnoted,
            *[f"rows of {table}: its files differ" for table in sorted(broken)],
            *(item for item in found if isinstance(item, str)),
        ),
    )


def _compare_files(
    noted: Files, tables: Mapping[str, Older], measure_file: Callable[[str, str], FileSum]
) -> Iterator[Comparison]:  # fmt: skip
    for table in sorted({*noted, *tables}):
        there = set(tables[table].names) if table in tables else set()
        for name, (size, checksum) in noted.get(table, {}).items():
            found = _text(*measure_file(table, name)) if name in there else "no such file"
            yield Comparison(table, f"file {name}", _text(size, checksum), found)
        for name in sorted(there - set(noted.get(table, {}))):
            yield Comparison(table, f"file {name}", "no such file", _text(*measure_file(table, name)))


def _text(size: int, checksum: str) -> str:
    return f"{size} bytes, {checksum}"


def _measure(tables: Mapping[str, Older], question: Question) -> Measured | str:
    older = tables.get(question.table)
    if older is None:
        return "no such table"
    if question.mark and not any(question.mark in older.schema(name).names for name in older.names):
        return f"no column {question.mark}"
    wanted = [*question.columns, *([question.mark] if question.mark else [])]
    rows, adder = 0, Adder(question.columns)
    for name in older.names:
        if not set(wanted) <= set(older.schema(name).names):
            continue  # no rows of this load
        table = older.read(name, wanted)
        if question.mark:
            table = table.filter(pc.equal(table[question.mark], question.load_id))
        rows += table.num_rows if wanted else older.rows(name)
        adder.add(table)
    return Measured(rows, adder.totals())
