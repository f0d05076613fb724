"""The finalize task: states of a bucket, with what is now known of the whole data set, become finished rows."""

import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from daskae.aggregate.aggregation import CUSTOMER, Facts
from daskae.aggregate.customer import finalize_customers
from daskae.exchange import commit_files
from daskae.stages.spec import Spec

TOP = 10


@dataclass(frozen=True)
class FinalizeTask:
    """One bucket's states."""

    states: Path
    folder: Path


def finalize_bucket(task: FinalizeTask, spec: Spec, facts: Facts) -> dict[str, Any]:
    """Write the finished rows of a bucket, in its order.

    Returns
    -------
    dict
        The manifest: ``file``, ``rows``, and small totals for key figures and the report: ``churned``, ``revenue``
        (units,
        text), ``scores`` (by measure), ``segments`` ([customers, revenue units]), ``top`` ([id, revenue units,
        orders]).
    """
    task.folder.mkdir(parents=True, exist_ok=True)
    states = pl.read_ipc(task.states)
    table = _canonical(finalize_customers(states, spec.metrics, facts))
    name = f"customers-{secrets.token_hex(8)}.arrow"
    with pa.OSFile(str(task.folder / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    manifest = {"file": name, "rows": table.num_rows, **_totals(table, states)}
    return commit_files(task.folder, manifest, [name])


def _canonical(table: pa.Table) -> pa.Table:
    """Copy a table so that equal values are equal bytes: bits behind the last of a bitmap may hold anything before."""
    columns = [pa.concat_arrays([*column.chunks, pa.nulls(0, column.type)]) for column in table.columns]
    return pa.table(columns, table.schema)


def _totals(table: pa.Table, states: pl.DataFrame) -> dict[str, Any]:
    names = [
        name
        for name in ("is_churned", "rfm_recency", "rfm_frequency", "rfm_monetary", "segment")
        if name in table.column_names
    ]
    frame = pl.DataFrame(pl.from_arrow(table.select(names))).with_columns(
        states[CUSTOMER], states["total"], states["orders"]
    )
    top = frame.sort(["total", CUSTOMER], descending=[True, False]).head(TOP)
    scores: dict[str, dict[str, int]] = {}
    for measure in ("recency", "frequency", "monetary"):
        if f"rfm_{measure}" in names:
            counts = Counter(dict(frame[f"rfm_{measure}"].value_counts().iter_rows()))
            scores[measure] = {str(i): counts.get(i, 0) for i in range(1, 6)}
    segments = []
    if "segment" in names:
        segments = frame.group_by("segment").agg(pl.len(), pl.col("total").sum()).sort("segment").rows()
    return {
        "churned": int(frame["is_churned"].sum()) if "is_churned" in names else 0,
        "revenue": str(frame["total"].sum()),
        "scores": scores,
        "segments": [[name, count, str(total)] for name, count, total in segments],
        "top": [
            [customer, str(total), orders]
            for customer, total, orders in top.select(CUSTOMER, "total", "orders").iter_rows()
        ],
    }
