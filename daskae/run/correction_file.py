"""Rejected rows as a file that a person edits and gives back: CSV, JSON lines or Parquet.

Each row names its place in ``_``-columns and holds the raw record in ``_raw``. Where the columns of the source are
asked for, a record that can be split stands in them instead, and ``_raw`` is empty.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daskae.durable import replacing
from daskae.errors import InputError, SettingsError
from daskae.read.dialect import Dialect
from daskae.read.record_text import split_record
from daskae.run.rejects import Reject

PLACE = ("_run_id", "_file", "_row_number", "_byte_offset", "_reason", "_reasons", "_raw")
_ENDINGS = (".csv", ".jsonl", ".parquet")
_FIELD_LIMIT = (1 << 31) - 1
_GROUP = 4096
_FORMULA = re.compile(r"(?:\A|(?<=[\r\n]))[\s\u00a0\ufeff]*[=+\-@\t|%]|\A[\t\r\n]")
"""The beginning of a cell, or of a line of one, that a spreadsheet takes for a formula."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Edited:
    """One row of a file that came back."""

    where: str
    """Line or row of the file, for messages."""
    run_id: str | None
    file: str
    row_number: int
    raw: str
    """Empty where the columns hold the record."""
    fields: dict[str, str]
    """By column of the source; empty where there are none."""


def require_format(path: Path) -> str:
    """Return the ending of a corrections file.

    Raises
    ------
    SettingsError
        If it is not one of ours.
    """
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise SettingsError("the format of the file is not known", str(path), ending or "none", ", ".join(_ENDINGS))
    return ending


def write_rejects(
    path: Path, rejects: Iterator[Reject], columns: Sequence[str], dialect: Dialect, *, for_spreadsheet: bool = False
) -> int:
    """Write rejected rows for editing, whole or not at all; returns how many.

    Parameters
    ----------
    path : Path
        The ending decides the format.
    rejects : iterator of Reject
    columns : sequence of str
        Columns of the sources to split records into; none keeps them raw.
    dialect : Dialect
        The sources' dialect.
    for_spreadsheet : bool
        Put an apostrophe before every text that a spreadsheet would take for a formula. Such a file is for looking at:
        its texts are not those of the source.

    Raises
    ------
    SettingsError
        For an ending that is not known, or a source column named as one of ours.
    InputError
        If the file cannot be written.
    """
    ending = require_format(path)
    taken = [name for name in columns if name in PLACE]
    if taken:
        raise SettingsError("a source column has a name of ours", "--columns", taken[0], hint="leave --columns out")
    count = 0
    with _whole_file(path) as temporary, _WRITERS[ending](temporary, [*PLACE, *columns]) as write:
        for reject in rejects:
            row = _row(reject, columns, dialect)
            write({name: without_formula(value) for name, value in row.items()} if for_spreadsheet else row)
            count += 1
    return count


def without_formula(value: Any) -> Any:
    """Return a text that no spreadsheet runs: an apostrophe before what begins like a formula, in each of its lines."""
    if isinstance(value, list):
        return [without_formula(item) for item in value]
    if not isinstance(value, str) or not _FORMULA.search(value):
        return value
    return _FORMULA.sub(r"'\g<0>", value)


def _row(reject: Reject, columns: Sequence[str], dialect: Dialect) -> Row:
    shown = shown_fields(reject, dialect) if columns else None
    values: list[Any] = [reject.run_id, reject.file, reject.row_number, reject.byte_offset, reject.reason]
    values += [list(reject.reasons), reject.raw if shown is None else ""]
    return {**dict(zip(PLACE, values, strict=True)), **dict.fromkeys(columns, ""), **(shown or {})}


def shown_fields(reject: Reject, dialect: Dialect) -> dict[str, str] | None:
    """Return the cells of a rejected record as text by column; None where it cannot be split."""
    names = reject.piece.columns
    if reject.piece.kind == "csv":
        fields = split_record(reject.raw, dialect, len(names))
        return None if fields is None else dict(zip(names, fields, strict=True))
    return {name: shown_value(value) for name, value in json.loads(reject.raw).items()}


def shown_value(value: Any) -> str:
    """Return a value of a typed source as text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise InputError("the file cannot be written", str(path), error.strerror or str(error)) from error


@contextmanager
def _csv_writer(path: Path, names: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        yield lambda row: writer.writerow({**row, "_reasons": "|".join(row["_reasons"])})


@contextmanager
def _json_writer(path: Path, names: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda row: print(json.dumps({name: row[name] for name in names}, ensure_ascii=False), file=file)


@contextmanager
def _parquet_writer(path: Path, names: Sequence[str]) -> Iterator[Callable[[Row], None]]:
    types = {"_row_number": pa.int64(), "_byte_offset": pa.int64(), "_reasons": pa.list_(pa.string())}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    held: list[Row] = []

    def flush() -> None:
        writer.write_table(pa.Table.from_pylist(held, schema))
        held.clear()

    def write(row: Row) -> None:
        held.append(row)
        if len(held) >= _GROUP:
            flush()

    with pq.ParquetWriter(path, schema) as writer:
        yield write
        flush()


_WRITERS: dict[str, Any] = {".csv": _csv_writer, ".jsonl": _json_writer, ".parquet": _parquet_writer}


def read_edited(path: Path) -> list[Edited]:
    """Read a file that was edited.

    Raises
    ------
    SettingsError
        If it cannot be read, or a row does not say which record it corrects.
    """
    ending = require_format(path)
    try:
        return [_edited(where, row) for where, row in _READERS[ending](path)]
    except FileNotFoundError:
        hint = "write one with python -m jobs.quarantine show --out"
        raise SettingsError("no such file", str(path), hint=hint) from None
    except OSError as error:
        raise SettingsError("the file cannot be read", str(path), error.strerror or str(error)) from None
    except (ValueError, csv.Error, pa.ArrowException) as error:
        raise SettingsError(f"the file is not valid {ending[1:]}", str(path), str(error)[:200]) from None


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise SettingsError("a line has not as many fields as the header", where)
                yield where, row
    finally:
        csv.field_size_limit(limit)


def _json_rows(path: Path) -> Iterator[tuple[str, Row]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise SettingsError("a line is not a JSON object", f"{path}, line {number}", line[:80])
                yield f"{path}, line {number}", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    for number, row in enumerate(pq.read_table(path).to_pylist(), 1):
        yield f"{path}, row {number}", row


_READERS: dict[str, Any] = {".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}


def _edited(where: str, row: Row) -> Edited:
    needed = ("_file", "_row_number")
    missing = [name for name in needed if row.get(name) in (None, "")]
    if missing:
        raise SettingsError(
            "a row does not say which record it corrects", where, f"no {missing[0]}", ", ".join(needed)
        )  # fmt: skip
    try:
        number = int(row["_row_number"])
    except (TypeError, ValueError):
        raise SettingsError("a row number is not a number", where, repr(row["_row_number"])[:80]) from None
    fields = {name: shown_value(value) for name, value in row.items() if name not in PLACE}
    return Edited(where, row.get("_run_id") or None, str(row["_file"]), number, shown_value(row.get("_raw")), fields)
