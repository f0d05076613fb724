"""What to read, and what became of it: the records that travel between driver and tasks instead of data."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from daskae.hashing import digest_texts


@dataclass(frozen=True)
class Segment:
    """A run of whole records of one source: a byte range of a CSV file, row groups of a Parquet file, a key range."""

    path: str = field(repr=False)
    """Where to open it: a local path, an fsspec URL or a database URL that holds no password. A URL may hold a secret,
    and libraries log what they are given, so it is not shown."""
    label: str
    """The path as a person gave it; ordered by it, shown with rejected rows."""
    kind: str
    """``csv``, ``parquet`` or ``sql``."""
    start: int
    """First byte, or first row group."""
    end: int
    """One past the last byte or row group."""
    nbytes: int
    """Bytes to read."""
    digest: str
    """Hash of those bytes."""
    columns: tuple[str, ...]
    """Column names of the source, in its order."""
    identity: str
    """Size and modification time (or etag) of the source when it was scanned; looked at again after reading."""
    compression: str = ""
    """``gzip``, ``zstd`` ... or empty."""
    skip_header: bool = False
    """True when the first record of the range is the header line."""
    corrections: str = ""
    """File of corrected records that stand in for those of the source; empty for none."""
    corrections_digest: str = ""

    @cached_property
    def content_id(self) -> str:
        """Identity of what a task makes of this segment: the bytes, how they are cut and the name shown for them."""
        parts = [self.label, self.kind, str(self.start), str(self.end), self.digest, *self.columns, self.compression]
        return digest_texts(*parts, *([self.corrections_digest] if self.corrections else []))

    @property
    def order(self) -> tuple[str, int]:
        """Position in the input: path order, then position in the file."""
        return (self.label, self.start)


@dataclass(frozen=True)
class PartitionRef:
    """The input of one map task: one segment of a large file, or several small files together."""

    segments: tuple[Segment, ...]

    @cached_property
    def content_id(self) -> str:
        """Hash over the segments' content ids."""
        return digest_texts(*(segment.content_id for segment in self.segments))

    @property
    def nbytes(self) -> int:
        """Bytes to read."""
        return sum(segment.nbytes for segment in self.segments)

    def __str__(self) -> str:
        first = self.segments[0]
        more = f" and {len(self.segments) - 1} more" if len(self.segments) > 1 else ""
        return f"{first.label} [{first.start}:{first.end}]{more}"


@dataclass(frozen=True)
class ExchangeFile:
    """One exchange file, as its manifest names it."""

    name: str
    rows: int
    nbytes: int
    checksum: str


@dataclass(frozen=True)
class PartitionResult:
    """What a map task leaves: counts, rule states and names of what it wrote; never rows."""

    part_id: str
    segment_ids: tuple[str, ...]
    segment_rows: tuple[int, ...]
    """Rows read by segment, in the order of the segments."""
    segment_rejected: tuple[int, ...]
    rejected_by_rule: dict[str, int]
    """Rejected rows under the first rule they broke."""
    rule_states: dict[str, dict[str, Any]]
    """By rule name: what the part leaves of it, see :mod:`daskae.validate.states`; merging two gives that of both."""
    files: dict[str, ExchangeFile] = field(default_factory=dict)
    """By role: ``rows`` (accepted, by customer), ``keys-<i>`` (of the i-th unique rule), ``rejects``, ``starts``,
    ``thorough`` (profile and quality)."""
    corrected: int = 0
    """Rows read that stand in for a record of the source."""
    step_states: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By step: what became of its rows, see :mod:`daskae.transform.states`; adding two gives that of both."""

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(self.segment_rows)

    @property
    def rejected(self) -> int:
        """Rows rejected by this task."""
        return sum(self.segment_rejected)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PartitionResult":
        """Rebuild from :meth:`to_json`.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the data are not of this form.
        """
        files = {key: ExchangeFile(**item) for key, item in data["files"].items()}
        tuples = {key: tuple(data[key]) for key in ("segment_ids", "segment_rows", "segment_rejected")}
        return cls(**{**data, **tuples, "files": files})


def starting_rows(segments: Sequence[Segment], rows: Sequence[int]) -> tuple[list[int], list[int]]:
    """Number the rows of all segments over the whole input and within their files.

    Parameters
    ----------
    segments : sequence of Segment
        In any order.
    rows : sequence of int
        Rows read, by segment.

    Returns
    -------
    overall, in_file : list of int
        For each segment, in the order given, how many rows come before it in the input, and in its file.
    """
    overall, in_file = [0] * len(segments), [0] * len(segments)
    total, within, label = 0, 0, None
    for i in sorted(range(len(segments)), key=lambda i: segments[i].order):
        if segments[i].label != label:
            label, within = segments[i].label, 0
        overall[i], in_file[i] = total, within
        total, within = total + rows[i], within + rows[i]
    return overall, in_file
