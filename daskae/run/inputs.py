"""From the INPUT arguments to segments of sources that share the columns we need."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from daskae.config import Settings
from daskae.engine.base import cores
from daskae.errors import InputError, SettingsError
from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.read.discover import ScanCache, find_files, scan_files
from daskae.schema import REQUIRED


@dataclass(frozen=True)
class Corrections:
    """What becomes of the corrections that the work directory keeps."""

    planned: int = 0
    """Rows that are to be read in their corrected form."""
    stale: tuple[tuple[str, int], ...] = ()
    """Files that have changed, with the number of corrections that no longer hold."""
    absent: tuple[tuple[str, int], ...] = ()
    """Files that are not in the input, with the number of their corrections."""

    def warnings(self) -> list[str]:
        """Say which corrections are not applied, and why."""
        why = [(item, "it has changed") for item in self.stale]
        why += [(item, "it is not in the input") for item in self.absent]
        return [f"corrections of {file} are not applied, {count} rows: {reason}" for (file, count), reason in why]


@dataclass(frozen=True)
class Source:
    """The whole input, cut."""

    segments: tuple[Segment, ...]
    dialect: Dialect
    columns: tuple[str, ...]
    """Columns that the settings may name, in the order of the first source."""
    files: int
    nbytes: int
    corrections: Corrections = Corrections()


def dialect_of(settings: Settings) -> Dialect:
    """Return the CSV dialect of ``[input]``."""
    given = settings.input
    return Dialect(
        given.delimiter, given.quote, given.encoding, None if given.header is None else tuple(given.header),
        tuple(given.null_values), given.max_record_bytes, given.escape,
        given.skip_rows, given.max_expansion,
    )  # fmt: skip


def discover(settings: Settings, cache: ScanCache | None) -> Source:
    """Find and cut all inputs.

    Raises
    ------
    SettingsError
        Without an input.
    InputError
        If a source does not exist, cannot be read, or is empty.
    """
    if not settings.inputs:
        raise SettingsError("no input", "INPUT", hint="name files, folders, patterns or URLs to read")
    dialect = dialect_of(settings)
    segments, paths = _database_segments(settings)
    files = find_files(paths) if paths else []
    segments += scan_files(files, dialect, settings.block_size, cache, cores())
    columns = _usable_columns(segments, bool(settings.columns))
    nbytes = sum(segment.nbytes for segment in segments)
    return Source(tuple(segments), dialect, columns, len(files), nbytes)


def _database_segments(settings: Settings) -> tuple[list[Segment], list[str]]:
    """Return the segments of inputs that are databases, and the other inputs."""
    if not any("://" in text for text in settings.inputs):
        return [], list(settings.inputs)
    from daskae.read.sql import is_database_url, list_segments

    urls = [text for text in settings.inputs if is_database_url(text)]
    paths = [text for text in settings.inputs if text not in urls]
    return [segment for url in urls for segment in list_segments(url, settings.input)], paths


def _usable_columns(segments: Sequence[Segment], all_named: bool) -> tuple[str, ...]:
    """Columns that settings may name.

    Where ``[columns]`` names them, any column of any source will do: a source that lacks one that is needed is an error
    that says which. Where columns are taken by their names, optional ones count only if every source has them.
    """
    if not segments:
        raise InputError("the input holds no rows to read", hint="are all files empty of row groups?")
    everywhere = set.intersection(*(set(segment.columns) for segment in segments))
    names = dict.fromkeys(name for segment in segments for name in segment.columns)
    wanted = (*REQUIRED, "order_amount")
    return tuple(name for name in names if all_named or name in everywhere or name in wanted)


def require_columns(segments: Sequence[Segment], needed: Sequence[str]) -> None:
    """Check that every source has the columns needed, and say which file lacks one.

    Raises
    ------
    InputError
    """
    for segment in segments:
        missing = [name for name in needed if name not in segment.columns]
        if missing:
            near = difflib.get_close_matches(missing[0], segment.columns, 1)
            raise InputError(
                "a column is missing in a file", segment.label, ", ".join(segment.columns), f"a column {missing[0]!r}",
                f"is it {near[0]!r} there?" if near else "leave the file out, or name its columns in [columns]",
            )  # fmt: skip
