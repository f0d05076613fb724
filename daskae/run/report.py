"""The closing records: summary, manifest.json and report.html in the run folder."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from daskae import __version__
from daskae.aggregate.cohort import Cell, cohort_rows, month_start
from daskae.durable import replacing
from daskae.events import Status
from daskae.faults import crash_point
from daskae.load.base import Receipt
from daskae.masking import mask_secrets
from daskae.report.data import (
    CohortCell,
    MonthTotal,
    RejectedSample,
    ReportData,
    SegmentTotal,
    TopCustomer,
)
from daskae.run.context import RunContext
from daskae.run.gate import Outcome
from daskae.run.outcomes import check_outcomes, data_id
from daskae.run.plan import Plan
from daskae.run.publish import load_checks
from daskae.run.record import without_secrets
from daskae.run.tables import key_figures
from daskae.summary import RowCounts, RunSummary, TableOutcome
from daskae.units import format_decimal, units_to_decimal

_MANIFEST = "manifest.json"
_PACKAGES = ("polars", "pyarrow", "dask", "distributed", "pandas", "sqlalchemy")


def write_run_report(
    plan: Plan, outcome: Outcome, samples: Mapping[str, Sequence[Any]], receipt: Receipt, context: RunContext
) -> RunSummary:
    """Write the report and the manifest of a run that ended well, and return its summary."""
    from daskae.report.html import write_report

    report = context.run_dir / "report.html"
    with context.stage("report"):
        first = summarize(plan, outcome, receipt, context, str(report))
        write_report(report, first, report_data(plan, outcome, samples, context))
    summary = summarize(plan, outcome, receipt, context, str(report))
    write_manifest(summary, context)
    return summary


def summarize(plan: Plan, outcome: Outcome, receipt: Receipt, context: RunContext, report: str) -> RunSummary:
    """Collect the summary of a run that ended well."""
    quarantine = context.run_dir / "quarantine"
    return RunSummary(
        run_id=context.run_id,
        status=outcome.status,
        rows=outcome.rows,
        tables=_table_outcomes(receipt),
        kpis={name: kpi_value(value, unit) for name, (value, unit) in key_figures(outcome).items()},
        seconds=_seconds(context),
        peak_memory_bytes=context.peak_bytes,
        partitions=len(plan.refs),
        reused_partitions=len(plan.reused),
        run_dir=str(context.run_dir),
        report=report,
        quarantine=str(quarantine) if quarantine.is_dir() else "",
        engine=context.engine_name,
        load_id=receipt.load_id,
        already_published=receipt.already_published,
        corrected_rows=context.corrected,
        rules=(*outcome.rules, *check_outcomes(load_checks(context), receipt)),
        steps=context.step_outcomes,
        skipped_rules=plan.spec.skipped_rules,
        data_id=data_id(plan.source.segments),
        quality=outcome.quality,
        inputs=tuple(map(mask_secrets, context.settings.inputs)),
        files=plan.source.files,
        input_bytes=plan.source.nbytes,
        as_of=outcome.final.facts.as_of.isoformat(),
        mended=tuple(context.mended),
    )


def _table_outcomes(receipt: Receipt) -> dict[str, TableOutcome]:
    return {
        name: TableOutcome(
            rows, receipt.targets[name], asdict(receipt.changes[name]) if name in receipt.changes else {}
        )
        for name, rows in receipt.rows.items()
    }


def summarize_failure(context: RunContext, status: Status, message: str, plan: Plan | None) -> RunSummary:
    """Collect what is known of a run that did not reach its end."""
    quarantine = context.run_dir / "quarantine"
    return RunSummary(
        run_id=context.run_id,
        status=status,
        rows=context.rows or RowCounts(0, 0, 0, {}),
        tables={},
        kpis={},
        seconds=_seconds(context),
        peak_memory_bytes=context.peak_bytes,
        partitions=len(plan.refs) if plan else 0,
        reused_partitions=len(plan.reused) if plan else 0,
        run_dir=str(context.run_dir),
        report="",
        quarantine=str(quarantine) if quarantine.is_dir() else "",
        engine=context.engine_name,
        rules=context.rules,
        steps=context.step_outcomes,
        skipped_rules=plan.spec.skipped_rules if plan else (),
        data_id=data_id(plan.source.segments) if plan else "",
        inputs=tuple(map(mask_secrets, context.settings.inputs)),
        corrected_rows=context.corrected,
        files=plan.source.files if plan else 0,
        input_bytes=plan.source.nbytes if plan else 0,
        message=message,
        mended=tuple(context.mended),
    )


def _seconds(context: RunContext) -> dict[str, float]:
    stages = {name: round(value, 4) for name, value in context.seconds.items()}
    return {**stages, "total": round(context.elapsed(), 4)}


def kpi_value(value: Decimal | None, unit: str) -> str | int | float | None:
    """Write a key figure as JSON can hold it: money as exact text, counts as integers, the rest as numbers."""
    if value is None:
        return None
    if unit == "currency":
        return format_decimal(value)
    return int(value) if value == value.to_integral_value() and unit != "percent" else float(value)


def write_manifest(summary: RunSummary, context: RunContext) -> None:
    """Write manifest.json whole or not at all."""
    with replacing(context.run_dir / _MANIFEST) as temporary:
        temporary.write_text(json.dumps(summary.to_json(), indent=1, default=str))
        crash_point("report.before_manifest")


def report_data(plan: Plan, outcome: Outcome, samples: Mapping[str, Sequence[Any]], context: RunContext) -> ReportData:
    """Collect what the report shows beside the summary."""
    facts, scale = outcome.final.facts, outcome.final.facts.scale
    rows = cohort_rows(outcome.final.cells, facts.as_of, scale)
    names = CohortCell.__dataclass_fields__
    classic, rolling = _overall(rows)
    return ReportData(
        first_order=outcome.final.first_day,
        last_order=outcome.final.last_day,
        cohorts=tuple(CohortCell(**{name: row[name] for name in names}) for row in rows),
        overall_retention=classic,
        overall_rolling_retention=rolling,
        months=month_totals(outcome.final.cells, rows, scale),
        rfm=_scores(outcome),
        segments=_segments(outcome, scale),
        top_customers=_top(outcome, scale),
        samples={reason: tuple(RejectedSample(*row) for row in found) for reason, found in samples.items()},
        mask_customers=bool(plan.spec.personal),
        definitions=DEFINITIONS,
        settings=_settings_text(context),
        versions={
            "daskae": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    )


def _overall(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Retention by period over all cohorts that have it: sum of active over sum of sizes."""
    totals: dict[int, list[int]] = {}
    for row in rows:
        cell = totals.setdefault(row["period_index"], [0, 0, 0])
        for i, name in enumerate(("active_customers", "rolling_active_customers", "cohort_size")):
            cell[i] += row[name]
    cells = [totals[period] for period in sorted(totals)]
    return tuple(cell[0] / cell[2] for cell in cells), tuple(cell[1] / cell[2] for cell in cells)


def month_totals(cells: Sequence[Cell], rows: Sequence[Mapping[str, Any]], scale: int) -> tuple[MonthTotal, ...]:
    """Add up cohort cells by calendar month; months without an order are there with zeros."""
    if not cells:
        return ()
    partial = {row["cohort_month"]: row["is_partial"] for row in rows if row["period_index"] == 0}
    first, last = min(cell[1] for cell in cells), max(cell[1] for cell in cells)
    totals = {month: [0, 0, 0, 0] for month in range(first, last + 1)}
    for cohort, month, active, orders, revenue, _ in cells:
        values = (orders, active, active if cohort == month else 0, int(revenue))
        totals[month] = [known + value for known, value in zip(totals[month], values, strict=True)]
    return tuple(
        MonthTotal(
            month_start(m), v[0], v[1], v[2], units_to_decimal(v[3], scale), partial.get(month_start(m), m == last)
        )
        for m, v in totals.items()
    )


def _scores(outcome: Outcome) -> dict[str, tuple[int, ...]]:
    scores: dict[str, list[int]] = {}
    for manifest in outcome.final.step.manifests:
        for measure, counts in manifest["scores"].items():
            known = scores.setdefault(measure, [0] * 5)
            for i in range(5):
                known[i] += counts[str(i + 1)]
    return {measure: tuple(counts) for measure, counts in scores.items()}


def _segments(outcome: Outcome, scale: int) -> dict[str, SegmentTotal]:
    totals: dict[str, list[int]] = {}
    for manifest in outcome.final.step.manifests:
        for name, count, units in manifest["segments"]:
            known = totals.setdefault(name, [0, 0])
            known[0] += count
            known[1] += int(units)
    ordered = sorted(totals.items(), key=lambda item: -item[1][1])
    return {name: SegmentTotal(count, units_to_decimal(units, scale)) for name, (count, units) in ordered}


def _top(outcome: Outcome, scale: int) -> tuple[TopCustomer, ...]:
    rows = [row for manifest in outcome.final.step.manifests for row in manifest["top"]]
    best = sorted(rows, key=lambda row: (-int(row[1]), row[0]))[:10]
    return tuple(TopCustomer(customer, units_to_decimal(int(units), scale), orders) for customer, units, orders in best)


def _settings_text(context: RunContext) -> str:
    data = context.settings.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(without_secrets(data), indent=2, default=str)


DEFINITIONS = (
    (
        "Order",
        "All accepted lines that share an order id within a customer; its amount is their exact sum, its time the "
        "earliest line's.",
    ),
    ("As of", "The date of the last accepted order, unless given."),
    ("Cohort", "The calendar month of a customer's first accepted order; its size is the number of such customers."),
    ("Retention", "Customers of the cohort with an order in that very month, divided by the cohort size."),
    (
        "Rolling retention",
        "Customers of the cohort with an order in that month or any later one, divided by the cohort size.",
    ),
    ("Cumulative LTV", "Revenue of the cohort up to and including the month, divided by the cohort size."),
    (
        "Churned",
        "As of minus the date of the last order is more than the churn days set; the rate is divided by all customers.",
    ),
    ("Average order value", "Revenue divided by orders."),
    ("Average customer LTV", "Revenue times margin, divided by customers."),
    ("RFM score", "1 + floor(5 x customers with a strictly worse value / customers); equal values share a score."),
    (
        "Rejected row",
        "A row counted under the first rule it breaks; the quarantine keeps it raw, with all rules it breaks.",
    ),
)
