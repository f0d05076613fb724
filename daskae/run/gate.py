"""Decide over the whole data set: count, conserve, and refuse the publish where a blocking rule says so."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from daskae.errors import ConservationError, GateError
from daskae.events import Status
from daskae.run.context import RunContext
from daskae.run.outcomes import contract_reasons, rule_outcomes, step_rejections
from daskae.run.plan import Plan
from daskae.run.privacy import without_personal
from daskae.run.steps import Final, Mapped, Step
from daskae.run.thorough import quality_scores
from daskae.run.transforms import step_outcomes
from daskae.stages.spec import Spec
from daskae.summary import RowCounts, RuleOutcome
from daskae.units import units_to_decimal
from daskae.validate.rules import Rule


@dataclass(frozen=True)
class Outcome:
    """A data set that may be published."""

    rows: RowCounts
    rules: tuple[RuleOutcome, ...]
    final: Final
    customers: int
    orders: int
    revenue: Decimal
    churned: int
    status: Status
    quality: dict[str, Any] = field(default_factory=dict)
    """Scores of columns and rows, where they were asked for."""


def check_gate(
    plan: Plan, mapped: Mapped, reduced: Step, repeated: Sequence[Step], final: Final, context: RunContext
) -> Outcome:
    """Check the whole data set.

    Raises
    ------
    GateError
        If a blocking rule is broken beyond its threshold, or not one row was accepted.
    ConservationError
        If rows read are not rows accepted plus rows rejected; a bug.
    """
    with context.stage("gate"):
        rows = count_rows(plan.spec, mapped, reduced)
        steps = step_outcomes(plan.spec, mapped.results, reduced.manifests, context)
        rules = (*rule_outcomes(plan, mapped, reduced, repeated, rows, context), *step_rejections(steps))
        rules = without_personal(rules, plan.spec.personal)
        context.rows, context.rules, context.step_outcomes = rows, rules, steps
        _require_some(rows)
        _require_passed(plan.spec.rules, rules)
    manifests = final.step.manifests
    revenue = sum(int(manifest["revenue"]) for manifest in manifests)
    share = rows.rejected / rows.read if rows.read else 0.0
    return Outcome(
        rows, rules, final,
        customers=sum(manifest["rows"] for manifest in manifests),
        orders=sum(manifest["orders"] for manifest in reduced.manifests),
        revenue=units_to_decimal(revenue, plan.spec.contract.scale),
        churned=sum(manifest["churned"] for manifest in manifests),
        status="done_with_rejects" if share > context.settings.quality.max_rejected_share else "done",
        quality=quality_scores(plan, mapped, context),
    )  # fmt: skip


def count_rows(spec: Spec, mapped: Mapped, reduced: Step) -> RowCounts:
    """Add up rows read, accepted and rejected, and check that they agree."""
    read = sum(result.rows for result in mapped.results)
    by_rule: dict[str, int] = dict.fromkeys(_reasons(spec), 0)
    for result in mapped.results:
        for name, count in result.rejected_by_rule.items():
            by_rule[name] = by_rule.get(name, 0) + count
    for manifest in reduced.manifests:
        for name, count in manifest["late_first"].items():
            by_rule[name] += count
    ruled = {rule.name for rule in spec.rules}
    accepted = sum(manifest["lines"] for manifest in reduced.manifests)
    rejected = sum(by_rule.values())
    if read != accepted + rejected:
        raise ConservationError(
            "rows read are not rows kept plus rows rejected", "", f"{accepted} + {rejected}", str(read)
        )
    return RowCounts(
        read,
        accepted,
        rejected,
        {name: count for name, count in by_rule.items() if count or name in ruled},
    )


def _reasons(spec: Spec) -> list[str]:
    """Every reason a row can be rejected for, in the order they are tried."""
    before, after = ([step.name for step in steps] for steps in (spec.steps.before, spec.steps.after))
    local = [*before, *(rule.name for rule in spec.rules if rule.rejects and rule.is_row), *after]
    return [*contract_reasons(spec), *local, *(rule.name for rule in spec.global_rules if rule.rejects)]


def _require_some(rows: RowCounts) -> None:
    if rows.read and not rows.accepted:
        worst = max(rows.rejected_by_rule, key=lambda name: rows.rejected_by_rule[name])
        raise GateError(
            "not one row was accepted, so nothing is published", "", f"{rows.rejected:,} rejected, most by {worst}",
            "at least one accepted row", "look at the quarantine, then at [columns] and [[rules]]",
        )  # fmt: skip


def _require_passed(rules: Sequence[Rule], outcomes: Sequence[RuleOutcome]) -> None:
    blocking = {rule.name: rule for rule in rules if rule.on_failure == "block_run"}
    for outcome in outcomes:
        if outcome.rule_name in blocking and not outcome.passed:
            limit = [f"{name} {value}" for name, value in outcome.details.items() if _is_limit(name, value)]
            usual = "what its verdict asks for" if blocking[outcome.rule_name].is_table else "no row may break it"
            raise GateError(
                "a blocking rule is broken, so nothing is published", f"rule {outcome.rule_name}", outcome.message,
                ", ".join(limit) or usual, "mend the input, or raise the rule's threshold",
            )  # fmt: skip


def _is_limit(name: str, value: object) -> bool:
    return value is not None and (name in ("max_rows", "max_share", "min_share") or name.startswith("bound_"))
