"""The four output tables as parts for a sink."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path

import pyarrow as pa

from daskae.aggregate.cohort import cohort_schema, cohort_table, rows_to_table
from daskae.aggregate.customer import customer_schema
from daskae.load.base import TableParts
from daskae.run.gate import Outcome
from daskae.stages.spec import Spec
from daskae.summary import RuleOutcome

KPI_SCALE = 12
_KPI_VALUE = pa.field("value", pa.decimal128(38, KPI_SCALE), metadata={b"exact": b"false"})
KPI_SCHEMA = pa.schema([("metric_name", pa.string()), _KPI_VALUE, ("unit", pa.string()), ("as_of", pa.date32())])
RULES_SCHEMA = pa.schema(
    [
        ("rule_name", pa.string()), ("severity", pa.string()), ("passed", pa.bool_()), ("checked_rows", pa.int64()),
        ("affected_rows", pa.int64()), ("message", pa.string()), ("details", pa.string()),
    ]
)  # fmt: skip
CUSTOMER = "customer_id"
CUSTOMER_KEYS = (CUSTOMER,)
COHORT_KEYS = ("cohort_month", "period_index")


def empty_tables(spec: Spec) -> tuple[TableParts, ...]:
    """Name, keys and schema of every table, without rows, for the preflight."""
    customers = customer_schema(spec.metrics, spec.contract.scale)
    return (
        TableParts("customer_metrics", CUSTOMER_KEYS, customers, (), 0, personal=CUSTOMER in spec.personal),
        TableParts("cohort_metrics", COHORT_KEYS, cohort_schema(spec.contract.scale), (), 0),
        TableParts("kpis", ("metric_name",), KPI_SCHEMA, (), 0),
        TableParts("validation_results", ("rule_name",), RULES_SCHEMA, (), 0),
    )


def finished_tables(spec: Spec, outcome: Outcome, folder: Path) -> tuple[TableParts, ...]:
    """Write the small tables and name the parts of all four."""
    facts = outcome.final.facts
    small = (
        cohort_table(outcome.final.cells, facts.as_of, facts.scale),
        kpi_table(key_figures(outcome), facts.as_of),
        rules_table(outcome.rules),
    )
    step = outcome.final.step
    customers, *others = empty_tables(spec)
    files = tuple(step.files("file"))
    rows = sum(manifest["rows"] for manifest in step.manifests)
    parts = [replace(customers, files=files, rows=rows)]
    for table, data in zip(others, small, strict=True):
        path = folder / f"{table.name}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, data.schema) as writer:
            writer.write_table(data)
        parts.append(replace(table, files=(path,), rows=data.num_rows))
    return tuple(parts)


def key_figures(outcome: Outcome) -> dict[str, tuple[Decimal | None, str]]:
    """Return value and unit of every key figure; money exact, ratios to twelve digits, None where there is no value."""
    customers, orders, revenue = outcome.customers, outcome.orders, outcome.revenue
    ltv = revenue * outcome.final.facts.settings.margin
    return {
        "customers": (Decimal(customers), "customers"),
        "orders": (Decimal(orders), "orders"),
        "revenue": (revenue, "currency"),
        "average_order_value": (_ratio(revenue, orders), "currency"),
        "orders_per_customer": (_ratio(Decimal(orders), customers), "orders"),
        "average_customer_ltv": (_ratio(ltv, customers), "currency"),
        "churned_customers": (Decimal(outcome.churned), "customers"),
        "churn_rate_percentage": (_ratio(Decimal(100 * outcome.churned), customers), "percent"),
    }


def _ratio(numerator: Decimal, denominator: int) -> Decimal | None:
    if not denominator:
        return None
    with localcontext(prec=50):
        return (numerator / denominator).quantize(Decimal(1).scaleb(-KPI_SCALE), ROUND_HALF_EVEN)


def kpi_table(figures: dict[str, tuple[Decimal | None, str]], as_of: date) -> pa.Table:
    """Return ``kpis``."""
    rows = [{"metric_name": n, "value": value, "unit": unit, "as_of": as_of} for n, (value, unit) in figures.items()]
    return rows_to_table(rows, KPI_SCHEMA)


def rules_table(rules: Sequence[RuleOutcome]) -> pa.Table:
    """Return ``validation_results``."""
    rows = [
        {
            "rule_name": rule.rule_name, "severity": rule.severity, "passed": rule.passed, "checked_rows":
            rule.checked_rows,
            "affected_rows": rule.affected_rows, "message": _message(rule), "details": json.dumps(rule.details),
        }
        for rule in rules
    ]  # fmt: skip
    return rows_to_table(rows, RULES_SCHEMA)


def _message(rule: RuleOutcome) -> str:
    """Return a message that the cutting of the input cannot change."""
    return rule.message if rule.status != "error" else f"the rule itself failed: {rule.details['error']}"
