"""The map task: one partition in; accepted rows by customer, keys by key hash, and rejected rows out."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from daskae.batch import Batch, RowNumbers
from daskae.budget import checkpoint
from daskae.errors import ConservationError, InputError
from daskae.exchange import ExchangeWriter, commit, slots_of
from daskae.hashing import hash_text
from daskae.partition import ExchangeFile, PartitionRef, PartitionResult
from daskae.read.reader import read_segments
from daskae.stages.dimension import whole_dimension
from daskae.stages.spec import Spec
from daskae.transform.apply import Runner
from daskae.transform.conditions import partition_facts
from daskae.transform.operations import ReadyStep
from daskae.validate.check import REJECT_SCHEMA, Change, Checked, check_batch
from daskae.validate.states import RuleState, merge_states

if TYPE_CHECKING:
    from daskae.stages.thorough import Thorough

FLUSH_BYTES = 32 << 20
"""Accepted rows held before they are sorted and written; more than one flush happens for compressed files only."""
MOST_ROWS = (1 << 32) - 1
"""Rows of one partition: their numbers have 32 bits in the files between the stages."""


def process_partition(
    ref: PartitionRef, spec: Spec, folder: Path, flush_bytes: int = FLUSH_BYTES, buckets: int = 1
) -> PartitionResult:
    """Read, check and write one partition.

    Parameters
    ----------
    ref : PartitionRef
    spec : Spec
    folder : Path
        Where this partition's output belongs; a manifest there means that it is done.
    flush_bytes : int
        Accepted rows to hold at most before they are written.
    buckets : int
        Into how many buckets the rows will be reduced.

    Returns
    -------
    PartitionResult
        Counts and file names; the rows stay on disk.

    Raises
    ------
    InputError
        If a source cannot be read to its end, or has more rows than can be numbered.
    ConservationError
        If rows got lost; a bug.
    """
    spec.require_same_libraries()
    folder.mkdir(parents=True, exist_ok=True)
    runner = Runner(partition_facts(ref), whole_dimension, checks_repeats=spec.checks_repeats)
    before, after = _change(spec.steps.before, runner), _change(spec.steps.after, runner)
    with _Output(spec, folder, len(ref.segments), flush_bytes, buckets) as output:
        for batch in read_segments(ref.segments, spec.dialect, spec.columns_to_read):
            _require_numbers(output.total + batch.count, ref)
            checked = check_batch(
                batch, spec.contract, spec.rules, spec.checked_columns,
                done=output.rows, samples=spec.samples, thorough=spec.thorough, before=before, after=after,
                again=spec.checks_repeats and not output.total,
            )  # fmt: skip
            output.add(batch, checked)
            checkpoint()
        files = output.finish()
    result = PartitionResult(
        part_id=ref.content_id,
        segment_ids=tuple(segment.content_id for segment in ref.segments),
        segment_rows=tuple(output.rows),
        segment_rejected=tuple(output.rejected),
        rejected_by_rule=dict(output.reasons),
        rule_states={name: state.to_json() for name, state in output.states.items()},
        files=files,
        corrected=output.corrected,
        step_states={name: state.to_json() for name, state in runner.states.items()},
    )
    kept = files["rows"].rows if "rows" in files else 0
    if result.rows != kept + result.rejected:
        raise ConservationError(
            "rows got lost in a partition", str(ref), f"{kept} + {result.rejected}", str(result.rows)
        )
    return PartitionResult.from_json(commit(folder, result.to_json(), compare=spec.checks_repeats))


def _require_numbers(rows: int, ref: PartitionRef) -> None:
    """Refuse a partition whose rows cannot all have numbers of their own."""
    if rows <= MOST_ROWS:
        return
    first = ref.segments[0]
    hint = "lower --block-size"
    if first.kind == "sql":
        hint = "set [input] key, and more of [input] partitions"
    elif first.compression and len(ref.segments) == 1:
        hint = "split the file: a compressed one is read as one part"
    raise InputError(
        "a part of the input has more rows than can be numbered", str(ref), f"{rows:,} rows or more",
        f"{MOST_ROWS:,} rows", hint,
    )  # fmt: skip


def _change(steps: tuple[ReadyStep, ...], runner: Runner) -> Change | None:
    """Return the function that runs some steps on a batch."""
    return partial(runner.run, steps) if steps else None


def _thorough(spec: Spec) -> "Thorough | None":
    if not spec.thorough:
        return None
    from daskae.stages.thorough import Thorough  # most runs need none of it

    return Thorough(spec.contract)


@dataclass
class _Output:
    """Collects a partition's rows and writes them by slot."""

    spec: Spec
    folder: Path
    segments: int
    flush_bytes: int = FLUSH_BYTES
    buckets: int = 1
    reasons: Counter[str] = field(default_factory=Counter)
    states: dict[str, RuleState] = field(default_factory=dict)
    total: int = 0
    corrected: int = 0
    starts: list[RowNumbers] | None = field(default_factory=list)
    """Byte offsets of all records so far, as long as finding them cost nothing."""
    _held: list[pl.DataFrame] = field(default_factory=list)
    _held_bytes: int = 0

    def __post_init__(self) -> None:
        self.rows = [0] * self.segments
        self.rejected = [0] * self.segments
        self._thorough = _thorough(self.spec)

    def __enter__(self) -> "_Output":
        self._stack = ExitStack()
        self._rows = self._stack.enter_context(ExchangeWriter(self.folder, "rows", self.buckets))
        self._keys = [
            self._stack.enter_context(ExchangeWriter(self.folder, f"keys-{i}", self.buckets))
            for i in range(len(self.spec.keyed_rules))
        ]
        self._rejects = self._stack.enter_context(ExchangeWriter(self.folder, "rejects"))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.__exit__(*exc)  # type: ignore[arg-type]

    def add(self, batch: Batch, checked: Checked) -> None:
        """Take one checked batch."""
        self._reject(batch, checked)
        self._keep_states(checked)
        if self._thorough is not None:
            self._thorough.add(batch, checked)
        for item in batch.broken:
            self._keep_state(item.reason, RuleState(affected=1))
        if len(checked.rows):
            frame = self._exchange_frame(batch, checked)
            self._held.append(frame)
            self._held_bytes += int(frame.estimated_size())
            if self._held_bytes > self.flush_bytes:
                self._flush()
        if self.starts is not None and self.spec.global_rules:
            places = batch.known_starts()
            self.starts = None if places is None else [*self.starts, places]
        for span in batch.spans:
            self.rows[span.segment] += span.rows
        self.total += batch.count
        self.corrected += batch.corrected

    def finish(self) -> dict[str, ExchangeFile]:
        """Write what is held and describe all files."""
        self._flush()
        writers = {"rows": self._rows, "rejects": self._rejects} | {f"keys-{i}": w for i, w in enumerate(self._keys)}
        if self.starts:
            starts = self._stack.enter_context(ExchangeWriter(self.folder, "starts"))
            starts.append_unsorted(pl.DataFrame({"start": np.concatenate(self.starts)}))
            writers["starts"] = starts
        files = {key: file for key, writer in writers.items() if (file := writer.finish()) is not None}
        return files if self._thorough is None else {**files, self._thorough.role: self._thorough.write(self.folder)}

    def _exchange_frame(self, batch: Batch, checked: Checked) -> pl.DataFrame:
        """Columns that later stages need: kept columns, the row's number in the partition, hashes and keys."""
        table, spec = checked.accepted, self.spec
        columns = [to_units(table[name]) for name in spec.kept_columns]
        columns.append(pl.Series("seq", self.total + checked.rows, dtype=pl.UInt32))
        columns.append(pl.Series("slot", slots_of(hash_text(table["customer_id"]))))
        if spec.drops_repeated_rows:
            hashes = batch.cells.hash_rows().alias("row_hash")
            columns.append(hashes if checked.mask is None else hashes.filter(checked.mask))
        for i, rule in enumerate(spec.keyed_rules):
            keys = table.select(pl.col(name).cast(pl.String) for name in rule.columns)
            columns.append(keys.hash_rows().alias(f"key_hash_{i}"))
            columns += [keys[name].alias(f"key_{i}_{j}") for j, name in enumerate(rule.columns)]
        return pl.DataFrame(columns)

    def _keep_states(self, checked: Checked) -> None:
        for name, state in checked.counts.items():
            self._keep_state(name, state)

    def _keep_state(self, name: str, state: RuleState) -> None:
        known = self.states.get(name)
        if known is not None:
            state = merge_states(self.spec.rule_named.get(name), known, state, self.spec.samples)
        self.states[name] = state

    def _flush(self) -> None:
        if not self._held:
            return
        frame = pl.concat(self._held, rechunk=True)
        self._held, self._held_bytes = [], 0
        slots = frame["slot"].to_numpy()
        hashes = ["row_hash"] if self.spec.drops_repeated_rows else []
        self._rows.append(frame.select([*self.spec.kept_columns, "seq", *hashes]), slots)
        for i, rule in enumerate(self.spec.keyed_rules):
            names = [f"key_{i}_{j}" for j in range(len(rule.columns))]
            keys = frame.select("seq", "slot", pl.col(f"key_hash_{i}").alias("key_hash"), *names).drop_nulls(names)
            if keys.height:
                self._keys[i].append(keys, slots_of(keys["key_hash"].to_numpy()))

    def _reject(self, batch: Batch, checked: Checked) -> None:
        """Write the batch's rejected rows with their raw text."""
        broken = _broken_rows(batch, checked.rejected.schema)
        rejected = pl.concat([broken, checked.rejected]).sort("row") if broken.height else checked.rejected
        if not rejected.height:
            return
        rows = rejected["row"].to_numpy()
        raw, offsets = batch.raw(rows)
        segments, numbers = batch.places(rows, self.rows)
        frame = rejected.with_columns(
            pl.Series("row", numbers), raw.alias("raw"), offsets.alias("byte_offset"),
            pl.Series("segment", segments, dtype=pl.UInt32),
        ).select("segment", *REJECT_SCHEMA)  # fmt: skip
        self._rejects.append_unsorted(frame)
        for segment, count in zip(*np.unique(segments, return_counts=True), strict=True):
            self.rejected[int(segment)] += int(count)
        self.reasons.update(dict(rejected["reason"].value_counts().iter_rows()))


def _broken_rows(batch: Batch, schema: pl.Schema) -> pl.DataFrame:
    """Describe records that could not be split into cells."""
    if not batch.broken:
        return pl.DataFrame(schema=schema)
    reasons = pl.Series("reason", [item.reason for item in batch.broken], dtype=pl.String)
    frame = pl.DataFrame(
        [
            pl.Series("row", [item.row for item in batch.broken], dtype=pl.Int64),
            reasons,
            reasons.alias("reasons").reshape((-1, 1)).arr.to_list(),
            pl.Series("value", [item.message for item in batch.broken], dtype=pl.String),
        ]
    )
    return frame.with_columns(pl.lit(None, dtype=pl.String).alias("column")).select(schema.names())


def to_units(values: pl.Series) -> pl.Series:
    """Turn decimals into integer units, exactly; other columns stay."""
    return values.to_physical().cast(pl.Int64) if isinstance(values.dtype, pl.Decimal) else values
