"""Loads for the tests: tables cut into Arrow IPC files, and small ways to look into a target."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daskae.load.base import METADATA_COLUMNS, Load, Strategy, TableParts
from daskae.load.totals import column_totals

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
LOADED_AT = datetime(2026, 3, 1, 12, 30)
MONEY = pa.decimal128(38, 4)

Tables = Mapping[str, tuple[Sequence[str], pa.Table]]


def write_parts(folder: Path, name: str, keys: Sequence[str], table: pa.Table, cuts: Iterable[int] = ()) -> TableParts:
    """Write a table as IPC files, cut before the given rows."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for start, stop in pairwise([0, *sorted(cuts), table.num_rows]):
        path = folder / f"{len(files):03d}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.slice(start, stop - start))
        files.append(path)
    parts = TableParts(name, tuple(keys), table.schema, tuple(files), table.num_rows)
    return replace(parts, totals=column_totals(parts))


def build_load(folder: Path, load_id: str, tables: Tables, strategy: Strategy = "replace") -> Load:
    """Write all tables of a load below ``folder``."""
    parts = [
        write_parts(folder / load_id / str(number), name, keys, table)
        for number, (name, (keys, table)) in enumerate(tables.items())
    ]
    return Load(load_id, f"run of {load_id[:1]}", strategy, 1000, LOADED_AT, tuple(parts))


def one_table(folder: Path, table: pa.Table, keys: Sequence[str] = (), name: str = "t", load_id: str = A) -> Load:
    """Write a load of a single table."""
    return build_load(folder, load_id, {name: (keys, table)})


def shop(name: str, customers: int = 3) -> Tables:
    """Two tables of one shop: as many customers as wanted, and one row that sums them up. All rows carry the name."""
    ids = [f"C{number}" for number in range(customers)]
    spent = [Decimal(number) / 4 for number in range(customers)]
    names = pa.array([name] * customers, pa.string())
    metrics = pa.table({"customer_id": pa.array(ids, pa.string()), "spent": pa.array(spent, MONEY), "shop": names})
    kpis = pa.table({"metric": ["customers"], "value": pa.array([customers], pa.int64()), "shop": [name]})
    return {"customer_metrics": (("customer_id",), metrics), "kpis": (("metric",), kpis)}


def query(path: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a database file, as a user would."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql, values).fetchall()


def read_folder(table: Path) -> pa.Table:
    """Read a table from its folder of Parquet files, in order of their names."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(table.glob("*.parquet")))


def content(table: pa.Table) -> list[dict[str, Any]]:
    """Rows without the metadata columns."""
    rows: list[dict[str, Any]] = table.drop_columns(list(METADATA_COLUMNS)).to_pylist()
    return rows
