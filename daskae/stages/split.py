"""A partition that needs too much memory, cut into smaller ones; and the note of it that later runs find.

Segments of which a partition has several are shared out; a single one is cut at the end of a record. The cut of a
segment is noted in the folder that its output would have had, so a run that comes later, or goes on after a kill, knows
the pieces by their content as it knows any partition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from daskae.durable import replacing
from daskae.partition import PartitionRef, Segment
from daskae.read.cut import halves
from daskae.read.dialect import Dialect
from daskae.sealed import seal, unseal

SPLIT = "split.json"
Pieces = tuple[Segment, ...]


def split_partition(ref: PartitionRef, dialect: Dialect, folder: Path) -> tuple[PartitionRef, ...]:
    """Cut a partition into two, noting it in ``folder`` where a segment is cut; empty where it cannot be cut.

    Raises
    ------
    InputError
        If a source cannot be read.
    """
    segments = ref.segments
    if len(segments) > 1:
        middle = _middle([segment.nbytes for segment in segments])
        return PartitionRef(segments[:middle]), PartitionRef(segments[middle:])
    pieces = halves(segments[0], dialect)
    if pieces is None:
        return ()
    _save(pieces, folder)
    return tuple(PartitionRef((piece,)) for piece in pieces)


def _middle(sizes: Sequence[int]) -> int:
    """Return how many of the first make up about half of all, at least one and not all."""
    total, count = 0, 0
    while count < len(sizes) - 1 and (count == 0 or 2 * (total + sizes[count]) <= sum(sizes)):
        total, count = total + sizes[count], count + 1
    return count


def _save(pieces: Pieces, folder: Path) -> None:
    # Where it is and what it was then is taken from the input when the note is read, and a URL may hold a secret.
    note = seal([asdict(replace(piece, path="", identity="")) for piece in pieces])
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / SPLIT, synced=True) as temporary:
        temporary.write_text(note)


def folder_name(ref: PartitionRef) -> str:
    """Return the name of the folder that holds a partition's output."""
    return ref.content_id[:24]


def load_split(folder: Path) -> Pieces | None:
    """Return the pieces noted in a folder; None where there are none, or the note is not whole."""
    try:
        rows: list[dict[str, Any]] = unseal((folder / SPLIT).read_text())
        return tuple(Segment(**{**row, "columns": tuple(row["columns"])}) for row in rows)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def with_splits(segments: Sequence[Segment], splits: Mapping[str, Pieces]) -> tuple[list[Segment], frozenset[str]]:
    """Put the pieces of segments that were cut in their place.

    Parameters
    ----------
    segments : sequence of Segment
    splits : mapping
        Pieces by the name of the folder that the segment's output would have had.

    Returns
    -------
    segments : list of Segment
    pieces : frozenset of str
        Content ids of those that are pieces.
    """
    found: list[Segment] = []
    cut: set[str] = set()
    for segment in segments if splits else ():
        pieces = splits.get(folder_name(PartitionRef((segment,))))
        if pieces is None:
            found.append(segment)
            continue
        # The file may have been touched or moved since; what its bytes are has not changed.
        here = [replace(piece, path=segment.path, identity=segment.identity) for piece in pieces]
        inner, inner_cut = with_splits(here, splits)
        found += inner
        cut |= {piece.content_id for piece in inner} | inner_cut
    return (found, frozenset(cut)) if splits else (list(segments), frozenset())
