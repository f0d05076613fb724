"""The job in dask.dataframe: a file a partition, two shuffles, on worker processes of one thread each.

The work on one partition is that of the pandas peer. A file is read whole, since ``blocksize`` cuts at any line end,
also within quotes. Only ids and places are shuffled to find duplicates, and the three columns that the metrics need to
group by customer. There is no rank in dask.dataframe: customers are collected and ranked in pandas.
"""

from __future__ import annotations

from pathlib import Path

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster

from benchmarks.peers import pandas as local
from benchmarks.peers.interface import COLUMNS, Result, Task, main

NOTES = local.NOTES
FILE_SHIFT = 40


def parse(path: Path, number: int) -> pd.DataFrame:
    """Read and check one file."""
    return judge(*(local.read_csv(path) if path.suffix == ".csv" else local.read_parquet(path)), number)


def judge(rows: pd.DataFrame, skipped: pd.DataFrame, number: int) -> pd.DataFrame:
    """Check the rows of one file, and number them over all files; rows that passed have no rule."""
    typed, broken = local.check(rows)
    failed = broken.any(axis=1)
    rejected = local.with_reasons(rows[failed], broken[failed])
    parsed = rows.join(typed[["ordered_at", "units"]]).join(rejected[["rule", "reasons"]])
    lost = skipped.assign(rule="wrong_field_count", reasons="wrong_field_count")
    parsed = pd.concat([parsed, lost], ignore_index=True)
    place = np.arange(len(parsed)) + (number << FILE_SHIFT)
    # Reasons as text: workers exchange columns of text cheaply, and of lists not.
    reasons = parsed["reasons"].map(lambda found: " ".join(found) if isinstance(found, list) else found)
    return parsed.assign(place=place, reasons=reasons.astype("str"), rule=parsed["rule"].astype("str"))


def repeated(ids: pd.DataFrame) -> pd.DataFrame:
    """Keep the ids that come more than once."""
    return ids[ids["order_id"].duplicated(keep=False)]


def find_duplicates(parsed: dd.DataFrame, passed: dd.DataFrame) -> pd.DataFrame:
    """Give the rows that repeat an earlier one; their number is small."""
    places = passed[["order_id", "place"]].shuffle("order_id").map_partitions(repeated)["place"].compute()
    rows = parsed[parsed["place"].isin(places.tolist())].compute()
    found = local.find_duplicates(rows.drop(columns=["rule", "reasons"]).sort_values("place"))
    return found.assign(reasons=found["reasons"].map(" ".join))


def count_active(kept: pd.DataFrame) -> pd.DataFrame:
    """Count the cells of the cohorts of the customers in one partition, which has all their orders."""
    return local.count_active(kept, local.month(kept.groupby("customer_id")["ordered_at"].min())).reset_index()


def aggregate(kept: dd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring the orders of a customer together, once for both tables."""
    together = kept[["customer_id", "ordered_at", "units"]].astype({"units": "int64"}).shuffle("customer_id")
    grouped, active = dask.compute(together.map_partitions(local.group_orders), together.map_partitions(count_active))
    return grouped.reset_index(drop=True), active.groupby(["cohort", "period_index"]).sum()


def process(task: Task) -> Result:
    """Do the job on the current cluster."""
    nothing = judge(pd.DataFrame(columns=[*COLUMNS, "file"], dtype="str"), pd.DataFrame({"file": [], "line": []}), 0)
    parsed = dd.from_map(parse, task.files, range(len(task.files)), meta=nothing, enforce_metadata=False).persist()
    passed = parsed[parsed["rule"].isna()]
    duplicates = find_duplicates(parsed, passed)
    places = duplicates["place"].to_numpy()
    kept = passed.map_partitions(lambda part, drop: part[~part["place"].isin(drop)], places)
    grouped, active = aggregate(kept)
    rejected = pd.concat([parsed[~parsed["rule"].isna()].compute(), duplicates])
    rejected.to_parquet(task.part("rejected"), index=False)
    local.customer_metrics(grouped).to_parquet(task.part("customer_metrics"), index=False)
    local.cohort_metrics(active, grouped).to_parquet(task.part("cohort_metrics"), index=False)
    accepted = int(grouped["order_count"].sum())
    return Result(f"dask {dask.__version__}", accepted, local.count_rules(rejected), NOTES if task.is_csv else ())


def run(task: Task) -> Result:
    """Do the job on a local cluster of as many workers as there are processors."""
    with (
        LocalCluster(n_workers=task.cpus, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        return process(task)


if __name__ == "__main__":
    main(run)
