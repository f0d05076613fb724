"""Which corrections hold for the sources of a run, and the segments that carry them."""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl

from daskae.errors import ExchangeError
from daskae.events import Warned
from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.read.parquet import groups_digest, read_footer
from daskae.read.patch import Patch, is_by_offset, load_patch, save_patch
from daskae.read.source import RangeReader, file_size_and_identity, hash_range
from daskae.run.context import RunContext
from daskae.run.corrections import load_corrections
from daskae.run.inputs import Corrections, Source

_PIECE = ["piece_start", "piece_end", "piece_digest"]


def correct(source: Source, context: RunContext) -> Source:
    """Give a run's sources their corrections, and warn of those that are not applied."""
    corrected = with_corrections(source, context.work, context.patches)
    for text in corrected.corrections.warnings():
        context.emit(Warned(text))
    return corrected


def with_corrections(source: Source, work: Path, patches: Path | None) -> Source:
    """Give the segments of a source the corrections that hold for them.

    Parameters
    ----------
    source : Source
    work : Path
        Work directory that keeps the corrections.
    patches : Path or None
        Folder for what the tasks read; None writes nothing, for plans that are not run.

    Raises
    ------
    InputError
        If the corrections, or a source that has some, cannot be read.
    """
    known = load_corrections(work)
    if not known.height:
        return source
    segments: dict[str, list[Segment]] = {}
    for segment in source.segments:
        if segment.kind != "sql":
            segments.setdefault(segment.label, []).append(segment)
    stale: list[tuple[str, int]] = []
    absent: list[tuple[str, int]] = []
    changed: dict[str, Segment] = {}
    planned = 0
    for (label,), rows in known.with_row_index("at").group_by(["label"], maintain_order=True):
        name = str(label)
        if name not in segments:
            absent.append((name, rows.height))
            continue
        good = _holding(rows, segments[name], source.dialect)
        if good.height < rows.height:
            stale.append((name, rows.height - good.height))
        good = good.unique("position", keep="last", maintain_order=True).sort("position")
        planned += good.height
        for segment, patch in _divided(good, segments[name], source.dialect):
            changed[segment.content_id] = _carrying(segment, patch, patches)
    found = tuple(changed.get(segment.content_id, segment) for segment in source.segments)
    return replace(source, segments=found, corrections=Corrections(planned, tuple(stale), tuple(absent)))


def _holding(rows: pl.DataFrame, segments: Sequence[Segment], dialect: Dialect) -> pl.DataFrame:
    """Return the corrections whose piece of the source is what it was."""
    here = {(segment.start, segment.end, segment.digest) for segment in segments}
    pieces = rows.select(_PIECE).unique().rows()
    same = [piece for piece in pieces if piece in here or piece_digest(segments[0], *piece[:2]) == piece[2]]
    kept = pl.DataFrame(same, schema={name: rows.schema[name] for name in _PIECE}, orient="row")
    by_row = not is_by_offset(segments[0], dialect)
    return rows.join(kept, on=_PIECE, how="semi").filter(pl.col("by_row") == by_row).sort("at")


def piece_digest(segment: Segment, start: int, end: int) -> str | None:
    """Return the hash of a piece of a segment's file; None if the file does not go so far."""
    if segment.kind == "parquet":
        return groups_digest(segment.path, start, end)
    if file_size_and_identity(segment.path)[0] < end:
        return None
    with RangeReader(segment.path) as reader:
        return hash_range(reader, start, end)


def _divided(rows: pl.DataFrame, segments: Sequence[Segment], dialect: Dialect) -> list[tuple[Segment, Patch]]:
    """Give each segment its corrections, with positions as its readers count them."""
    ordered = sorted(segments, key=lambda segment: segment.start)
    positions = rows["position"].to_numpy()
    if is_by_offset(ordered[0], dialect):
        starts, shift = [segment.start for segment in ordered], [0] * len(ordered)
    else:
        starts = shift = _first_rows(ordered)
    cuts = np.append(np.searchsorted(positions, starts), len(positions)).tolist()
    divided = []
    for i, segment in enumerate(ordered):
        if cuts[i + 1] > cuts[i]:
            here = rows[cuts[i] : cuts[i + 1]]
            patch = Patch(here["position"].to_numpy() - shift[i], tuple(here["text"].to_list()))
            divided.append((segment, patch))
    return divided


def _first_rows(segments: Sequence[Segment]) -> list[int]:
    """Return the number of the first row of each segment of a file whose rows have no byte offset."""
    if segments[0].kind != "parquet":
        return [0] * len(segments)  # one segment is the whole file
    footer = read_footer(segments[0].path)
    before = [0, *accumulate(footer.row_group(i).num_rows for i in range(footer.num_row_groups))]
    return [before[segment.start] for segment in segments]


def _carrying(segment: Segment, patch: Patch, patches: Path | None) -> Segment:
    digest = patch.digest
    path = (patches or Path()) / digest[:24] / "corrections.parquet"
    if patches is not None:
        if _is_there(path, digest):
            os.utime(path.parent)  # so that it counts as used when the work directory is swept
        else:
            save_patch(patch, path)
    return replace(segment, corrections=str(path), corrections_digest=digest)


def _is_there(path: Path, digest: str) -> bool:
    try:
        load_patch(str(path), digest)
    except ExchangeError:
        return False
    return True
