"""Turn the cut input into tasks, with what is done already and what memory they need; refuse what does not fit."""

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from daskae.engine.base import INLINE, LOCAL, PROCESSES, choose_engine, cores, local_workers, task_memory
from daskae.errors import PlanError
from daskae.events import PlanReady
from daskae.exchange import MANIFEST, SLOTS, files_are_whole, load_manifest
from daskae.faults import crash_point
from daskae.partition import PartitionRef, PartitionResult, Segment
from daskae.run.context import RunContext
from daskae.run.inputs import Source, require_columns
from daskae.run.memory import MemoryTerm, Projection, project, stored_to_text
from daskae.run.privacy import personal_columns
from daskae.run.references import with_references
from daskae.run.transforms import build_run_steps, dedupe_rules, require_apart, warn_of_steps
from daskae.schema import build_contract
from daskae.stages.map import FLUSH_BYTES
from daskae.stages.spec import Spec, rules_contract, sample_table
from daskae.stages.split import SPLIT, Pieces, folder_name, load_split, with_splits
from daskae.units import format_bytes
from daskae.validate.build import build_rules, require_boolean, select_rules
from daskae.validate.rules import ALL_COLUMNS

PACK_BYTES = 16 << 20
"""Small files are put together into partitions of about this size."""
BUCKET_BYTES = 64 << 20
"""Input bytes behind one bucket, roughly."""
_PACK_FILES = 2_000


@dataclass(frozen=True)
class Plan:
    """Everything that will be run."""

    source: Source
    spec: Spec
    refs: tuple[PartitionRef, ...]
    reused: dict[str, PartitionResult]
    """Results of partitions that need no run, by content id."""
    folders: tuple[Path, ...]
    """Output folder of each partition."""
    buckets: int
    engine: str
    engine_reason: str
    memory: tuple[MemoryTerm, ...]
    allowed_bytes: int | None
    """Memory a task may use; None where only the workers know, which are asked before the first task."""
    workers: int | None
    """Threads or worker processes; None for what the cluster's settings say."""
    projection: Projection
    """What decides the memory of a task, as far as it is known before the first one."""
    flush_bytes: int = FLUSH_BYTES
    """Accepted rows that a map task may hold before it writes them."""

    @property
    def projected_bytes(self) -> int:
        """Memory one task is expected to need at most, the process included."""
        return sum(term.nbytes for term in self.memory)

    def most_bucket_bytes(self, exchanged: int) -> int:
        """Exchange bytes of a bucket that a task may hold at once, now that it is known how many there are in all."""
        known = replace(self.projection, total=exchanged, bucket=exchanged // self.buckets)
        return known.most_bucket_bytes(self.allowed_bytes)

    @property
    def bucket_slots(self) -> list[tuple[int, int]]:
        """The run of slots of each bucket."""
        width = SLOTS // self.buckets
        return [(first, first + width) for first in range(0, SLOTS, width)]


def make_plan(source: Source, context: RunContext) -> Plan:
    """Plan a run.

    Raises
    ------
    SettingsError, InputError
        If columns, rules or metrics do not fit the sources.
    PlanError
        If a task would need more memory than a worker has.
    """
    settings = context.settings
    spec = make_spec(source, context)
    maps = context.maps(spec.map_fingerprint)
    known = {} if settings.fresh else _known_results(maps)
    segments, pieces = with_splits(source.segments, {} if settings.fresh else _known_splits(maps))
    refs, reused = arrange(segments, known, min(settings.block_size, PACK_BYTES), pieces)
    folders = tuple(maps / folder_name(ref) for ref in refs)
    engine, reason = choose_engine(settings.cluster_name, source.nbytes, settings.cluster)
    buckets = bucket_count(source)
    at_once = (settings.workers or cores()) if engine == INLINE else 1
    projection = project(refs, source, buckets, spec, at_once, reused)
    workers = settings.workers
    if engine in (PROCESSES, LOCAL):
        workers = local_workers(settings.workers, sum(term.nbytes for term in projection.terms()))
    allowed = task_memory(engine, settings.cluster, workers or cores(), settings.memory_limit)
    flush = projection.flush_bytes(allowed)
    memory = projection.terms(projection.most_bucket_bytes(allowed), flush)
    plan = Plan(
        source, spec, refs, reused, folders, buckets, engine, reason, memory, allowed, workers, projection, flush
    )  # fmt: skip
    _require_fit(plan)
    warn_of_steps(spec.steps, context)
    crash_point("plan.made")
    context.emit(PlanReady(source.files, source.nbytes, len(refs), len(reused), buckets, plan.projected_bytes, engine))
    return plan


def make_spec(source: Source, context: RunContext) -> Spec:
    """Resolve columns, rules and metrics against the sources."""
    settings = context.settings
    contract = build_contract(
        settings.columns, source.columns, scale=settings.money.scale, null_values=settings.input.null_values,
        timezone=settings.input.timezone,
    )  # fmt: skip
    steps = build_run_steps(
        source, contract, lambda: len(arrange(source.segments, {}, min(settings.block_size, PACK_BYTES))[0]), context
    )
    seen = rules_contract(contract, steps)
    columns = [name for name in source.columns if name not in steps.gone]
    require_apart(steps, (), settings.rules, context)
    built = build_rules(settings.rules, seen, columns, context.custom_rules, settings.as_of)
    require_apart(steps, built, (), context)
    require_boolean(built, sample_table(seen, columns))
    selected = select_rules(built, settings.validation)
    skipped = tuple(rule.name for rule in built if rule.name not in {item.name for item in selected})
    finished = replace(contract, columns=steps.columns or contract.columns)
    rules = (*with_references(selected, context), *build_rules(dedupe_rules(steps), finished, source.columns))
    named = [name for rule in rules for name in rule.columns if name not in (ALL_COLUMNS, *seen.names, *finished.names)]
    require_columns(source.segments, [*contract.sources, *named, *steps.reads])
    return Spec(
        source.dialect, contract, rules, context.metrics, settings.metrics, settings.as_of,
        settings.validation.samples, settings.validation.profile == "thorough", skipped,
        steps, settings.validation.check_determinism, personal_columns(settings, contract, source.columns),
        settings.privacy.quarantine == "mask",
    )  # fmt: skip


def _known_results(folder: Path) -> dict[tuple[str, ...], PartitionResult]:
    """Map outputs of earlier runs under the same fingerprint, by their segments; damaged ones are left out."""
    found: dict[tuple[str, ...], PartitionResult] = {}
    if not folder.is_dir():
        return found
    for entry in sorted(folder.iterdir()):
        manifest = load_manifest(entry)
        if manifest is None:
            continue
        try:
            result = PartitionResult.from_json(manifest)
        except (KeyError, TypeError, ValueError):
            continue
        found[result.segment_ids] = result
    return found


def _known_splits(folder: Path) -> dict[str, Pieces]:
    """Pieces of partitions that an earlier run had to cut, by folder; those that were done after all left out."""
    found: dict[str, Pieces] = {}
    for path in sorted(folder.glob(f"*/{SPLIT}")):
        pieces = load_split(path.parent)
        if pieces is not None and not (path.parent / MANIFEST).exists():
            found[path.parent.name] = pieces
            os.utime(path.parent)  # so that it counts as used when the work directory is swept
    return found


def arrange(
    segments: Sequence[Segment],
    known: dict[tuple[str, ...], PartitionResult],
    pack_bytes: int,
    alone: Collection[str] = (),
) -> tuple[tuple[PartitionRef, ...], dict[str, PartitionResult]]:
    """Group segments into partitions, keeping groups whose output is there already.

    Partitions of earlier runs whose segments are all still in the input stay as they are; what is left is packed in
    path order. So a new file makes one new partition, and a removed one dissolves only its own. Segments whose content
    id is in ``alone`` are packed with no other.
    """
    by_id = {segment.content_id: segment for segment in segments}
    refs: list[PartitionRef] = []
    reused: dict[str, PartitionResult] = {}
    taken: set[str] = set()
    for ids, result in sorted(known.items(), key=lambda item: (-len(item[0]), item[0])):
        if ids and all(id_ in by_id and id_ not in taken for id_ in ids):
            ref = PartitionRef(tuple(by_id[id_] for id_ in ids))
            refs.append(ref)
            reused[ref.content_id] = result
            taken.update(ids)
    rest = sorted((s for s in segments if s.content_id not in taken), key=lambda s: s.order)
    refs += [PartitionRef(tuple(group)) for group in _packed(rest, pack_bytes, alone)]
    return tuple(sorted(refs, key=lambda ref: ref.segments[0].order)), reused


def _packed(segments: Sequence[Segment], pack_bytes: int, alone: Collection[str]) -> list[list[Segment]]:
    groups: list[list[Segment]] = []
    size = 0
    for segment in segments:
        if segment.content_id in alone:
            groups.append([segment])
            size = pack_bytes
        elif groups and size + segment.nbytes <= pack_bytes and len(groups[-1]) < _PACK_FILES:
            groups[-1].append(segment)
            size += segment.nbytes
        else:
            groups.append([segment])
            size = segment.nbytes
    return groups


def bucket_count(source: Source) -> int:
    """Choose the number of buckets from the input's bytes alone: a power of two."""
    text_bytes = sum(segment.nbytes * stored_to_text(segment) for segment in source.segments)
    wanted = -(-text_bytes // BUCKET_BYTES)
    return min(SLOTS, 1 << (max(1, wanted) - 1).bit_length())


def _require_fit(plan: Plan) -> None:
    if plan.allowed_bytes is None or plan.projected_bytes <= plan.allowed_bytes:
        return
    worst = max(plan.memory, key=lambda term: term.nbytes)
    terms = "; ".join(f"{term.name} {format_bytes(term.nbytes)}" for term in plan.memory)
    raise PlanError(
        "a task would need more memory than a worker has", f"largest term: {worst.name}",
        f"{format_bytes(plan.projected_bytes)} = {terms}", format_bytes(plan.allowed_bytes),
        "lower --block-size, use fewer --workers, or raise --memory-limit",
    )  # fmt: skip


def damaged_parts(plan: Plan) -> list[int]:
    """Return the reused partitions whose files are not what their manifest says."""
    reused = [i for i, ref in enumerate(plan.refs) if ref.content_id in plan.reused]

    def is_whole(i: int) -> bool:
        result = plan.reused[plan.refs[i].content_id]
        return files_are_whole(plan.folders[i], list(result.files.values()), thorough=True)

    with ThreadPoolExecutor(cores()) as pool:
        return [i for i, whole in zip(reused, pool.map(is_whole, reused), strict=True) if not whole]
