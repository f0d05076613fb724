"""The stages that run tasks; each looks first for what an earlier run left under the same identity.

A step's output folder is named by a hash of everything that decides it: what it reads, which slots, and the settings
that matter to it. So a run that was killed goes on where it was, and a run over unchanged input runs nothing.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from daskae.aggregate.aggregation import Facts
from daskae.aggregate.cohort import Cell, merge_cells
from daskae.aggregate.rfm import score_cuts
from daskae.engine.base import Engine
from daskae.errors import ExchangeError
from daskae.events import Stage, TaskDone, Warned
from daskae.exchange import MANIFEST, SLOTS, files_are_whole, load_manifest, read_slots
from daskae.faults import crash_point
from daskae.hashing import digest_texts
from daskae.partition import ExchangeFile, PartitionRef, PartitionResult
from daskae.run.attempts import complete
from daskae.run.context import RunContext
from daskae.run.memory import exchanged_bytes
from daskae.run.plan import Plan, damaged_parts
from daskae.run.rejects import share
from daskae.run.transforms import tell_of_steps
from daskae.stages.accepted import AcceptedRows
from daskae.stages.finalize import FinalizeTask, finalize_bucket
from daskae.stages.large import reduce_bucket
from daskae.stages.layout import Layout, build_layout
from daskae.stages.map import process_partition
from daskae.stages.quarantine import QuarantineTask, quarantine_partition, severities
from daskae.stages.reduce import RANK_MEASURES, ReduceTask
from daskae.stages.spec import Spec
from daskae.stages.split import folder_name, split_partition
from daskae.stages.unique import UniqueTask, find_duplicates

_FEWEST_BYTES = 1 << 16
_FEWEST_ROWS = 1 << 10


@dataclass(frozen=True)
class Mapped:
    """All partitions and their results, in input order."""

    refs: tuple[PartitionRef, ...]
    """The partitions, those that had to be cut as their pieces."""
    results: tuple[PartitionResult, ...]
    layout: Layout
    layout_path: Path
    identity: str
    """Hash of which partitions there are and where their rows stand."""


@dataclass(frozen=True)
class Step:
    """Outputs of a later stage, in the order of its tasks."""

    folders: tuple[Path, ...]
    manifests: tuple[dict[str, Any], ...]
    identity: str

    def files(self, role: str) -> list[Path]:
        """List the files that the manifests name under a role."""
        pairs = zip(self.folders, self.manifests, strict=True)
        return [folder / manifest[role] for folder, manifest in pairs if manifest[role]]


@dataclass(frozen=True)
class Final:
    """Finished customer rows, and what is known of the whole data set."""

    step: Step
    facts: Facts
    cells: tuple[Cell, ...]
    first_day: date | None
    last_day: date | None


def map_partitions(plan: Plan, engine: Engine, context: RunContext) -> Mapped:
    """Run the map task of every partition that has no valid output."""
    damaged = set(damaged_parts(plan))
    done: list[tuple[MapTask, PartitionResult]] = []
    todo: list[MapTask] = []
    for i, (ref, folder) in enumerate(zip(plan.refs, plan.folders, strict=True)):
        known = None if i in damaged else plan.reused.get(ref.content_id)
        if i in damaged:
            (folder / MANIFEST).unlink(missing_ok=True)
        if known is None:
            todo.append(MapTask(ref, folder, plan.flush_bytes, plan.buckets))
        else:
            done.append((MapTask(ref, folder, plan.flush_bytes, plan.buckets), known))
    with context.stage("map", len(todo), len(done), sum(task.ref.nbytes for task in todo)):
        cut = partial(_smaller, spec=plan.spec)
        context.pending = {task.folder: str(task) for task in todo}
        for task, outcome in complete(engine, map_partition, todo, (plan.spec,), cut, context, "map", _is_packed):
            done.append((task, outcome.value))
            context.pending.pop(task.folder, None)
            _tell(context, "map", str(task), outcome.value.rows, task.ref.nbytes, outcome)
    done.sort(key=lambda item: item[0].ref.segments[0].order)
    return _mapped(done, plan, context)


def _mapped(done: Sequence[tuple["MapTask", PartitionResult]], plan: Plan, context: RunContext) -> Mapped:
    """Number all rows, and say how they were changed on the way."""
    tasks, results = [task for task, _ in done], [result for _, result in done]
    context.pending = {}
    context.outputs += [(task.folder, tuple(result.files.values())) for task, result in done]
    context.corrected = sum(result.corrected for result in results)
    if (missing := plan.source.corrections.planned - context.corrected) > 0:
        context.emit(Warned(f"{missing} corrected rows are not applied: no record of this dialect is at their place"))
    tell_of_steps(plan.spec, results, context)
    refs = [task.ref for task in tasks]
    layout = build_layout(refs, results, [task.folder for task in tasks])
    path = context.run_dir / "layout.json"
    layout.save(path)
    parts = zip(results, layout.parts, strict=True)
    places = [f"{result.part_id}:{part.overall}:{part.files}" for result, part in parts]
    return Mapped(tuple(refs), tuple(results), layout, path, digest_texts(plan.spec.map_fingerprint, *places))


@dataclass(frozen=True)
class MapTask:
    """One partition and the folder for its output."""

    ref: PartitionRef
    folder: Path
    flush_bytes: int
    buckets: int

    def __str__(self) -> str:
        return str(self.ref)


def map_partition(task: MapTask, spec: Spec) -> PartitionResult:
    """Run the map task."""
    return process_partition(task.ref, spec, task.folder, task.flush_bytes, task.buckets)


def _is_packed(task: MapTask) -> bool:
    return len(task.ref.segments) > 1


def _smaller(task: MapTask, spec: Spec) -> list[MapTask]:
    """Cut a partition in two."""
    refs = split_partition(task.ref, spec.dialect, task.folder)
    return [replace(task, ref=ref, folder=task.folder.parent / folder_name(ref)) for ref in refs]


def _tell(context: RunContext, stage: Stage, task: str, rows: int, nbytes: int, outcome: Any) -> None:
    context.peak_bytes = max(context.peak_bytes, outcome.peak_bytes)
    rejected = outcome.value.rejected if isinstance(outcome.value, PartitionResult) else 0
    context.emit(TaskDone(stage, task, rows, nbytes, outcome.peak_bytes, outcome.seconds, rejected))


def _run_step(
    stage: Stage,
    tasks: Sequence[Any],
    function: Callable[..., dict[str, Any]],
    shared: tuple[Any, ...],
    engine: Engine,
    context: RunContext,
    identity: str,
    rows: str,
    cut: Callable[[Any], list[Any]] = lambda _: [],
) -> Step:
    """Run the tasks whose folders hold no valid output; ``rows`` names the manifest's count for the progress."""
    manifests = [None if context.settings.fresh else _valid(task.folder) for task in tasks]
    todo = [i for i, manifest in enumerate(manifests) if manifest is None]
    with context.stage(stage, len(todo), len(tasks) - len(todo)):
        places = {tasks[i].folder: i for i in todo}
        context.pending = {tasks[i].folder: f"{stage} {i + 1}" for i in todo}
        for task, outcome in complete(engine, function, [tasks[i] for i in todo], shared, cut, context, stage):
            i = places[task.folder]
            manifests[i] = outcome.value
            _tell(context, stage, context.pending.pop(task.folder, f"{stage} {i + 1}"), outcome.value[rows], 0, outcome)
    done = tuple(manifest for manifest in manifests if manifest is not None)
    context.outputs += [(task.folder, _files_of(manifest)) for task, manifest in zip(tasks, done, strict=True)]
    return Step(tuple(task.folder for task in tasks), done, identity)


def _files_of(manifest: dict[str, Any]) -> tuple[ExchangeFile, ...]:
    return tuple(ExchangeFile(**item) for item in manifest["files"])


def _fewer_rows(task: ReduceTask) -> list[ReduceTask]:
    """Hold a quarter of the bytes at once; none where that is hardly anything already."""
    return [replace(task, most_bytes=task.most_bytes // 4)] if task.most_bytes > _FEWEST_BYTES else []


def _valid(folder: Path) -> dict[str, Any] | None:
    """Return a manifest whose files are what it says they are."""
    manifest = load_manifest(folder)
    if manifest is None:
        return None
    try:
        files = _files_of(manifest)
    except (KeyError, TypeError):
        return None
    if files_are_whole(folder, files, thorough=True):
        return manifest
    (folder / MANIFEST).unlink(missing_ok=True)
    return None


def find_repeated(plan: Plan, mapped: Mapped, engine: Engine, context: RunContext) -> list[Step]:
    """For each unique rule by key, name the rows that repeat a key."""
    steps = []
    samples = context.settings.validation.samples
    for i, rule in enumerate(plan.spec.keyed_rules):
        identity = digest_texts("unique-2", str(i), rule.definition, mapped.identity, str(samples))
        most_rows, passes = _rows_at_once(i, plan, mapped)
        tasks = [
            UniqueTask(
                i, first, last, context.steps(digest_texts(identity, str(first), str(last))), samples, passes, most_rows
            )
            for first, last in plan.bucket_slots
        ]
        shared = (mapped.layout_path,)
        steps.append(
            _run_step("unique", tasks, find_duplicates, shared, engine, context, identity, "checked", _narrower)
        )
    return steps


def _rows_at_once(rule: int, plan: Plan, mapped: Mapped) -> tuple[int, int]:
    """Return how many rows a unique task may hold, and in how many passes it takes its keys so that they are no more.

    A row of keys is worth as much memory in a unique task as one of the exchange in a reduce task.
    """
    files = [result.files[f"keys-{rule}"] for result in mapped.results if f"keys-{rule}" in result.files]
    nbytes, rows = sum(file.nbytes for file in files), sum(file.rows for file in files)
    most = plan.most_bucket_bytes(nbytes)
    ratio = nbytes / plan.buckets / most
    passes = 1 << math.ceil(math.log2(ratio)) if ratio > 1 else 1
    return max(1, most * rows // max(1, nbytes)), passes


def _narrower(task: UniqueTask) -> list[UniqueTask]:
    """Take the keys in four times as many passes; none where few rows are held already."""
    if task.most_rows < _FEWEST_ROWS:
        return []
    return [replace(task, passes=4 * task.passes, most_rows=task.most_rows // 4)]


def reduce_buckets(plan: Plan, mapped: Mapped, repeated: Sequence[Step], engine: Engine, context: RunContext) -> Step:
    """Aggregate every bucket of customers."""
    files = tuple(tuple(step.files("file")) for step in repeated)
    # What decides the result beside the rows is in the spec, but as_of and the metric settings matter only later.
    definition = replace(plan.spec, as_of=None).fingerprint
    identity = digest_texts("reduce-2", definition, mapped.identity, *(str(path) for paths in files for path in paths))
    most = plan.most_bucket_bytes(exchanged_bytes(mapped.results))
    tasks = [
        ReduceTask(first, last, files, context.steps(digest_texts(identity, str(first), str(last))), most)
        for first, last in plan.bucket_slots
    ]
    shared = (plan.spec, mapped.layout_path)
    step = _run_step("reduce", tasks, reduce_bucket, shared, engine, context, identity, "lines", _fewer_rows)
    context.accepted = AcceptedRows(mapped.layout_path, tuple(step.files("late")), plan.spec, len(mapped.refs))
    return step


def finalize(plan: Plan, reduced: Step, engine: Engine, context: RunContext) -> Final:
    """Find what is true of the whole data set, then finish the customer rows with it."""
    manifests = reduced.manifests
    cells = tuple(merge_cells(manifest["cohort"] for manifest in manifests))
    last_days = [manifest["last_day"] for manifest in manifests if manifest["last_day"]]
    last = date.fromisoformat(max(last_days)) if last_days else date(1970, 1, 1)
    states = [
        tuple(folder / stem for stem in m["states"])
        for folder, m in zip(reduced.folders, manifests, strict=True)
        if m["states"]
    ]
    stems = [stem for group in states for stem in group]
    cuts = {measure: score_cuts([_ranks(Path(f"{stem}-{measure}.npy")) for stem in stems]) for measure in RANK_MEASURES}
    customers = sum(manifest["customers"] for manifest in manifests)
    facts = Facts(plan.spec.as_of or last, plan.spec.contract.scale, plan.spec.settings, customers, cuts)
    # Names of files are those of one attempt: what is made again after damage is finished again.
    names = [stem.name for stem in stems]
    identity = digest_texts("finalize-2", reduced.identity, plan.spec.fingerprint, repr(facts), *names)
    tasks = [
        FinalizeTask(
            tuple(stem.with_name(f"{stem.name}.arrow") for stem in group), context.steps(digest_texts(identity, str(i)))
        )
        for i, group in enumerate(states)
    ]
    step = _run_step("finalize", tasks, finalize_bucket, (plan.spec, facts), engine, context, identity, "rows")
    first_days = [date.fromisoformat(manifest["first_day"]) for manifest in manifests if manifest["first_day"]]
    return Final(step, facts, cells, min(first_days, default=None), last if last_days else None)


def _ranks(path: Path) -> Any:
    """Map sorted values into memory; never as pickled objects."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ExchangeError("an intermediate file is damaged or gone", str(path), str(error)[:200]) from error


def quarantine(plan: Plan, mapped: Mapped, reduced: Step, engine: Engine, context: RunContext) -> dict[str, list[Any]]:
    """Write all rejected rows, put them into the run folder, and return up to five samples a reason."""
    late = tuple(reduced.files("late"))
    late_parts = _parts_with_late(late)
    parts = [i for i, result in enumerate(mapped.results) if "rejects" in result.files or i in late_parts]
    paths = [str(path) for path in late]
    identity = digest_texts("quarantine-2", reduced.identity, *paths, repr(severities(plan.spec)))
    if plan.spec.masks_quarantine:
        identity = digest_texts(identity, "masked", *plan.spec.personal)
    tasks = [QuarantineTask(i, mapped.refs[i], late, context.steps(digest_texts(identity, str(i)))) for i in parts]
    shared = (plan.spec, mapped.layout_path)
    step = _run_step("quarantine", tasks, quarantine_partition, shared, engine, context, identity, "rows")
    samples: dict[str, list[Any]] = {}
    folder = context.run_dir / "quarantine" / f"run_id={context.run_id}"
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that is made again
    for part, path, manifest in zip(parts, step.files("file"), step.manifests, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        share(path, folder / f"rejected-{part:05d}.parquet")
        crash_point("quarantine.shared")
        for reason, rows in manifest["samples"].items():
            samples.setdefault(reason, []).extend(rows[: max(0, 5 - len(samples.get(reason, [])))])
    return samples


def _parts_with_late(files: Sequence[Path]) -> set[int]:
    tables = (table for path in files for table in read_slots(path, 0, SLOTS, ["part"]))
    return {part for table in tables for part in pl.Series(pl.from_arrow(table["part"])).unique().to_list()}
