"""The Parquet sink for object stores and other remote file systems, which have no links and no rename of a folder.

::

    URL/customer_metrics/0f3a99c1-00000.parquet
    URL/_daskae/manifest.json                    the ledger, and the files of every table

The manifest is written last, in one request: that is the moment of publishing, so a load is there once; the rule is in
:mod:`daskae.load.ledger`. Every file, too, is written in one request, so no file is ever half there. No file that the
manifest names is ever written over: an upsert or a merge writes the files that change under new names, and files in
which nothing changes stay.

What does not hold here, and does for a local folder:

- A reader that lists ``URL/customer_metrics/**/*.parquet`` may for a moment see the new files beside the old ones, so
  rows twice, and after a run that died it sees them until the next publish. A reader that goes by the manifest never
  does. A check with ``at = "after"`` reads the new files in their place; they go away again where it refuses the
  publish. Replaced files are removed after the manifest is written, so who read the manifest before that and comes late
  gets "no such file", and reads it again.
- There is no lock. Two runs that publish at the same time may each write a manifest; the last one counts.
"""

import json
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from fsspec import AbstractFileSystem

from daskae.errors import DaskaeError, GateError, LoadError, TargetBusyError
from daskae.faults import crash_point
from daskae.hashing import digest_bytes, stream_checksum
from daskae.load.base import Load, Receipt, Rejected
from daskae.load.checks import check_load
from daskae.load.failures import mask_secrets
from daskae.load.ledger import Entry, add_entry, after_purge, find_held, iso_text, short_id
from daskae.load.parquet.batch import read_batch
from daskae.load.parquet.checking import Target, run_checks, try_checks
from daskae.load.parquet.contents import Files, FileSum, as_files, verify_files
from daskae.load.parquet.older import Older, target_schema
from daskae.load.parquet.purging import count_rows, find_rows, rewrite
from daskae.load.parquet.tables import check_files, entry_of, first_file, write_table
from daskae.load.parquet.writing import Put, encode
from daskae.load.purged import Purged, nothing_loaded
from daskae.load.verified import Verified

MANIFEST = "_daskae/manifest.json"
_CHECKSUM = "checksum"
_OWN_FILE = re.compile(r"([^/]+=[^/]*/)*[0-9a-f]{8,64}-\d{5,}\.parquet")


@dataclass(frozen=True)
class Manifest:
    """What a remote target holds."""

    loads: list[Entry] = field(default_factory=list)
    tables: dict[str, list[str]] = field(default_factory=dict)
    """File names by table."""
    sums: Files | None = field(default_factory=dict)
    """Size and checksum of each file, by table and name; None where nobody has noted them."""

    def to_json(self) -> bytes:
        """Write the manifest as a JSON document with a checksum of itself."""
        document: dict[str, Any] = {"loads": [asdict(entry) for entry in self.loads], "tables": self.tables}
        document |= {} if self.sums is None else {"sums": self.sums}
        return json.dumps({**document, _CHECKSUM: _checksum(document)}, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Manifest":
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ValueError
            When it is not as it was written.
        """
        document = json.loads(text)
        noted = document.pop(_CHECKSUM, None)
        if noted != _checksum(document) and (noted is not None or "sums" in document):
            raise ValueError("its checksum is another one")
        sums = as_files(document["sums"]) if "sums" in document else None  # of an earlier version
        return cls([Entry(**entry) for entry in document["loads"]], document["tables"], sums)


Sums = dict[tuple[str, str], FileSum]
"""Of files that were written just now, by table and name."""


def _manifest(before: Manifest, loads: list[Entry], names: Mapping[str, list[str]], sums: Sums) -> Manifest:
    """Describe the target with other files in some tables; of files that stay the checksums stay."""
    tables, noted = {**before.tables, **names}, before.sums or {}
    known = {
        name: {file: found for file in files if (found := sums.get((name, file)) or noted.get(name, {}).get(file))}
        for name, files in tables.items()
    }
    complete = all(len(known[name]) == len(files) for name, files in tables.items())
    return Manifest(loads, tables, known if complete else None)


def _checksum(document: Any) -> str:
    return digest_bytes(json.dumps(document).encode())


class RemoteParquetSink:
    """Publish loads as Parquet files below a URL.

    Parameters
    ----------
    files : fsspec.AbstractFileSystem
        The file system.
    root : str
        Path of the target in it.
    target : str
        The URL in words, without secrets.
    """

    def __init__(self, files: AbstractFileSystem, root: str, target: str) -> None:
        self._files = files
        self._root = root.rstrip("/")
        self._target = target.rstrip("/")

    def preflight(self, load: Load) -> Receipt | None:
        """Check that the target can take the load; see :class:`daskae.load.base.Sink`."""
        check_load(load)
        check_files(load)
        with self._translated():
            manifest = self._read_manifest()
            if receipt := self._find_receipt(manifest, load):
                return receipt
            try_checks(load, self._check_tables(manifest, load))
        return None

    def publish(self, load: Load) -> Receipt:
        """Make the load visible by writing the manifest; see :class:`daskae.load.base.Sink`."""
        check_load(load)
        check_files(load)
        with self._translated():
            manifest = self._read_manifest()
            targets = self._check_tables(manifest, load)
            self._remove_unlisted(manifest, [parts.name for parts in load.tables])
            if receipt := self._find_receipt(manifest, load):
                return receipt
            try:
                return self._publish(load, manifest, targets)
            except GateError:
                self._remove_unlisted(manifest, [parts.name for parts in load.tables])
                raise

    def purge(self, customers: Sequence[str], dry_run: bool) -> Purged:
        """Write files without customers, then a manifest that names those; see :mod:`daskae.load.purged`."""
        with self._translated():
            manifest = self._read_manifest()
            if not manifest.loads:
                raise nothing_loaded(self._target)
            tables = {name: self._older(manifest.tables[name], name) for name in sorted(manifest.tables)}
            found = find_rows(tables, customers)
            if dry_run:
                return Purged(count_rows(found))
            sums: Sums = {}
            names = {
                name: rewrite(tables[name], files, customers, self._put_into(name, sums))
                for name, files in found.items()
                if files
            }
            fresh = _manifest(manifest, after_purge(manifest.loads, customers, names), names, sums)
            crash_point("remote.unpurged")
            self._files.pipe_file(self._path(MANIFEST), fresh.to_json())
            crash_point("remote.purged")
            self._remove_unlisted(fresh, list(found))
            return Purged(count_rows(found))

    def _publish(self, load: Load, before: Manifest, targets: Mapping[str, Target]) -> Receipt:
        began, started_at = time.monotonic(), iso_text(datetime.now(UTC))
        batches = {parts.name: read_batch(load, parts) for parts in load.tables}
        verdicts = run_checks(load, "before", targets, batches)
        first, sums = first_file(load, before.loads), Sums()
        with tempfile.TemporaryDirectory(prefix="daskae-") as scratch:
            written = {
                name: write_table(load, batch, targets[name], first, Path(scratch), self._put_into(name, sums))
                for name, batch in batches.items()
            }
        names = {name: [*table.kept, *table.written] for name, table in written.items()}
        after = {name: replace(target, older=self._older(names[name], name)) for name, target in targets.items()}
        verdicts += run_checks(load, "after", after, batches)
        *others, entry = add_entry(before.loads, load)
        entry = entry_of(entry, written, started_at, verdicts)
        fresh = _manifest(before, [*others, entry], names, sums)
        crash_point("remote.written")
        self._files.pipe_file(self._path(MANIFEST), fresh.to_json())
        crash_point("remote.published")
        self._remove_unlisted(fresh, [parts.name for parts in load.tables])
        rejected = tuple(found for table in written.values() for found in table.rejected)
        receipt = self._receipt(entry, False, rejected, time.monotonic() - began)
        return replace(receipt, checks=tuple(verdicts))

    def verify(self) -> Verified:
        """Compare files and manifest; see :class:`daskae.load.verified.CanVerify`."""
        with self._translated():
            manifest = self._read_manifest()
            if not manifest.loads:
                raise nothing_loaded(self._target)
            self._files.invalidate_cache()
            tables = {name: self._older(self._list(name), name) for name in manifest.tables}
            try:
                return verify_files(self._target, manifest.loads, manifest.sums, tables, self._measure)
            finally:
                if self._read_manifest() != manifest:
                    raise TargetBusyError(
                        "somebody has loaded while the target was looked at", self._target,
                        hint="run the same command again",
                    )  # fmt: skip

    def _measure(self, table: str, name: str) -> FileSum:
        with self._files.open(self._path(table, name), "rb") as file:
            return stream_checksum(file)

    def _put_into(self, folder: str, sums: "Sums") -> Put:
        def put(name: str, schema: pa.Schema, groups: Iterable[pa.Table]) -> None:
            buffer = pa.BufferOutputStream()
            encode(schema, groups, buffer)
            path, data = self._path(folder, name), buffer.getvalue().to_pybytes()
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(path, data)
            sums[folder, name] = len(data), digest_bytes(data)
            crash_point("remote.writing")

        return put

    def _older(self, names: Sequence[str], table: str) -> Older:
        return Older(names, lambda name: self._files.open(self._path(table, name)))

    def _check_tables(self, manifest: Manifest, load: Load) -> dict[str, Target]:
        stem = short_id(load.load_id, manifest.loads)
        targets = {}
        for parts in load.tables:
            if foreign := [name for name in self._list(parts.name) if not _OWN_FILE.fullmatch(name)]:
                raise LoadError(
                    "something that daskae did not write is in the place of an output table",
                    where=f"{self._target}/{parts.name}",
                    got=", ".join(sorted(foreign)[:5]),
                    hint="move it away, or choose another target",
                )
            older = self._older(manifest.tables.get(parts.name, []), parts.name)
            targets[parts.name] = Target(older, target_schema(load, parts, older, stem))
        return targets

    def _remove_unlisted(self, manifest: Manifest, tables: Sequence[str]) -> None:
        """Remove files of tables that the manifest does not name: replaced ones, and those of dead runs."""
        self._files.invalidate_cache()
        for table in tables:
            for name in set(self._list(table)).difference(manifest.tables.get(table, [])):
                self._files.rm_file(self._path(table, name))
        self._files.invalidate_cache()

    def _find_receipt(self, manifest: Manifest, load: Load) -> Receipt | None:
        entry = find_held(manifest.loads, load)
        if entry is None:
            return None
        # A file too many counts as well: plain readers see it until a publish removes it.
        there = all(set(manifest.tables[name]) == set(self._list(name)) for name in entry.tables)
        return self._receipt(entry, already=True) if there else None

    def _receipt(
        self, entry: Entry, already: bool, rejected: tuple[Rejected, ...] = (), seconds: float = 0.0
    ) -> Receipt:  # fmt: skip
        targets = {name: f"{self._target}/{name}" for name in entry.tables}
        return entry.receipt(already, targets, rejected, seconds)

    def _read_manifest(self) -> Manifest:
        try:
            return Manifest.from_json(self._files.cat_file(self._path(MANIFEST)))
        except FileNotFoundError:
            return Manifest()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoadError(
                "the manifest of the target is damaged", f"{self._target}/{MANIFEST}", str(error)[:200],
                hint="restore it from a copy, or choose another target",
            ) from error  # fmt: skip

    def _list(self, table: str) -> list[str]:
        """List the files of a table by their names below its folder."""
        own = self._path(table).strip("/")
        try:
            found = [str(path).strip("/") for path in self._files.find(self._path(table))]
        except FileNotFoundError:
            return []
        return [path.rpartition(f"{own}/")[2] for path in found if path != own]

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *names))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Name the target in every error: each storage library has its own tree of exceptions."""
        try:
            yield
        except DaskaeError:
            raise
        except Exception as error:
            raise LoadError(
                "the target cannot be read or written",
                where=self._target,
                got=f"{type(error).__name__}: {mask_secrets(str(error))}",
                hint="check the URL, the credentials and the network, then run the same command again",
            ) from error
