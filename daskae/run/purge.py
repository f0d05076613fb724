"""Take the personal data of customers out of what the job keeps: its target, and all of its work directory.

In the work directory a text names a customer where the id stands as a whole word. An id that is a common word or a
short number is in texts about others too; those are treated alike, and a dry run says how many there are. What names
the person otherwise, such as a mail address, may be given as one more id. A sample that was cut off within the id is
missed.

===================================  ==================================================================================
maps, steps, patches, references,    caches: they go as a whole, whoever is in them; the next run makes them again
scans, and ``fresh`` of dead runs
quarantine, rows left out, rows      rows with a cell that names a customer go, the others stay in their order; a file
that a check found, corrections      that nobody can read goes
report.html                          a text that names one becomes ``***`` as a whole, as it may be a record of theirs
settings.json                        keeps id and time of the run alone: replayed with a mask in an expression, it would
                                     do something else
other files of a run, logs           the id becomes ``***``; a binary one goes
===================================  ==================================================================================

Counts in manifests and reports stay: they say what the run did. No run may use the work directory meanwhile. A purge
that was killed is completed by the same command.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from daskae.config import Settings
from daskae.durable import replacing, sync
from daskae.errors import SettingsError, WorkDirError
from daskae.faults import crash_point
from daskae.load.purged import Purged
from daskae.load.purging import purge_target
from daskae.masking import HIDDEN, name_pattern
from daskae.run.corrections import forget_customers
from daskae.run.presence import present
from daskae.run.record import RECORD
from daskae.run.rejects import share

CACHES = ("maps", "steps", "patches", "references", "scans")
_OWN = ("corrections", "turns")
_BINARY = (".arrow", ".npy")
_ARROW_SCHEMA = b"ARROW:schema"
"""Metadata that Arrow writes itself."""
_JSON_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_TAG = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)


@dataclass(frozen=True)
class PurgeOutcome:
    """What was removed, or would be."""

    target: Purged
    work: dict[str, int] = field(default_factory=dict)
    """Counts: ``cached_files``, ``rejected_rows``, ``corrections``, ``masked_files``, ``removed_files``."""


def purge_customers(settings: Settings, customers: Sequence[str], *, dry_run: bool = False) -> PurgeOutcome:
    """Take customers out of the target and the work directory of these settings.

    Raises
    ------
    SettingsError
        If an id is empty, or there is no such work directory.
    TargetBusyError
        If a run uses the work directory, or somebody else holds the target.
    LoadError, InputError, WorkDirError
        If something cannot be read or written; the same command again goes on.
    """
    work, timeout = Path(os.path.abspath(settings.work_dir)), settings.load.timeout_seconds
    if not customers or not all(customers):
        raise SettingsError("a customer's id is empty", "CUSTOMER_ID", hint="name each customer as the target does")
    if not work.is_dir():
        raise SettingsError("there is no such work directory", str(work), hint="set --work-dir to that of the job")
    with present(work, timeout, alone=not dry_run):
        target = purge_target(settings.to, customers, dry_run=dry_run, timeout=timeout)
        crash_point("purge.target")
        return PurgeOutcome(target, _WorkPurge(work, customers, dry_run).run())


class _WorkPurge:
    """One pass over a work directory."""

    def __init__(self, work: Path, customers: Sequence[str], dry_run: bool) -> None:
        self._work, self._dry = work, dry_run
        self._pattern = name_pattern(customers)
        self._plain = name_pattern(customers, look_around=False).pattern
        self._counts = Counter[str]()
        self._first: dict[tuple[int, int], Path] = {}
        """Of files with several names, the name that was met first, by where the file was on the disk."""
        self._changed = set[Path]()
        """Folders from which names are gone."""

    def run(self) -> dict[str, int]:
        for folder in [*(self._work / name for name in CACHES), *self._work.glob("runs/*/fresh")]:
            with _explained(folder):
                self._drop_cache(folder)
        self._counts["corrections"] = forget_customers(self._work, self._plain, dry_run=self._dry)
        for path in sorted(self._files()):
            with _explained(path):
                self._purge(path)
            crash_point("purge.file")
        for folder in sorted(self._changed):  # what is gone must not be back after a power cut
            with _explained(folder):
                sync(folder)
        names = ("cached_files", "rejected_rows", "corrections", "masked_files", "removed_files")
        return {name: self._counts[name] for name in names}

    def _drop_cache(self, folder: Path) -> None:
        self._counts["cached_files"] += sum(path.is_file() for path in folder.rglob("*"))
        for path in folder.iterdir() if folder.is_dir() and not self._dry else ():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            crash_point("purge.cache")
        if folder.is_dir() and not self._dry:
            self._changed.add(folder)

    def _files(self) -> Iterator[Path]:
        for path in self._work.rglob("*"):
            inside = path.relative_to(self._work).parts
            cached = inside[0] in (*CACHES, *_OWN) or (inside[0] == "runs" and inside[2:3] == ("fresh",))
            if path.is_file() and not path.is_symlink() and not cached:
                yield path

    def _purge(self, path: Path) -> None:
        if path.suffix == ".tmp":  # of a run or a purge that died
            self._remove(path)
        elif path.suffix == ".parquet":
            self._purge_parquet(path)
        else:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            new = self._text_without(path, text)
            if new is None:
                self._counts["removed_files"] += 1
                self._remove(path)
            elif new != text:
                rows = path.parent.name == "left_out"
                self._counts["rejected_rows" if rows else "masked_files"] += (
                    text.count("\n") - new.count("\n") if rows else 1
                )
                self._replace(path, lambda file: file.write_bytes(new.encode("utf-8", "surrogateescape")))

    def _text_without(self, path: Path, text: str) -> str | None:
        """Return the text of a file as it is to be; None where there is to be no file."""
        if path.suffix == ".html":
            return self._masked_html(text)
        if path.suffix in (".json", ".jsonl"):
            masked = _JSON_TEXT.sub(self._masked_json, text)
            if path.parent.name == "left_out":
                return "\n".join(line for line in text.split("\n") if not self._names_in_json(line))
            return _bare_record(text) if path.name == RECORD and masked != text else masked
        if path.suffix in _BINARY:
            return None if self._pattern.search(text) else text
        return self._pattern.sub(HIDDEN, text)

    def _masked_json(self, found: re.Match[str]) -> str:
        with suppress(ValueError):
            text = json.loads(found[0], strict=False)
            if self._pattern.search(text):
                return json.dumps(self._pattern.sub(HIDDEN, text))
        return found[0]

    def _names_in_json(self, line: str) -> bool:
        return _JSON_TEXT.sub(self._masked_json, line) != line

    def _masked_html(self, text: str) -> str:
        ends = [(tag.start(), tag.end()) for tag in _TAG.finditer(text)]
        starts = [0, *(end for _, end in ends)]
        pieces = [text[start:end] for start, (end, _) in zip(starts, [*ends, (len(text), 0)], strict=True)]
        hidden = [HIDDEN if self._pattern.search(piece) else piece for piece in pieces]
        return "".join(piece + text[start:end] for piece, (start, end) in zip(hidden, [*ends, (0, 0)], strict=True))

    def _purge_parquet(self, path: Path) -> None:
        """Remove rows from a Parquet file, whose other names in other runs then get the same new file."""
        found = path.stat()
        first = self._first.setdefault((found.st_dev, found.st_ino), path)
        if first == path:
            self._rewrite(path)
        elif not first.exists():
            self._remove(path)
        elif first.stat().st_ino != found.st_ino:
            share(first, path)
            self._changed.add(path.parent)

    def _rewrite(self, path: Path) -> None:
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid:  # torn: nobody will ever read it
            self._counts["removed_files"] += 1
            self._remove(path)
            return
        with file:
            rows = file.metadata.num_rows - sum(batch.num_rows for batch in self._kept(file))
            self._counts["rejected_rows"] += rows
            if rows:
                self._replace(path, lambda temporary: self._copy(file, temporary))

    def _copy(self, file: pq.ParquetFile, target: Path) -> None:
        kept = (file.metadata.metadata or {}).items()
        texts = {name: value.decode() for name, value in kept if name != _ARROW_SCHEMA}
        masked = {name: _JSON_TEXT.sub(self._masked_json, text) for name, text in texts.items()}
        schema = file.schema_arrow.with_metadata(masked)
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in self._kept(file):
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))

    def _kept(self, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        texts = pl.col(pl.String, pl.Categorical).cast(pl.String)
        for batch in file.iter_batches():
            frame = pl.DataFrame(pl.from_arrow(batch))
            named = frame.select(pl.any_horizontal(texts.str.contains(self._plain).fill_null(False))).to_series()
            yield batch.filter((~named).to_arrow())

    def _remove(self, path: Path) -> None:
        if not self._dry:
            path.unlink()
            self._changed.add(path.parent)

    def _replace(self, path: Path, write: Callable[[Path], object]) -> None:
        if self._dry:
            return
        with replacing(path, synced=True) as temporary:
            write(temporary)
            shutil.copymode(path, temporary)
            crash_point("purge.writing")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise WorkDirError(
            "a part of the work directory cannot be purged", str(path), f"{type(error).__name__}: {error}",
            hint="mend it or remove it, then run the same command again",
        ) from error  # fmt: skip


def _bare_record(text: str) -> str:
    """Return a record of settings that can only be listed, not replayed."""
    data = json.loads(text)
    return json.dumps({name: data[name] for name in ("run_id", "started")}, indent=1)
