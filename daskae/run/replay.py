"""From an edited file to stored corrections: every row is checked before the first is kept."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from daskae.config import Settings
from daskae.errors import InputChangedError, SettingsError
from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.read.discover import ScanCache
from daskae.read.parquet import read_footer
from daskae.read.record_text import are_records, join_record
from daskae.read.typed_row import cast_values, changed_values, parse_row
from daskae.run.correction_file import Edited, shown_fields
from daskae.run.corrections import Correction
from daskae.run.inputs import dialect_of, discover
from daskae.run.overlay import piece_digest
from daskae.run.record import RunRecord
from daskae.run.rejects import Reject, RejectingRun, read_rejects


@dataclass(frozen=True)
class Replay:
    """Corrections that may be stored."""

    corrections: tuple[Correction, ...]
    unchanged: int
    """Rows of the file that are as they were."""


def named_run(edited: Sequence[Edited], given: str | None, latest: str) -> str:
    """Return the run that a file corrects: the one given, or the one that its rows name.

    Raises
    ------
    SettingsError
        If the rows name several runs, or another one than is given.
    """
    names = sorted({row.run_id for row in edited if row.run_id})
    if given is None and len(names) > 1:
        raise SettingsError("the rows are from several runs", "_run_id", ", ".join(names[:3]), hint="replay them apart")
    if given is not None and given != latest and any(not name.startswith(given) for name in names):
        raise SettingsError("the rows are from another run", "--run", given, ", ".join(names[:3]))
    return names[0] if len(names) == 1 and given != latest else given or latest


def require_repeatable(record: RunRecord, overrides: dict[str, Any], own_code: dict[str, list[str]]) -> None:
    """Check that doing a run again is possible and does no harm.

    Parameters
    ----------
    record : RunRecord
    overrides : dict
        Settings that are others than in that run.
    own_code : dict
        Names of what is given in code now, as the record has them.

    Raises
    ------
    SettingsError
    """
    places = [*record.settings["inputs"], overrides.get("to", record.settings["to"])]
    masked = [text for text in places if "***" in text]
    if masked:
        raise SettingsError(
            "a password of the run is not kept", "--to", masked[0], "the whole URL",
            "give --to again, or use --no-run and then the job's own command",
        )  # fmt: skip
    missing = [name for kind, names in record.own_code.items() for name in names if name not in own_code.get(kind, [])]
    if missing:
        raise SettingsError(
            "the run had metrics, rules, steps or checks of your own code", f"run {record.run_id}", ", ".join(missing),
            hint="use --no-run, then run your script again: corrections count in every run of this work directory",
        )  # fmt: skip
    if overrides.get("strategy", record.settings["strategy"]) == "append":
        raise SettingsError(
            "the run appended its result, and doing it again would add every row once more", "--strategy", "append",
            "replace", "give --strategy replace, which puts this result in the place of all earlier loads, or --no-run",
        )  # fmt: skip


def prepare(edited: Sequence[Edited], run: RejectingRun, settings: Settings) -> Replay:
    """Check every row of an edited file against the quarantine and the sources.

    Raises
    ------
    SettingsError
        If a row is not one that the run rejected, is not exactly one record, or nothing is corrected.
    InputChangedError
        If a source is not what it was.
    """
    wanted = _by_place(edited)
    dialect = dialect_of(settings)
    found: list[_Corrected] = []
    for reject in _among(read_rejects(run), wanted):
        row = wanted.pop((reject.file, reject.row_number))
        text = _corrected_text(row, reject, dialect)
        if text is not None:
            found.append(_Corrected(row.where, reject, text))
    if wanted:
        row = next(iter(wanted.values()))
        raise SettingsError(
            "a row is not in the quarantine of this run", row.where, f"{row.file}, row {row.row_number}",
            f"a row that run {run.run_id} rejected", "see python -m jobs.quarantine show",
        )  # fmt: skip
    if not found:
        raise SettingsError(
            "no row is corrected", run.run_id, f"{len(edited)} rows as they were", hint="correct _raw in the file first"
        )  # fmt: skip
    _require_records(found, dialect)
    sources = _sources(settings)
    _require_same(found, sources)
    for item in found:
        _require_fitting(item, sources[item.reject.file][0])
    return Replay(tuple(_correction(item) for item in found), len(edited) - len(found))


@dataclass(frozen=True)
class _Corrected:
    where: str
    reject: Reject
    text: str


def _by_place(edited: Sequence[Edited]) -> dict[tuple[str, int], Edited]:
    places: dict[tuple[str, int], Edited] = {}
    for row in edited:
        if (row.file, row.row_number) in places:
            raise SettingsError("two rows correct one record", row.where, f"{row.file}, row {row.row_number}")
        places[row.file, row.row_number] = row
    return places


def _among(rejects: Iterator[Reject], wanted: dict[tuple[str, int], Edited]) -> Iterator[Reject]:
    for reject in rejects:
        if (reject.file, reject.row_number) in wanted:
            yield reject
        if not wanted:
            return


def _corrected_text(row: Edited, reject: Reject, dialect: Dialect) -> str | None:
    """Return the whole corrected record; None where nothing was changed."""
    if reject.piece.kind == "sql":
        raise SettingsError(
            "a row of a database cannot be corrected here", row.where, row.file,
            hint="correct it in the database: nothing else says that it is still the row that was rejected",
        )  # fmt: skip
    raw = row.raw.strip("\r\n")
    if any(row.fields.values()):
        if raw not in ("", reject.raw):
            raise SettingsError("both _raw and the columns are changed", row.where, raw[:80], "one of them")
        return _from_fields(row, reject, dialect)
    if not raw.strip():
        raise SettingsError("a corrected record is empty", row.where, hint="remove the line to leave the row rejected")
    if raw == reject.raw:
        return None
    return raw


def _require_records(found: Sequence[_Corrected], dialect: Dialect) -> None:
    plain = [item for item in found if item.reject.piece.kind == "csv"]
    for item, good in zip(plain, are_records([item.text for item in plain], dialect), strict=True):
        if not good:
            raise SettingsError(
                "a corrected record is not exactly one record", item.where, repr(item.text)[:120],
                "one record with its quotes closed", "quote a field that holds a delimiter, a quote or a line end",
            )  # fmt: skip


def _from_fields(row: Edited, reject: Reject, dialect: Dialect) -> str | None:
    columns = reject.piece.columns
    unknown = [name for name, value in row.fields.items() if value and name not in columns]
    missing = [name for name in columns if name not in row.fields]
    if unknown or missing:
        got = f"{unknown[0]!r} is no column of it" if unknown else f"{missing[0]!r} is missing"
        raise SettingsError("the columns are not those of the source", row.where, got, ", ".join(columns))
    shown = shown_fields(reject, dialect)
    fields = {name: row.fields[name] for name in columns}
    if fields == shown:
        return None
    if reject.piece.kind == "csv":
        return join_record(list(fields.values()), dialect)
    before = json.loads(reject.raw)
    changed = {name: value for name, value in fields.items() if value != (shown or {}).get(name)}
    return json.dumps({**before, **changed}, ensure_ascii=False)


def _sources(settings: Settings) -> dict[str, list[Segment]]:
    scans = Path(settings.work_dir).absolute() / "scans"
    sources: dict[str, list[Segment]] = {}
    for segment in discover(settings, ScanCache(scans) if scans.is_dir() else None).segments:
        sources.setdefault(segment.label, []).append(segment)
    return sources


def _require_same(found: Sequence[_Corrected], sources: dict[str, list[Segment]]) -> None:
    """Check that the pieces of the sources that the rows are from have not changed."""
    for piece in {item.reject.piece for item in found}:
        segments = sources.get(piece.label, [])
        same = any((item.start, item.end, item.digest) == (piece.start, piece.end, piece.digest) for item in segments)
        if not same and (not segments or piece_digest(segments[0], piece.start, piece.end) != piece.digest):
            raise InputChangedError(
                "a source is not what it was when its rows were rejected", piece.label,
                "changed" if segments else "gone", "the same bytes",
                "run the job again, then correct what it rejects now",
            )  # fmt: skip


def _require_fitting(item: _Corrected, segment: Segment) -> None:
    """Check that a row of a typed source has only its columns, with values of their types."""
    reject, text = item.reject, item.text
    if reject.piece.kind == "csv":
        return
    place = f"{reject.file}, row {reject.row_number}"
    try:
        names = parse_row(text)
    except ValueError as error:
        raise SettingsError("a corrected row is not valid JSON", place, str(error)[:120], "a JSON object") from None
    schema: pa.Schema = read_footer(segment.path).schema.to_arrow_schema()
    unknown = [name for name in names if name not in schema.names]
    if unknown:
        raise SettingsError("a corrected row has a column that the source has not", place, unknown[0])
    for name, value in changed_values(reject.raw, text).items():
        cast_values([value], schema.field(name).type, f"{name} of {place}")


def _correction(item: _Corrected) -> Correction:
    reject, piece = item.reject, item.reject.piece
    by_row = reject.byte_offset is None
    position = reject.row_number - 1 if reject.byte_offset is None else reject.byte_offset
    return Correction(
        reject.file, position, by_row, item.text, piece.start, piece.end, piece.digest, reject.row_number, reject.run_id
    )  # fmt: skip
