"""The finalize task: states of a bucket, with what is now known of the whole data set, become finished rows."""

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from daskae.aggregate.aggregation import CUSTOMER, Facts
from daskae.aggregate.customer import finalize_customers
from daskae.budget import checkpoint
from daskae.errors import ExchangeError
from daskae.exchange import commit_files
from daskae.stages.spec import Spec

TOP = 10
BATCH_ROWS = 1 << 16
"""Rows of a record batch in the files of finished rows, whatever the files of states are."""


@dataclass(frozen=True)
class FinalizeTask:
    """One bucket's states."""

    states: tuple[Path, ...]
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
    totals = Totals()
    name = f"customers-{secrets.token_hex(8)}.arrow"
    tables = _finished(task.states, spec, facts, totals)
    with pa.OSFile(str(task.folder / name), "wb") as sink:
        writer = None
        for batch in _even_batches(tables):
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            writer.write_table(batch)
        if writer is not None:
            writer.close()
    return commit_files(
        task.folder, {"file": name, "rows": totals.rows, **totals.to_json()}, [name], compare=spec.checks_repeats
    )


def _finished(states: Sequence[Path], spec: Spec, facts: Facts, totals: "Totals") -> Iterator[pa.Table]:
    for path in states:
        frame = _read_states(path)
        table = finalize_customers(frame, spec.metrics, facts)
        totals.add(table, frame)
        yield table
        checkpoint()


def _read_states(path: Path) -> pl.DataFrame:
    try:
        return pl.read_ipc(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ExchangeError("an intermediate file is damaged or gone", str(path), str(error)[:200]) from error


def _even_batches(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut rows into batches of ``BATCH_ROWS``; the last one has what is left."""
    held: list[pa.Table] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= BATCH_ROWS:
            whole = pa.concat_tables(held)
            even = rows - rows % BATCH_ROWS
            for first in range(0, even, BATCH_ROWS):
                yield _canonical(whole.slice(first, BATCH_ROWS))
            held, rows = [whole.slice(even)], rows - even
    if rows:
        yield _canonical(pa.concat_tables(held))


def _canonical(table: pa.Table) -> pa.Table:
    """Copy a table so that equal values are equal bytes: bits behind the last of a bitmap may hold anything before."""
    columns = [pa.concat_arrays([*column.chunks, pa.nulls(0, column.type)]) for column in table.columns]
    return pa.table(columns, table.schema)


@dataclass
class Totals:
    """What the key figures and the report want to know of finished rows."""

    rows: int = 0
    churned: int = 0
    revenue: int = 0
    scores: dict[str, Counter[int]] = field(default_factory=dict)
    segments: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Customers and revenue."""
    top: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, table: pa.Table, states: pl.DataFrame) -> None:
        """Count some finished rows and the states that they are from."""
        wanted = ("is_churned", "rfm_recency", "rfm_frequency", "rfm_monetary", "segment")
        names = [name for name in wanted if name in table.column_names]
        frame = pl.DataFrame(pl.from_arrow(table.select(names))).with_columns(
            states[CUSTOMER], states["total"], states["orders"]
        )
        self.rows += table.num_rows
        self.churned += int(frame["is_churned"].sum()) if "is_churned" in names else 0
        self.revenue += int(frame["total"].sum())
        for measure in ("recency", "frequency", "monetary"):
            if f"rfm_{measure}" in names:
                counts = dict(frame[f"rfm_{measure}"].value_counts().iter_rows())
                self.scores.setdefault(measure, Counter()).update(counts)
        if "segment" in names:
            for name, count, total in frame.group_by("segment").agg(pl.len(), pl.col("total").sum()).iter_rows():
                before = self.segments.get(name, (0, 0))
                self.segments[name] = (before[0] + count, before[1] + int(total))
        largest = frame.sort(["total", CUSTOMER], descending=[True, False]).head(TOP)
        found = self.top + largest.select(CUSTOMER, "total", "orders").rows()
        self.top = sorted(found, key=lambda row: (-row[1], row[0]))[:TOP]

    def to_json(self) -> dict[str, Any]:
        """Return plain data; money as text, which has no largest number."""
        return {
            "churned": self.churned,
            "revenue": str(self.revenue),
            "scores": {measure: {str(i): counts[i] for i in range(1, 6)} for measure, counts in self.scores.items()},
            "segments": [[name, count, str(total)] for name, (count, total) in sorted(self.segments.items())],
            "top": [[customer, str(total), orders] for customer, total, orders in self.top],
        }
