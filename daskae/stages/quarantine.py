"""The quarantine task: every rejected row of a partition, raw, with its file, place and reasons, as Parquet."""

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from daskae.budget import checkpoint
from daskae.exchange import SLOTS, commit_files, read_slots
from daskae.partition import PartitionRef
from daskae.read.record_text import join_record, split_record
from daskae.stages.late_rejects import TEXTS_AT_ONCE, LateRejects
from daskae.stages.layout import Layout, PartLayout
from daskae.stages.spec import Spec

SAMPLES = 5
_PLACE = ["segment", "row"]
_GROUP_BYTES = 4 << 20
"""Text of rows that are written at once."""
HIDDEN = "***"

QUARANTINE_COLUMNS = (
    "file", "row_number", "byte_offset", "reason", "reasons", "severity", "column", "value", "raw",
)  # fmt: skip
PIECES = b"daskae.pieces"
"""Key of the file's metadata that says which pieces of which sources its rows are from, as JSON."""


@dataclass(frozen=True)
class QuarantineTask:
    """One partition that has rejected rows."""

    part: int
    ref: PartitionRef
    late: tuple[Path, ...]
    """Files of rows that reduce tasks rejected."""
    folder: Path


def quarantine_partition(task: QuarantineTask, spec: Spec, layout_path: Path) -> dict[str, Any]:
    """Write the rejected rows of one partition, in input order.

    Returns
    -------
    dict
        The manifest: ``file`` (Parquet), ``rows``, and ``samples``: up to five a reason, each file, row number, raw
        text.
    """
    task.folder.mkdir(parents=True, exist_ok=True)
    layout = Layout.load(layout_path).parts[task.part]
    late = LateRejects(task.part, task.ref, task.late, layout, spec, task.folder)
    name = f"rejected-{secrets.token_hex(8)}.parquet"
    samples: dict[str, list[list[object]]] = {}
    segments: set[int] = set()
    rows = 0
    with ExitStack() as stack:
        writer = None
        for frame in _grouped(merge_rows(_early_rejects(layout), late.frames())):
            segments.update(frame["segment"].unique().to_list())
            table = _finished(frame, task.ref, layout, spec)
            arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest())
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(task.folder / name, arrow.schema, compression="zstd"))
            writer.write_table(arrow)
            _add_samples(samples, table)
            rows += table.height
        if writer is not None:
            writer.add_key_value_metadata({PIECES: json.dumps(_pieces(task.ref, layout, sorted(segments))).encode()})
    return commit_files(
        task.folder, {"file": name, "rows": rows, "samples": samples}, [name], compare=spec.checks_repeats
    )


def _early_rejects(layout: PartLayout) -> Iterator[pl.DataFrame]:
    """Yield the rows that the map task rejected, in the order of the input."""
    path = layout.path("rejects")
    for table in read_slots(path, 0, SLOTS) if path is not None else ():
        for first in range(0, table.num_rows, TEXTS_AT_ONCE):
            yield pl.DataFrame(pl.from_arrow(table.slice(first, TEXTS_AT_ONCE)))
            checkpoint()


def merge_rows(left: Iterator[pl.DataFrame], right: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Merge two streams of rows that each rise by (segment, row); one frame of each is held."""
    streams = [left, right]
    held = [next(stream, None) for stream in streams]
    while held[0] is not None and held[1] is not None:
        bound = min(frame.select(_PLACE).row(-1) for frame in held if frame is not None)
        ready = []
        for i, frame in enumerate(held):
            assert frame is not None
            count = _rows_up_to(frame, bound)
            ready.append(frame[:count])
            held[i] = frame[count:] if count < frame.height else next(streams[i], None)
        columns = sorted(ready[0].columns)
        yield pl.concat([frame.select(columns) for frame in ready]).sort(_PLACE)
    for frame, stream in zip(held, streams, strict=True):
        if frame is not None:
            yield frame
            yield from stream


def _rows_up_to(frame: pl.DataFrame, bound: tuple[int, int]) -> int:
    """Count the rows whose place is not behind a bound."""
    segment, row = bound
    inside = (pl.col("segment") < segment) | ((pl.col("segment") == segment) & (pl.col("row") <= row))
    return int(frame.select(inside.sum()).item())


def _grouped(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Put small frames together, for each of them would be a row group."""
    held: list[pl.DataFrame] = []
    nbytes = 0
    for frame in frames:
        held.append(frame.select(sorted(frame.columns)))
        nbytes += int(frame.estimated_size())
        if nbytes >= _GROUP_BYTES:
            yield pl.concat(held)
            held, nbytes = [], 0
    if held:
        yield pl.concat(held)


def _finished(rows: pl.DataFrame, ref: PartitionRef, layout: PartLayout, spec: Spec) -> pl.DataFrame:
    """Name the file and the row, add the severity, and mask what is to be masked."""
    labels = pl.Series([item.label for item in ref.segments], dtype=pl.String)
    table = rows.with_columns(
        labels.gather(rows["segment"]).alias("file"),
        (pl.col("row") + pl.Series(np.array(layout.in_file)[rows["segment"].to_numpy()]) + 1).alias("row_number"),
        pl.col("reason").replace_strict(severities(spec), default="error", return_dtype=pl.String).alias("severity"),
    )
    if spec.masks_quarantine and spec.personal:
        table = _masked(table, ref, spec)
    return table.select(QUARANTINE_COLUMNS)


def _masked(table: pl.DataFrame, ref: PartitionRef, spec: Spec) -> pl.DataFrame:
    """Hide personal values: in the raw record where it can be split into its columns, else all of it."""
    personal = set(spec.personal)

    def record(segment: int, raw: str) -> str:
        item = ref.segments[segment]
        if item.kind != "csv":
            return json.dumps({name: HIDDEN if name in personal else value for name, value in json.loads(raw).items()})
        fields = split_record(raw, spec.dialect, len(item.columns))
        if fields is None:
            return HIDDEN
        return join_record(
            [HIDDEN if name in personal else field for name, field in zip(item.columns, fields, strict=True)],
            spec.dialect,
        )

    raws = [record(segment, raw or "") for segment, raw in table.select("segment", "raw").iter_rows()]
    shown = [not personal.isdisjoint((column or "").split(", ")) for column in table["column"]]
    unsplit = pl.Series([raw == HIDDEN for raw in raws])
    value = pl.when(pl.Series(shown) | unsplit).then(pl.lit(HIDDEN)).otherwise(pl.col("value")).alias("value")
    return table.with_columns(pl.Series("raw", raws, pl.String), value)


def severities(spec: Spec) -> dict[str, str]:
    """Return the severity of each rule and step by its name; what is neither is an error."""
    return {**dict.fromkeys(spec.steps.names, "info"), **{rule.name: rule.severity for rule in spec.rules}}


def _pieces(ref: PartitionRef, layout: PartLayout, segments: list[int]) -> list[dict[str, object]]:
    """Describe segments so that their content can be known again, with the number of rows before them in the file."""
    described = []
    for i in segments:
        item = ref.segments[i]
        piece = {"label": item.label, "kind": item.kind, "start": item.start, "end": item.end, "digest": item.digest}
        described.append({**piece, "columns": item.columns, "rows_before": layout.in_file[i]})
    return described


def _add_samples(samples: dict[str, list[list[object]]], table: pl.DataFrame) -> None:
    """Keep the first rows of each reason."""
    picked = table.group_by("reason", maintain_order=True).head(SAMPLES).select("reason", "file", "row_number", "raw")
    for reason, file, row, raw in picked.iter_rows():
        if len(known := samples.setdefault(reason, [])) < SAMPLES:
            known.append([file, row, (raw or "")[:200]])
