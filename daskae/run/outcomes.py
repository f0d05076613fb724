"""Every rule's outcome over the whole data set: states of all partitions merged, judged, and shown with their rows."""

import bisect
from collections.abc import Iterable, Sequence
from typing import Any

from daskae.hashing import digest_texts
from daskae.load.audits import LoadCheck
from daskae.load.base import Receipt
from daskae.partition import Segment
from daskae.run.context import RunContext
from daskae.run.history import manifests
from daskae.run.plan import Plan
from daskae.run.steps import Mapped, Step
from daskae.stages.spec import Spec
from daskae.summary import RowCounts, RuleOutcome, StepOutcome
from daskae.validate.results import DataSet, Verdict, judge
from daskae.validate.rules import RESERVED, Rule
from daskae.validate.states import RuleState, first_samples, merge_states, moved

STEP = "step"
"""Kind of the outcome of a step."""
LOAD_CHECK = "load_check"
"""Kind of the outcome of a check of the load, which is not among ``validation_results``: those are what is loaded."""


def contract_reasons(spec: Spec) -> list[str]:
    """Every reason of the reader and the contract, in the order they are tried."""
    free = [column for column in spec.contract.columns if column.dtype not in ("text", "decimal", "datetime", "date")]
    return [*RESERVED, *(f"unparsable_{column.name}" for column in free)]


def rule_outcomes(
    plan: Plan, mapped: Mapped, reduced: Step, repeated: Sequence[Step], rows: RowCounts, context: RunContext
) -> tuple[RuleOutcome, ...]:
    """Judge every rule over the whole data set; the reader's and the contract's own come first, where broken."""
    spec = plan.spec
    states = merged_states(spec, mapped)
    for rule in spec.global_rules:
        states[rule.name] = _repeated_state(rule, spec, reduced, repeated)
    # The contract is enforced on every row that was read; a task counts only rows that break it.
    built_in = [
        Rule(name, "contract", "reject_row", "error", ())
        for name in contract_reasons(spec)
        if name in states and states[name].affected
    ]
    relative = any("min_ratio" in rule.bounds or "max_ratio" in rule.bounds for rule in spec.rules)
    previous = previous_rows(context, data_id(plan.source.segments)) if relative else None
    data = DataSet(rows.accepted, context.started.date(), previous)
    places = _Places(mapped)
    found = []
    for rule in [*built_in, *spec.rules]:
        state = states.get(rule.name, RuleState())
        if rule.kind == "contract":
            state = RuleState(rows.read, state.affected)
        verdict = judge(rule, state, data, spec.samples)
        found.append(_outcome(rule, state, verdict, rows, places))
    return tuple(found)


def step_rejections(steps: Iterable[StepOutcome]) -> tuple[RuleOutcome, ...]:
    """Return an outcome for each step that rejected rows, so that every reason of a rejected row is among the results.

    A step drops rows because it was asked to, so its severity is ``info``. A ``dedupe`` is a rule already.
    """
    found = []
    for step in steps:
        rejected = step.rows_in - step.rows_out
        if step.at == "late" or not rejected:
            continue
        details = {
            "kind": STEP, "status": "failed", "at": step.at, "on_failure": "reject_row", "rejected_first": rejected,
            "tags": list(step.tags), "description": step.description,
        }  # fmt: skip
        message = f"the step rejected {rejected:,} of {step.rows_in:,} rows ({rejected / step.rows_in:.4%})"
        found.append(
            RuleOutcome(
                step.name, "info", False, step.rows_in, rejected, message, details, STEP, "failed", step.tags,
                step.description, step.seconds,
            )
        )  # fmt: skip
    return tuple(found)


def check_outcomes(checks: Iterable[LoadCheck], receipt: Receipt) -> tuple[RuleOutcome, ...]:
    """Return an outcome for each check of the load; where the target held the load already, none was run."""
    verdicts = {verdict.check.name: verdict for verdict in receipt.checks}
    found = []
    for check in checks:
        verdict = verdicts.get(check.name)
        status = "skipped" if verdict is None else "failed" if verdict.message else "passed"
        message = verdict.message if verdict is not None else "the target held this load already"
        found.append(
            RuleOutcome(
                check.name, "warning" if check.on_failure == "warn" else "error", status != "failed",
                # What a query looks at is not known, only what it finds.
                0, verdict.rows if verdict is not None else 0, message,
                {"kind": LOAD_CHECK, "status": status, "on_failure": check.on_failure, "at": check.at},
                LOAD_CHECK, status,
            )
        )  # fmt: skip
    return tuple(found)


def merged_states(spec: Spec, mapped: Mapped) -> dict[str, RuleState]:
    """Merge the states of all partitions, each of which counts once."""
    states: dict[str, RuleState] = {}
    parts = {result.part_id: (result, part) for result, part in zip(mapped.results, mapped.layout.parts, strict=True)}
    for result, part in parts.values():
        for name, data in result.rule_states.items():
            rule = spec.rule_named.get(name)
            state = moved(rule, RuleState.from_json(data), part.overall)
            known = states.get(name)
            states[name] = state if known is None else merge_states(rule, known, state, spec.samples)
    return states


def _repeated_state(rule: Rule, spec: Spec, reduced: Step, repeated: Sequence[Step]) -> RuleState:
    """Collect what the stages after map found of a unique rule."""
    checked = sum(manifest["lines"] + sum(manifest["late_first"].values()) for manifest in reduced.manifests)
    affected = sum(manifest["late_affected"].get(rule.name, 0) for manifest in reduced.manifests)
    if rule in spec.keyed_rules:
        step = repeated[spec.keyed_rules.index(rule)]
        shown = [row for manifest in step.manifests for row in manifest["samples"]]
    else:
        shown = [row for manifest in reduced.manifests for row in manifest["late_samples"].get(rule.name, [])]
    samples = first_samples(([[0, place], value] for place, value in shown), spec.samples)
    return RuleState(checked, affected, samples=samples)


class _Places:
    """Turns places in the whole input into files and row numbers."""

    def __init__(self, mapped: Mapped) -> None:
        starts = []
        for ref, part in zip(mapped.refs, mapped.layout.parts, strict=True):
            for segment, overall, in_file in zip(ref.segments, part.overall, part.in_file, strict=True):
                starts.append((overall, in_file, segment.label))
        self._starts = sorted(starts, key=lambda item: (item[0], item[1]))
        self._firsts = [item[0] for item in self._starts]

    def describe(self, samples: Iterable[Sequence[Any]]) -> tuple[dict[str, Any], ...]:
        """Return file, row number (from 1) and value of some samples."""
        found = []
        for (_, place), value in samples:
            first, in_file, label = self._starts[bisect.bisect_right(self._firsts, place) - 1]
            found.append({"file": label, "row_number": in_file + place - first + 1, "value": value})
        return tuple(found)


def _outcome(rule: Rule, state: RuleState, verdict: Verdict, rows: RowCounts, places: _Places) -> RuleOutcome:
    details = {
        "kind": rule.kind,
        "status": verdict.status,
        "columns": list(rule.columns),
        "on_failure": rule.on_failure,
        "rejected_first": rows.rejected_by_rule.get(rule.name, 0),
        "max_rows": rule.max_rows,
        "max_share": rule.max_share,
        "min_share": rule.min_share,
        "tags": list(rule.tags),
        "description": rule.description,
        **{f"bound_{name}": str(value) for name, value in rule.bounds.items()},
        **verdict.details,
    }
    failed_inside = verdict.status == "error"
    return RuleOutcome(
        rule.name, "error" if failed_inside else rule.severity, verdict.status in ("passed", "skipped"),
        verdict.checked, verdict.affected, verdict.message, details, rule.kind, verdict.status, rule.tags,
        rule.description, round(state.seconds, 4), places.describe(verdict.samples), dict(verdict.observed),
    )  # fmt: skip


def data_id(segments: Iterable[Segment]) -> str:
    """Return the identity of the sources of a run, however they are cut."""
    return digest_texts(*sorted({f"{segment.label}|{segment.identity}" for segment in segments}))


def previous_rows(context: RunContext, data: str) -> int | None:
    """Return the accepted rows of the last successful run over other data; None where there is none."""
    for manifest in reversed(list(manifests(context.work))):
        done = str(manifest.get("status", "")).startswith("done") and manifest.get("run_id") != context.run_id
        if done and manifest.get("data_id") != data:
            return int(manifest["rows"]["accepted"])
    return None
