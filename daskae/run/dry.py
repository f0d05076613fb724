"""What would be done, from metadata alone and without writing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from daskae.aggregate.aggregation import Metric
from daskae.config import Settings
from daskae.load.audits import LoadCheck
from daskae.load.shape import Shaping, TableChange
from daskae.load.targets import open_sink
from daskae.masking import mask_secrets
from daskae.read.discover import ScanCache
from daskae.run.inputs import discover
from daskae.run.job import make_context
from daskae.run.overlay import with_corrections
from daskae.run.plan import Plan, make_plan
from daskae.run.publish import make_load, with_partitions
from daskae.run.tables import empty_tables
from daskae.run.workdir import require_room
from daskae.transform.steps import Step
from daskae.units import format_bytes, format_count
from daskae.validate.custom import CustomRule


@dataclass(frozen=True)
class DryRun:
    """What a run would do."""

    plan: Plan
    changes: tuple[TableChange, ...]
    """To the shape of tables in the target; none where the target is files."""
    checks: tuple[str, ...]
    """Checks of the load, by name."""


def plan_without_writing(
    settings: Settings,
    metrics: Sequence[Metric] = (),
    rules: Sequence[CustomRule] = (),
    steps: Sequence[Step] = (),
    checks: Sequence[LoadCheck] = (),
) -> DryRun:
    """Plan a run and check the target, leaving no trace.

    Raises
    ------
    DaskaeError
        Whatever would stop the run before its first task.
    """
    context = make_context(settings, metrics, rules=rules, steps=steps, checks=checks)
    context.dry = True
    existing = context.work / "scans"
    cache = ScanCache(existing, keeps=False) if existing.is_dir() and not settings.fresh else None
    source = discover(settings, cache)
    plan = make_plan(with_corrections(source, context.work, None), context)
    require_room(plan, context)
    load = make_load(
        context, "dry-run", 0, with_partitions(empty_tables(plan.spec), context.settings.load.partition_by)
    )
    sink = open_sink(settings.to, settings.load.timeout_seconds)
    sink.preflight(load)
    changes = sink.plan_changes(load) if isinstance(sink, Shaping) else ()
    return DryRun(plan, changes, tuple(check.name for check in load.checks))


def plan_document(dry: DryRun, settings: Settings) -> dict[str, Any]:
    """Return the plan as plain data."""
    plan = dry.plan
    return {
        "schema_version": 1,
        "dry_run": True,
        "files": plan.source.files,
        "input_bytes": plan.source.nbytes,
        "corrected_rows": plan.source.corrections.planned,
        "partitions": len(plan.refs),
        "reused_partitions": len(plan.reused),
        "buckets": plan.buckets,
        "engine": plan.engine,
        "engine_reason": plan.engine_reason,
        "projected_bytes": plan.projected_bytes,
        "allowed_bytes": plan.allowed_bytes,
        "memory": {term.name: term.nbytes for term in plan.memory},
        "columns": {column.name: column.source for column in plan.spec.contract.columns},
        "rules": [rule.name for rule in plan.spec.rules],
        "steps": list(plan.spec.steps.names),
        "metrics": [item.name for item in plan.spec.metrics],
        "to": mask_secrets(settings.to),
        "strategy": settings.strategy,
        "tables": [table.name for table in empty_tables(plan.spec)],
        "changes": [asdict(change) for change in dry.changes],
        "checks": list(dry.checks),
    }


def describe_plan(dry: DryRun, settings: Settings) -> str:
    """Return the plan as text."""
    plan, data = dry.plan, plan_document(dry, settings)
    lines = [
        "dry run: nothing is written",
        f"  input       {format_count(plan.source.files)} files, {format_bytes(plan.source.nbytes)}",
        *_correction_lines(plan),
        f"  partitions  {format_count(len(plan.refs))}, of which {format_count(len(plan.reused))} are done already",
        f"  buckets     {plan.buckets}",
        f"  engine      {plan.engine} ({plan.engine_reason})",
        f"  memory      {format_bytes(plan.projected_bytes)} projected, {_allowed(plan)}",
        *(f"                {format_bytes(term.nbytes):>10}  {term.name}" for term in plan.memory),
        "  columns",
        *(f"                {name} <- {source}" for name, source in data["columns"].items()),
        f"  rules       {', '.join(data['rules']) or 'the order contract only'}",
        *([f"  steps       {', '.join(data['steps'])}"] if data["steps"] else []),
        f"  target      {data['to']} ({settings.strategy})",
        f"  tables      {', '.join(data['tables'])}",
        *([f"  checks      {', '.join(dry.checks)}"] if dry.checks else []),
        *_change_lines(dry.changes),
    ]
    return "\n".join(lines)


def _allowed(plan: Plan) -> str:
    known = plan.allowed_bytes
    return "as much allowed as the workers have" if known is None else f"{format_bytes(known)} allowed"


def _correction_lines(plan: Plan) -> list[str]:
    """Say how many rows would be read in their corrected form, where there are corrections at all."""
    found = plan.source.corrections
    lines = [f"  corrected   {format_count(found.planned)} rows"] if found.planned else []
    return [*lines, *(f"              {text}" for text in found.warnings())]


def _change_lines(changes: Sequence[TableChange]) -> list[str]:
    """Say what becomes of each table, then the statements that would do it."""
    if not changes:
        return ["  changes     files are written; no table of a database is made or altered"]
    words = {"create": "new", "alter": "altered", "keep": "as it is"}
    lines = ["  changes"]
    for change in changes:
        lines.append(f"              {change.table}: {words[change.change]}")
        lines += [f"                {note}" for note in change.notes if note != "is made"]
    statements = [statement for change in changes for statement in change.statements]
    if statements:
        lines += ["", "-- statements that would be run, or others that end in the same tables", *_with_ends(statements)]
    return lines


def _with_ends(statements: Sequence[str]) -> list[str]:
    return [f"{statement};" for statement in statements]
