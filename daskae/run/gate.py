"""Decide over the whole data set: count, conserve, and refuse the publish where a blocking rule says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from daskae.errors import ConservationError, GateError
from daskae.events import Status
from daskae.run.context import RunContext
from daskae.run.plan import Plan
from daskae.run.steps import Final, Mapped, Step
from daskae.stages.spec import Spec
from daskae.summary import RowCounts, RuleOutcome
from daskae.units import units_to_decimal
from daskae.validate.rules import RESERVED, Rule


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
        rules = rule_outcomes(plan.spec, mapped, reduced, rows)
        context.rows, context.rules = rows, rules
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
        {name: count for name, count in by_rule.items() if count or name not in contract_reasons(spec)},
    )


def contract_reasons(spec: Spec) -> list[str]:
    """Every reason of the reader and the contract, in the order they are tried."""
    free = [column for column in spec.contract.columns if column.dtype not in ("text", "decimal", "datetime", "date")]
    return [*RESERVED, *(f"unparsable_{column.name}" for column in free)]


def _reasons(spec: Spec) -> list[str]:
    """Every reason a row can be rejected for, in the order they are tried."""
    local = [rule.name for rule in spec.rules if rule.rejects and not rule.is_global]
    return [*contract_reasons(spec), *local, *(rule.name for rule in spec.global_rules)]


def rule_outcomes(spec: Spec, mapped: Mapped, reduced: Step, rows: RowCounts) -> tuple[RuleOutcome, ...]:
    """Judge every rule over the whole data set; the reader's and the contract's own come first, where broken."""
    checked: dict[str, int] = {}
    affected: dict[str, int] = {}
    for result in mapped.results:
        for name, state in result.rule_states.items():
            checked[name] = checked.get(name, 0) + state["checked"]
            affected[name] = affected.get(name, 0) + state["affected"]
    passed_rows = sum(manifest["lines"] + sum(manifest["late_first"].values()) for manifest in reduced.manifests)
    for rule in spec.global_rules:
        checked[rule.name] = passed_rows
        affected[rule.name] = sum(manifest["late_affected"].get(rule.name, 0) for manifest in reduced.manifests)
    # The contract is enforced on every row that was read; a task counts only rows that break it.
    checked.update(dict.fromkeys(contract_reasons(spec), rows.read))
    built_in = [
        Rule(name, "contract", "reject_row", "error", ()) for name in contract_reasons(spec) if affected.get(name)
    ]
    return tuple(
        _outcome(rule, checked.get(rule.name, 0), affected.get(rule.name, 0), rows) for rule in [*built_in, *spec.rules]
    )


def _outcome(rule: Rule, checked: int, affected: int, rows: RowCounts) -> RuleOutcome:
    passed = rule.passed(affected, checked)
    share = f"{affected / checked:.4%}" if checked else "none"
    message = f"{affected:,} of {checked:,} rows break it ({share})" if affected else f"all {checked:,} rows satisfy it"
    details = {
        "kind": rule.kind,
        "columns": list(rule.columns),
        "on_failure": rule.on_failure,
        "rejected_first": rows.rejected_by_rule.get(rule.name, 0),
        "max_rows": rule.max_rows,
        "max_share": rule.max_share,
    }
    return RuleOutcome(rule.name, rule.severity, passed, checked, affected, message, details)


def _require_some(rows: RowCounts) -> None:
    if rows.read and not rows.accepted:
        worst = max(rows.rejected_by_rule, key=lambda name: rows.rejected_by_rule[name])
        raise GateError(
            "not one row was accepted, so nothing is published", "", f"{rows.rejected:,} rejected, most by {worst}",
            "at least one accepted row", "look at the quarantine, then at [columns] and [[rules]]",
        )  # fmt: skip


def _require_passed(rules: Sequence[Rule], outcomes: Sequence[RuleOutcome]) -> None:
    blocking = {rule.name for rule in rules if rule.on_failure == "block_run"}
    for outcome in outcomes:
        if outcome.rule_name in blocking and not outcome.passed:
            limit = [f"{k} {v}" for k, v in outcome.details.items() if k in ("max_rows", "max_share") and v is not None]
            raise GateError(
                "a blocking rule is broken, so nothing is published", f"rule {outcome.rule_name}", outcome.message,
                ", ".join(limit) or "no row may break it", "mend the input, or raise the rule's threshold",
            )  # fmt: skip
