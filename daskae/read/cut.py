"""Cut a segment in two at the end of a record, for a task that needed too much memory.

Not covered: compressed files and wide encodings, which can only be read from their beginning (their readers hold a
window at a time, whatever their size); database ranges; segments with corrected records, which are kept by segment.
"""

from dataclasses import replace

from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.read.parquet import groups_digest
from daskae.read.scan import piece_from
from daskae.read.source import RangeReader, hash_range


def halves(segment: Segment, dialect: Dialect) -> tuple[Segment, Segment] | None:
    """Return two segments that hold the records of one, in their order; None where it cannot be cut.

    Raises
    ------
    InputError
        If the source cannot be read.
    """
    if segment.corrections:
        return None
    if segment.kind == "parquet":
        return _half_groups(segment)
    if segment.kind == "csv" and not segment.compression and not dialect.is_wide:
        return _half_records(segment, dialect)
    return None


def _half_records(segment: Segment, dialect: Dialect) -> tuple[Segment, Segment] | None:
    with RangeReader(segment.path) as reader:
        for target in ((segment.start + segment.end) // 2, segment.start + 1):
            cut, digest = piece_from(reader, segment.start, target, segment.end, dialect)
            if segment.start < cut < segment.end:
                rest = hash_range(reader, cut, segment.end)
                first = replace(segment, end=cut, nbytes=cut - segment.start, digest=digest)
                return first, replace(segment, start=cut, nbytes=segment.end - cut, digest=rest, skip_header=False)
    return None


def _half_groups(segment: Segment) -> tuple[Segment, Segment] | None:
    middle = (segment.start + segment.end) // 2
    parts = []
    for first, last in ((segment.start, middle), (middle, segment.end)):
        digest = groups_digest(segment.path, first, last) if first < last else None
        if digest is None:
            return None
        nbytes = segment.nbytes * (last - first) // (segment.end - segment.start)
        parts.append(replace(segment, start=first, end=last, nbytes=nbytes, digest=digest))
    return parts[0], parts[1]
