"""The quarantine task: every rejected row of a partition, raw, with its file, place and reasons, as Parquet."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from daskae.batch import RowNumbers
from daskae.exchange import commit_files, read_frame, read_slots
from daskae.partition import PartitionRef, Segment
from daskae.read.raw import read_records
from daskae.read.reader import raw_batches
from daskae.read.record_text import join_record, split_record
from daskae.stages.layout import Layout, PartLayout
from daskae.stages.spec import Spec

SAMPLES = 5
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
    early_path = layout.path("rejects")
    frames = [read_frame([early_path])] if early_path is not None else []
    late = _late_rows(task, spec)
    if late.height:
        frames.append(_described(late, task.ref, layout, spec))
    rows = pl.concat([frame.select(sorted(frames[0].columns)) for frame in frames])
    segment = rows["segment"].to_numpy()
    labels = pl.Series([item.label for item in task.ref.segments], dtype=pl.String)
    table = rows.with_columns(
        labels.gather(rows["segment"]).alias("file"),
        (pl.col("row") + pl.Series(np.array(layout.in_file)[segment]) + 1).alias("row_number"),
        pl.Series("_order", np.array(layout.overall)[segment]) + pl.col("row"),
        pl.col("reason").replace_strict(severities(spec), default="error", return_dtype=pl.String).alias("severity"),
    )
    table = table.sort("_order")
    if spec.masks_quarantine and spec.personal:
        table = _masked(table, task.ref, spec)
    table = table.select(QUARANTINE_COLUMNS)
    name = f"rejected-{secrets.token_hex(8)}.parquet"
    pieces = {PIECES: json.dumps(_pieces(task.ref, layout, np.unique(segment).tolist())).encode()}
    arrow = table.to_arrow(compat_level=pl.CompatLevel.oldest()).replace_schema_metadata(pieces)
    pq.write_table(arrow, task.folder / name, compression="zstd")
    manifest = {"file": name, "rows": table.height, "samples": _samples(table)}
    return commit_files(task.folder, manifest, [name])


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


def _samples(table: pl.DataFrame) -> dict[str, list[list[object]]]:
    picked = table.group_by("reason", maintain_order=True).head(SAMPLES).select("reason", "file", "row_number", "raw")
    samples: dict[str, list[list[object]]] = {}
    for reason, file, row, raw in picked.iter_rows():
        samples.setdefault(reason, []).append([file, row, (raw or "")[:200]])
    return samples


def _late_rows(task: QuarantineTask, spec: Spec) -> pl.DataFrame:
    """Rows of this partition that broke global rules, with their reasons in the rules' order."""
    slot = task.part % 256
    tables = [pl.DataFrame(pl.from_arrow(t)) for path in task.late for t in read_slots(path, slot, slot + 1)]
    if not tables:
        return pl.DataFrame()
    late = pl.concat(tables).filter(pl.col("part") == task.part).sort("seq")
    names = [
        pl.when(pl.col(f"broken_{i}")).then(pl.lit(rule.name)).alias(f"n{i}")
        for i, rule in enumerate(spec.global_rules)
        if rule.rejects
    ]
    marked = late.select("seq", *names)
    reasons = pl.concat_list(marked.columns[1:]).list.drop_nulls()
    return marked.select("seq", reasons.alias("reasons")).with_columns(pl.col("reasons").list.first().alias("reason"))


def _described(late: pl.DataFrame, ref: PartitionRef, layout: PartLayout, spec: Spec) -> pl.DataFrame:
    """Read the raw text of late rejects from their source again; they were good rows when they were first read."""
    seq = late["seq"].to_numpy().astype(np.int64)
    starts, kept = layout.starts, layout.path("starts")
    segment = np.searchsorted(np.array(starts), seq, side="right") - 1
    row = seq - np.array(starts)[segment]
    places = None if kept is None else np.split(read_frame([kept])["start"].to_numpy(), starts[1:])
    raw: list[pl.Series] = []
    offsets: list[pl.Series] = []
    for index in np.unique(segment):
        wanted = row[segment == index]
        texts, found = (
            _raw_rows(ref, int(index), wanted, spec)
            if places is None
            else _by_place(ref.segments[index], wanted, places[index], spec)
        )
        raw.append(texts)
        offsets.append(found)
    nothing = pl.lit(None, dtype=pl.String)
    return late.drop("seq").with_columns(
        pl.Series("segment", segment, dtype=pl.UInt32), pl.Series("row", row), pl.concat(raw).alias("raw"),
        pl.concat(offsets).alias("byte_offset"), nothing.alias("column"), nothing.alias("value"),
    )  # fmt: skip


def _by_place(segment: Segment, rows: RowNumbers, starts: RowNumbers, spec: Spec) -> tuple[pl.Series, pl.Series]:
    """Raw texts and offsets of rows of a segment whose places were kept."""
    ends = np.append(starts[1:], segment.end)
    return read_records(segment, spec.dialect, starts[rows].tolist(), ends[rows].tolist())


def _raw_rows(ref: PartitionRef, index: int, rows: RowNumbers, spec: Spec) -> tuple[pl.Series, pl.Series]:
    """Raw texts and offsets of rows of a segment, given in rising order."""
    texts, offsets, done = [], [], 0
    for count, raw in raw_batches(ref.segments[index], spec.dialect, spec.columns_to_read):
        inside = rows[(rows >= done) & (rows < done + count)] - done
        if len(inside):
            text, place = raw(inside)
            texts.append(text)
            offsets.append(place)
        done += count
        if done > rows[-1]:
            break
    return pl.concat(texts), pl.concat(offsets)
