"""The steps of a run: built against the input, their dimensions written, and what became of the rows told."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from daskae.config import RuleSettings
from daskae.errors import SettingsError
from daskae.events import StepApplied, Warned
from daskae.exchange import MANIFEST, files_are_whole, load_manifest
from daskae.partition import ExchangeFile, PartitionResult
from daskae.run.context import RunContext
from daskae.run.inputs import Source
from daskae.schema import Contract
from daskae.stages.dimension import write_dimension
from daskae.stages.spec import Spec
from daskae.summary import StepOutcome
from daskae.transform.build import build_steps
from daskae.transform.conditions import DataSetFacts
from daskae.transform.fold import Surroundings
from daskae.transform.operations import Lookup, ReadyStep
from daskae.transform.ready import Steps
from daskae.transform.states import StepState, merge_states
from daskae.transform.steps import require_names, steps_from
from daskae.validate.rules import RESERVED, Rule


def build_run_steps(source: Source, contract: Contract, partitions: Callable[[], int], context: RunContext) -> Steps:
    """Build all steps, those of the settings first, and write the dimensions that they look up.

    Parameters
    ----------
    source : Source
    contract : Contract
    partitions : callable
        Counts the partitions of a run from nothing.
    context : RunContext

    Raises
    ------
    SettingsError
        Naming the step.
    """
    given = (*steps_from(context.settings.steps), *context.own_steps)
    if not given:
        return Steps()
    everywhere = set.intersection(*(set(segment.columns) for segment in source.segments))
    common = tuple(name for name in source.columns if name in everywhere)
    facts = DataSetFacts(source.nbytes, source.files, partitions())
    taken = [*RESERVED, *(f"unparsable_{column.name}" for column in contract.columns)]
    steps = build_steps(given, Surroundings(contract, source.columns, common, facts, context.steps), taken)
    if not context.dry:
        for step in (*steps.in_tasks, *steps.late):
            if isinstance(step.operation, Lookup):
                _prepare(step.operation, f"step {step.name}")
    return steps


def _prepare(lookup: Lookup, where: str) -> None:
    """Write a dimension unless it is there, whole."""
    folder = Path(lookup.folder)
    manifest = load_manifest(folder)
    if manifest is not None and files_are_whole(folder, _files(manifest), thorough=True):
        with suppress(OSError):
            os.utime(folder / MANIFEST)
        return
    (folder / MANIFEST).unlink(missing_ok=True)
    write_dimension(lookup, where)


def _files(manifest: dict[str, Any]) -> list[ExchangeFile]:
    return [ExchangeFile(**item) for item in manifest["files"]]


def dedupe_rules(steps: Steps) -> list[RuleSettings]:
    """Return the unique rules that ``dedupe`` steps stand for."""
    return [
        RuleSettings(
            rule="unique", name=step.name, columns=list(step.columns), severity="info",
            description=step.description, tags=list(step.tags),
        )
        for step in steps.dedupes
    ]  # fmt: skip


def require_apart(steps: Steps, rules: Sequence[Rule], settings: Sequence[RuleSettings], context: RunContext) -> None:
    """Check that steps and rules have names of their own, and that no rule names what is looked up after the rules.

    Raises
    ------
    SettingsError
    """
    enabled = [step for step in (*steps_from(context.settings.steps), *context.own_steps) if step.enabled]
    require_names(enabled, [rule.name for rule in rules])
    late = {name: step.name for step in steps.late for name in step.operation.outputs}
    for i, item in enumerate(settings):
        columns = [item.column, *(item.columns or [])] if item.enabled else []
        for name in columns:
            if name in late:
                raise SettingsError(
                    "a rule names a column of a large dimension, which only metrics can use", f"rules[{i}]", name,
                    hint=f"raise parameters.broadcast_below of step {late[name]} if a process can hold the file",
                )  # fmt: skip


def warn_of_steps(steps: Steps, context: RunContext) -> None:
    """Tell what a person should know of steps before they run."""
    for text in steps.warnings:
        context.emit(Warned(text))


def tell_of_steps(spec: Spec, results: Iterable[PartitionResult], context: RunContext) -> None:
    """Tell what became of the rows in each step of the map tasks, and warn once a step of rows that it failed on."""
    states = merge_states(result.step_states for result in results)
    for step in spec.steps.in_tasks:
        outcome = _outcome(step, states.get(step.name, StepState()))
        _tell(outcome, context)
        if outcome.failed and step.on_error == "log":
            context.emit(
                Warned(f"step {step.name} failed on {outcome.failed:,} rows, which stay as they are: {outcome.error}")
            )


def _tell(outcome: StepOutcome, context: RunContext) -> None:
    context.emit(
        StepApplied(
            outcome.name, outcome.rows_in, outcome.rows_out, outcome.failed, outcome.partitions,
            outcome.skipped_partitions, outcome.seconds,
        )
    )  # fmt: skip


def step_outcomes(
    spec: Spec, parts: Sequence[PartitionResult], reduced: Sequence[dict[str, Any]], context: RunContext
) -> tuple[StepOutcome, ...]:
    """Return what became of the rows in every step, and tell of those after the map tasks."""
    states = merge_states(result.step_states for result in parts)
    late = merge_states(manifest["steps"] for manifest in reduced)
    found = [_outcome(step, states.get(step.name, StepState())) for step in spec.steps.in_tasks]
    found += [
        StepOutcome(name, at, 0, 0, partitions=len(parts), skipped_partitions=len(parts))
        for name, at in spec.steps.left_out
    ]
    after = [_outcome(step, late.get(step.name, StepState())) for step in spec.steps.late]
    checked = sum(manifest["lines"] + sum(manifest["late_first"].values()) for manifest in reduced)
    for step in spec.steps.dedupes:
        dropped = sum(manifest["late_first"].get(step.name, 0) for manifest in reduced)
        after.append(
            StepOutcome(step.name, "late", checked, checked - dropped, description=step.description, tags=step.tags)
        )
    for outcome in after:
        _tell(outcome, context)
    return (*found, *after)


def _outcome(step: ReadyStep, state: StepState) -> StepOutcome:
    return StepOutcome(
        step.name, step.at, state.rows_in, state.rows_out, state.failed, state.partitions, state.skipped,
        round(state.seconds, 4), state.error, step.on_error, step.description, step.tags,
    )  # fmt: skip
