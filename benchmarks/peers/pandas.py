"""The job in pandas: one frame of text, vectorised checks, grouped integers.

Read with the C engine: the pyarrow engine is faster, but stops at bytes that are not UTF-8 and does not promise to keep
quoted line ends whole.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.peers.interface import AMOUNT, CHURN_DAYS, COLUMNS, DATE_FORMAT, QUANTITY, RULES, Result, Task, main

NOTES = (
    "takes a row that lacks only trailing text fields for whole: the reader fills it with empty texts",
    'takes "abc"def for abcdef',
    "of a row with too many fields only the line number is kept",
)
SCALE = 10_000


def read_csv(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read one file as text; give its rows, and the places of rows with too many fields, which the reader drops."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = pd.read_csv(
            path,
            names=list(COLUMNS),
            header=0,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            encoding_errors="replace",
            on_bad_lines="warn",
        )
    skipped = [int(line) for warning in caught for line in re.findall(r"Skipping line (\d+)", str(warning.message))]
    return rows.assign(file=path.name), pd.DataFrame({"file": path.name, "line": skipped})


def read_parquet(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read one Parquet file; its rows are always whole."""
    rows = pd.read_parquet(path, columns=list(COLUMNS))
    return rows.assign(file=path.name), pd.DataFrame({"file": [], "line": []})


def exactly(text: pd.Series[str], pattern: str, dtype: pa.DataType) -> pd.Series[Any]:
    """Cast the texts that match, and leave the others missing."""
    return text.where(text.str.fullmatch(pattern).fillna(False)).astype(pd.ArrowDtype(dtype))


def units(amount: pd.Series[str]) -> pd.Series[Any]:
    """Read amounts as whole ten-thousandths, which sum exactly and fast."""
    value = pa.array(exactly(amount, AMOUNT, pa.decimal128(18, 4)))
    return pd.Series(pc.multiply(value, pa.scalar(SCALE)).cast(pa.int64()), amount.index, pd.ArrowDtype(pa.int64()))


def money(amount: pd.Series[Any]) -> pd.Series[Any]:
    """Turn whole ten-thousandths into decimals."""
    exact = pc.multiply(pa.array(amount).cast(pa.decimal128(19, 0)), pa.scalar(Decimal("0.0001")))
    return pd.Series(exact.cast(pa.decimal128(38, 4)), amount.index, pd.ArrowDtype(pa.decimal128(38, 4)))


def check(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the typed columns of all rows, and a column of yes and no for every row rule."""
    typed = pd.DataFrame(
        {
            "ordered_at": pd.to_datetime(rows["order_date"], format=DATE_FORMAT, errors="coerce"),
            "units": units(rows["amount"]),
            "pieces": exactly(rows["quantity"], QUANTITY, pa.int64()),
        }
    )
    unreadable = [rows[column].str.contains("\ufffd", regex=False).fillna(False) for column in COLUMNS]
    broken = pd.DataFrame(
        {
            "invalid_encoding": np.logical_or.reduce(unreadable),
            "repeated_header": (rows["order_id"] == "order_id") & (rows["customer_id"] == "customer_id"),
            "missing_customer_id": rows["customer_id"].fillna("").str.strip() == "",
            "unparsable_date": typed["ordered_at"].isna(),
            "unparsable_number": typed["units"].isna() | typed["pieces"].isna(),
            "non_positive_quantity": (typed["pieces"] < 1).fillna(False),
        },
        dtype=bool,
    )
    return typed, broken


def with_reasons(rows: pd.DataFrame, broken: pd.DataFrame) -> pd.DataFrame:
    """Add the names of all rules that rows break, and the first of them, which counts."""
    names = np.array(broken.columns)
    reasons = pd.Series([list(names[flags]) for flags in broken.to_numpy()], rows.index, "object")
    return rows.assign(rule=reasons.str[0], reasons=reasons)


def find_duplicates(rows: pd.DataFrame) -> pd.DataFrame:
    """Give the rows that repeat the order id of an earlier one; few do, so only their other fields are compared."""
    repeated = rows[rows["order_id"].duplicated(keep=False)]
    broken = pd.DataFrame(
        {
            "exact_duplicate": repeated.duplicated(list(COLUMNS)),
            "duplicate_order_id": repeated.duplicated("order_id"),
        }
    )
    later = broken["duplicate_order_id"]
    return with_reasons(repeated[later], broken[later])


def group_orders(kept: pd.DataFrame) -> pd.DataFrame:
    """Aggregate orders to one row a customer."""
    amounts = kept.assign(amount=kept["units"] / SCALE).groupby("customer_id", sort=False)
    return amounts.agg(
        order_count=("units", "size"),
        units=("units", "sum"),
        std_order_value=("amount", "std"),
        first_order_at=("ordered_at", "min"),
        last_order_at=("ordered_at", "max"),
    ).reset_index()


def month(moment: pd.Series[Any]) -> pd.Series[Any]:
    """Number the months, so that their difference is whole calendar months."""
    number: pd.Series[Any] = moment.dt.year * 12 + moment.dt.month - 1
    return number


def month_start(number: pd.Series[Any]) -> pd.Series[Any]:
    """Give the first day of a numbered month."""
    return pd.Series((number.to_numpy() - 1970 * 12).astype("datetime64[M]"), number.index).astype("date32[pyarrow]")


def customer_metrics(grouped: pd.DataFrame) -> pd.DataFrame:
    """Derive the metrics of customers, and rank them."""
    count, last = grouped["order_count"], grouped["last_order_at"].dt.normalize()
    days, idle = (last - grouped["first_order_at"].dt.normalize()).dt.days, (last.max() - last).dt.days

    def score(value: pd.Series[Any]) -> pd.Series[Any]:
        return 1 + 5 * (value.rank(method="min").astype("int64") - 1) // len(value)

    return grouped.drop(columns="units").assign(
        total_revenue=money(grouped["units"]),
        avg_order_value=grouped["units"] / SCALE / count,
        days_active=days,
        avg_days_between_orders=days / (count - 1).where(count > 1),
        days_since_last_order=idle,
        is_churned=idle > CHURN_DAYS,
        cohort_month=month_start(month(grouped["first_order_at"])),
        realized_ltv=money(grouped["units"]),
        rfm_recency=score(last),
        rfm_frequency=score(count),
        rfm_monetary=score(grouped["units"]),
    )


def count_active(kept: pd.DataFrame, cohorts: pd.Series[Any]) -> pd.DataFrame:
    """Sum up the orders of each cohort and period; ``cohorts`` maps customers to the number of their first month."""
    cohort = kept["customer_id"].map(cohorts)
    monthly = kept.assign(cohort=cohort, period_index=month(kept["ordered_at"]) - cohort)
    monthly = monthly.groupby(["cohort", "period_index", "customer_id"], sort=False)["units"].sum().reset_index()
    return monthly.groupby(["cohort", "period_index"]).agg(active=("units", "size"), units=("units", "sum"))


def cohort_metrics(active: pd.DataFrame, grouped: pd.DataFrame) -> pd.DataFrame:
    """Give every cohort its cells, from its first month to the last month of the data."""
    first, last = month(grouped["first_order_at"]), month(grouped["last_order_at"])
    sizes, end = first.value_counts().sort_index(), last.max()
    cells = [(cohort, period) for cohort in sizes.index for period in range(end - cohort + 1)]
    index = pd.MultiIndex.from_tuples(cells, names=["cohort", "period_index"])
    filled = active.reindex(index, fill_value=0)
    leaving = pd.MultiIndex.from_arrays([first, last - first]).value_counts().reindex(index, fill_value=0)
    size = sizes.reindex(index, level="cohort")
    table = pd.DataFrame(
        {
            "cohort_size": size,
            "active_customers": filled["active"],
            "retention": filled["active"] / size,
            "rolling_active_customers": leaving[::-1].groupby(level="cohort").cumsum(),
            "revenue": money(filled["units"]),
            "cumulative_revenue": money(filled.groupby(level="cohort")["units"].cumsum()),
        }
    ).reset_index()
    table.insert(0, "cohort_month", month_start(table.pop("cohort")))
    return table


def count_rules(rejected: pd.DataFrame) -> Mapping[str, int]:
    """Count the rejected rows under the first rule each breaks."""
    counted = rejected["rule"].value_counts()
    return {name: int(counted[name]) for name in RULES if name in counted}


def run(task: Task) -> Result:
    """Do the job."""
    read = [read_csv(path) if task.is_csv else read_parquet(path) for path in task.files]
    rows = pd.concat([part for part, _ in read], ignore_index=True)
    skipped = pd.concat([part for _, part in read], ignore_index=True)
    typed, broken = check(rows)
    failed = broken.any(axis=1)
    duplicates = find_duplicates(rows[~failed])
    too_long = with_reasons(skipped, pd.DataFrame({"wrong_field_count": True}, index=skipped.index))
    rejected = pd.concat([with_reasons(rows[failed], broken[failed]), too_long, duplicates])
    rejected.to_parquet(task.part("rejected"), index=False)

    kept = typed[~failed].join(rows["customer_id"]).drop(index=duplicates.index)
    grouped = group_orders(kept.astype({"units": "int64"}))
    customer_metrics(grouped).to_parquet(task.part("customer_metrics"), index=False)
    active = count_active(kept.astype({"units": "int64"}), month(grouped.set_index("customer_id")["first_order_at"]))
    cohort_metrics(active, grouped).to_parquet(task.part("cohort_metrics"), index=False)
    return Result(f"pandas {pd.__version__}", len(kept), count_rules(rejected), NOTES if task.is_csv else ())


if __name__ == "__main__":
    main(run)
