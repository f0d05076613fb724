"""A shop that never was: a summary and report data of any size, the same for the same arguments."""

import math
import random
from datetime import date
from decimal import Decimal

from daskae.report.data import (
    CohortCell,
    MonthTotal,
    RejectedSample,
    ReportData,
    SegmentTotal,
    TopCustomer,
)
from daskae.summary import RowCounts, RuleOutcome, RunSummary, TableOutcome

REJECTED = {"customer_id is missing": 135_080, "quantity is positive": 8_905, "order_date is readable": 38, "price": 2}

NO_CUSTOMER = "536414,22139,,56,2010-12-01 11:52:00,0.0,,United Kingdom"


def month_after(first: date, months: int) -> date:
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    return date(year, month + 1, 1)


def make_summary(**changes: object) -> RunSummary:
    fields: dict[str, object] = {
        "run_id": "20260131-120000-3f9a",
        "status": "done",
        "rows": RowCounts(541_909, 397_884, 144_025, dict(REJECTED)),
        "tables": {
            "customer_metrics": TableOutcome(4_338, "metrics.db: customer_metrics"),
            "cohort_metrics": TableOutcome(91, "metrics.db: cohort_metrics"),
            "kpis": TableOutcome(7, "metrics.db: kpis"),
        },
        "kpis": {
            "customers": 4_338,
            "orders": 18_532,
            "revenue": "8911407.904",
            "average_order_value": 480.8659,
            "average_customer_ltv": "2054.27",
            "churn_rate_percentage": 1.4753,
        },
        "seconds": {
            "discover": 0.04,
            "plan": 0.11,
            "map": 8.1,
            "reduce": 2.2,
            "gate": 0.01,
            "publish": 1.1,
            "total": 11.6,
        },
        "peak_memory_bytes": 536_870_912,
        "partitions": 48,
        "reused_partitions": 12,
        "run_dir": "/data/shop/runs/20260131-120000-3f9a",
        "report": "/data/shop/runs/20260131-120000-3f9a/report.html",
        "quarantine": "/data/shop/runs/20260131-120000-3f9a/quarantine",
        "engine": "dask, 4 workers with 2.0 GiB each",
        "load_id": "9c1f2ab07d",
        "rules": (
            RuleOutcome("quantity is positive", "error", True, 541_909, 10_624, "10,624 of 541,909 rows break it"),
            RuleOutcome("channel is known", "info", True, 397_884, 0, "every row holds"),
            RuleOutcome("orders are fresh", "warning", False, 397_884, 1, "the newest order is 12 days old, 7 allowed"),
        ),
        "inputs": ("orders/",),
        "files": 305,
        "input_bytes": 47_000_000,
        "as_of": "2011-12-09",
    }
    return RunSummary(**(fields | changes))  # type: ignore[arg-type]


def make_data(cohorts: int = 24, **changes: object) -> ReportData:
    """Return a shop with one cohort a month, followed until the last of them."""
    chance = random.Random(cohorts)
    first = month_after(date(2011, 12, 1), 1 - cohorts)
    cells = [
        cell for number in range(cohorts) for cell in _cohort(month_after(first, number), cohorts - number, chance)
    ]
    fields: dict[str, object] = {
        "first_order": first,
        "last_order": date(2011, 12, 9),
        "currency": "GBP",
        "cohorts": tuple(cells),
        "overall_retention": _overall(cells, cohorts, rolling=False),
        "overall_rolling_retention": _overall(cells, cohorts, rolling=True),
        "months": _months(cells, first, cohorts),
        "rfm": {"recency": (861, 873, 868, 867, 869), "frequency": (1493, 0, 1318, 671, 856), "monetary": (867,) * 5},
        "segments": {
            "champions": SegmentTotal(962, Decimal("5883120.44")),
            "loyal": SegmentTotal(811, Decimal("1402300.10")),
            "promising": SegmentTotal(540, Decimal("310222.00")),
            "at risk": SegmentTotal(705, Decimal("830115.204")),
            "asleep": SegmentTotal(1320, Decimal("485650.16")),
        },
        "top_customers": tuple(
            TopCustomer(str(14646 + 731 * rank), Decimal(280206 - 23000 * rank + rank * rank * 810), 74 - 5 * rank)
            for rank in range(10)
        ),
        "samples": {
            "customer_id is missing": tuple(
                RejectedSample(f"orders/2010-12-0{day}.csv", 622 + 90 * day, NO_CUSTOMER) for day in range(1, 6)
            ),
            "order_date is readable": (RejectedSample("orders/2011-02-03.csv", 17, '541431,"CERAMIC, JAR",n/a,1.04'),),
        },
        "definitions": (
            ("order", "All kept lines that share an order id within a customer; its amount is their exact sum."),
            ("average order value", "Revenue divided by orders."),
            (
                "churn rate",
                "Customers without an order in the 365 days before the as-of date, divided by all customers.",
            ),
            ("retention", "Customers of the cohort with an order in that month, divided by the size of the cohort."),
            ("rolling retention", "Customers with an order in that month or later, divided by the size of the cohort."),
            ("cumulative LTV", "Revenue of the cohort up to that month, divided by the size of the cohort."),
        ),
        "settings": '[columns]\norder_id = "InvoiceNo"\namount = "Quantity * UnitPrice"\n\n[target]\nurl = "db://***@host/shop"',
        "versions": {"daskae": "0.1.0", "python": "3.12.4", "polars": "2.1.0", "pyarrow": "26.0.0"},
    }
    return ReportData(**(fields | changes))  # type: ignore[arg-type]


def _cohort(month: date, periods: int, chance: random.Random) -> list[CohortCell]:
    size = int(chance.uniform(60, 420) * (1.8 if month.month in (11, 12) else 1))
    level, decay = chance.uniform(0.2, 0.38), chance.uniform(0.25, 0.45)
    shares = [1.0]
    for period in range(1, periods):
        season = 1.35 if month_after(month, period).month in (10, 11) else 1.0
        shares.append(min(1.0, level * period**-decay * season * chance.uniform(0.85, 1.15)))
    active = [round(size * share) for share in shares]
    if periods > 1:
        active[-1] = round(active[-1] * 0.4)  # the last month has nine days
    cells, total = [], Decimal(0)
    for period in range(periods):
        revenue = Decimal(round(active[period] * chance.uniform(300, 520) * 100)) / 100
        total += revenue
        rolling = max(active[period:]) * (1 + 1.2 * (1 - math.exp(-(periods - 1 - period) / 5))) if period else size
        cells.append(
            CohortCell(
                month,
                period,
                size,
                active[period],
                active[period] / size,
                min(1.0, rolling / size),
                revenue,
                total,
                float(total) / size,
                period == periods - 1,
            )
        )
    return cells


def _overall(cells: list[CohortCell], periods: int, *, rolling: bool) -> tuple[float, ...]:
    rates = []
    for period in range(periods):
        known = [cell for cell in cells if cell.period_index == period]
        active = sum((cell.rolling_retention if rolling else cell.retention) * cell.cohort_size for cell in known)
        rates.append(active / sum(cell.cohort_size for cell in known))
    return tuple(rates)


def _months(cells: list[CohortCell], first: date, months: int) -> tuple[MonthTotal, ...]:
    totals = []
    for number in range(months):
        month = month_after(first, number)
        here = [cell for cell in cells if month_after(cell.cohort_month, cell.period_index) == month]
        active = sum(cell.active_customers for cell in here)
        new = sum(cell.active_customers for cell in here if cell.period_index == 0)
        revenue = sum((cell.revenue for cell in here), Decimal(0))
        totals.append(MonthTotal(month, active + active // 3, active, new, revenue, number == months - 1))
    return tuple(totals)
