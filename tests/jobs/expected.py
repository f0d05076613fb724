"""Read a published SQLite result back and compare it with the answers two independent engines agree on."""

import hashlib
import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from daskae.units import format_decimal


def load_expected(path: Path, policy: str) -> dict[str, Any]:
    """Return one policy's answers."""
    document: dict[str, Any] = json.loads(path.read_text())
    answers: dict[str, Any] = document["policies"][policy]
    return answers


def money(value: object) -> Decimal:
    """Read a stored amount exactly."""
    return Decimal(str(value))


def differences(database: Path, document: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Name every place where the result is not what is expected."""
    found: list[str] = []

    def check(name: str, got: object, want: object) -> None:
        if got != want:
            found.append(f"{name}: got {got!r}, expected {want!r}")

    rows = expected["rows"]
    rejected = {name: count for name, count in rows["rejected"].items() if count}
    check("rows read", document["rows"]["read"], rows["read"])
    check("rows accepted", document["rows"]["accepted"], rows["kept"])
    check("rejected by rule", {k: v for k, v in document["rows"]["rejected_by_rule"].items() if v}, rejected)
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        customers = connection.execute("SELECT * FROM customer_metrics ORDER BY customer_id").fetchall()
        cohorts = connection.execute("SELECT * FROM cohort_metrics ORDER BY cohort_month, period_index").fetchall()
    _check_totals(check, document, customers, expected)
    _check_customers(check, customers, expected)
    _check_cohorts(check, cohorts, expected)
    return found


def _check_totals(check: Any, document: dict[str, Any], customers: list[Any], expected: dict[str, Any]) -> None:
    totals = expected["totals"]
    check("customers", len(customers), totals["customers"])
    check("orders", sum(row["order_count"] for row in customers), totals["orders"])
    check("revenue", sum(money(row["total_revenue"]) for row in customers), Decimal(totals["revenue"]))
    check("revenue kpi", document["kpis"]["revenue"], totals["revenue"])
    check("as of", document["as_of"], totals["as_of"])
    check("churned", sum(row["is_churned"] for row in customers), totals["churned"])
    check("average", abs(float(document["kpis"]["average_order_value"]) - totals["average_order_value"]) < 1e-9, True)


def _check_customers(check: Any, customers: list[Any], expected: dict[str, Any]) -> None:
    digest = hashlib.sha256()
    for row in customers:
        first, last = (str(row[name]).replace(" ", "T") for name in ("first_order_at", "last_order_at"))
        revenue = _as_listed(money(row["total_revenue"]))
        line = f"{row['customer_id']}|{row['order_count']}|{revenue}|{first}|{last}|{row['days_active']}\n"
        digest.update(line.encode())
    check("table_sha256", digest.hexdigest(), expected["table_sha256"])
    for measure, counts in expected["rfm_score_counts"].items():
        got = {str(i): sum(row[f"rfm_{measure}"] == i for row in customers) for i in range(1, 6)}
        check(f"rfm {measure}", got, {str(i): counts.get(str(i), 0) for i in range(1, 6)})
    best = sorted(customers, key=lambda row: (-money(row["total_revenue"]), row["customer_id"]))[:10]
    top = [(row["customer_id"], money(row["total_revenue"]), row["order_count"]) for row in best]
    check("top 10", top, [(r["customer_id"], Decimal(r["revenue"]), r["orders"]) for r in expected["top10"]])
    by_id = {row["customer_id"]: row for row in customers}
    for want in expected["customers"]:
        row = by_id[want["customer_id"]]
        pairs = (
            ("mean", "avg_order_value"),
            ("std", "std_order_value"),
            ("avg_days_between", "avg_days_between_orders"),
        )
        for key, column in pairs:
            same = row[column] is None if want[key] is None else abs(row[column] - want[key]) <= 1e-12 * abs(want[key])
            check(f"{want['customer_id']} {column} {row[column]} {want[key]}", same, True)


def _as_listed(value: Decimal) -> str:
    """Write a decimal as the answers do: two digits at least, more where they say something."""
    text = format_decimal(value)
    whole, _, digits = text.partition(".")
    return f"{whole}.{digits.ljust(2, '0')}"


def _check_cohorts(check: Any, cohorts: list[Any], expected: dict[str, Any]) -> None:
    columns = (
        ("retention", "active_customers", int),
        ("rolling_retention", "rolling_active_customers", int),
        ("cohort_revenue", "revenue", Decimal),
        ("cohort_cumulative_revenue", "cumulative_revenue", Decimal),
    )
    for key, column, kind in columns:
        got: dict[str, list[Any]] = {}
        for row in cohorts:
            value = money(row[column]) if kind is Decimal else row[column]
            got.setdefault(str(row["cohort_month"])[:7], []).append(value)
        check(key, got, {cohort: [kind(value) for value in values] for cohort, values in expected[key].items()})
    sizes = {str(row["cohort_month"])[:7]: row["cohort_size"] for row in cohorts}
    check("cohort sizes", sizes, expected["cohort_sizes"])
