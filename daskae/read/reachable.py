"""Whether this process can read the sources of a run, asked of every worker before the first task."""

from collections.abc import Sequence

from daskae.errors import InputChangedError
from daskae.partition import Segment
from daskae.read.source import RangeReader, file_size_and_identity, is_url

MOST = 100
"""Sources looked at; a mount is missing as a whole, so a sample spread over the input finds it."""


def some_sources(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Choose up to :data:`MOST` sources, spread evenly over the input; databases are not looked at."""
    sources = list({segment.path: segment for segment in segments if segment.kind != "sql"}.values())
    step = -(-len(sources) // MOST) or 1
    return tuple(sources[::step])


def look_at_sources(sources: Sequence[Segment]) -> None:
    """Open each source and read a byte of it.

    Raises
    ------
    InputError
        If one is not there, cannot be read, or is not what the driver saw.
    """
    for source in sources:
        found = file_size_and_identity(source.path)[1]
        if found != source.identity:
            raise InputChangedError(
                "a source is not the one that was planned", source.label, found, source.identity,
                "give all hosts the same files",
            )  # fmt: skip
        with RangeReader(source.path) as reader:
            reader.read(0, 1)
        if is_url(source.path):
            return  # one tells whether the credentials are there
