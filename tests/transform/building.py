"""Steps and tables for the tests of transformations."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from daskae.config import ColumnSettings, StepSettings
from daskae.schema import build_contract
from daskae.transform.apply import Mark, Runner
from daskae.transform.build import build_steps
from daskae.transform.conditions import DataSetFacts
from daskae.transform.fold import Surroundings
from daskae.transform.ready import Steps
from daskae.transform.steps import Step, steps_from

SOURCES = ("c", "d", "a", "q", "note", "email")
COLUMNS: dict[str, str | ColumnSettings] = {
    "customer_id": "c", "order_date": "d", "amount": "a", "quantity": "q",
    "channel": ColumnSettings(column="note", dtype="text"), "items": ColumnSettings(column="q", dtype="integer"),
    "weight": ColumnSettings(column="q", dtype="float"),
}  # fmt: skip
MONEY = pl.Decimal(38, 2)
NO_PARTITION = {"partition_bytes": 10, "partition_files": 1}


def around(place: Path = Path("nowhere")) -> Surroundings:
    """A contract with every type, and facts of a small data set."""
    contract = build_contract(COLUMNS, SOURCES, scale=2)
    return Surroundings(contract, SOURCES, SOURCES, DataSetFacts(1000, 3, 2), lambda key: place / key)


def built(*given: dict[str, Any] | Step, place: Path = Path("nowhere"), taken: Sequence[str] = ()) -> Steps:
    """Build steps as people write them."""
    steps = [item if isinstance(item, Step) else steps_from([StepSettings(**item)])[0] for item in given]
    return build_steps(steps, around(place), taken)


def orders(**values: Sequence[Any]) -> pl.DataFrame:
    """Rows as steps find them, good but for the values given."""
    rows = max((len(item) for item in values.values()), default=1)
    schema = {
        "customer_id": pl.String(), "order_date": pl.Datetime("us"), "amount": MONEY, "quantity": MONEY,
        "channel": pl.String(), "items": pl.Int64(), "weight": pl.Float64(), "email": pl.String(),
    }  # fmt: skip
    good: dict[str, Sequence[Any]] = {
        "customer_id": ["c1"] * rows, "order_date": ["2024-01-02 03:04:05"] * rows, "amount": [Decimal("1.50")] * rows,
        "quantity": [Decimal(1)] * rows, "channel": ["web"] * rows, "items": [1] * rows, "weight": [0.5] * rows,
        "email": ["a@b.example"] * rows,
    }  # fmt: skip
    columns = {**good, **values}
    dates = pl.Series(columns["order_date"], dtype=pl.String).str.to_datetime(time_unit="us")
    data = {name: dates if name == "order_date" else pl.Series(item, dtype=schema[name], strict=False)
            for name, item in columns.items()}  # fmt: skip
    sources = [pl.lit("raw").alias(name) for name in SOURCES if name not in data]
    return pl.DataFrame(data).with_columns(sources)


def applied(table: pl.DataFrame, *given: dict[str, Any] | Step) -> tuple[pl.DataFrame, list[Mark], Runner]:
    """Run steps that need no file on a table."""
    steps = built(*given)
    runner = Runner(NO_PARTITION, lambda lookup: pl.DataFrame())
    left, marks = runner.run(steps.in_tasks, table)
    return left, marks, runner


def after(table: pl.DataFrame, **step: Any) -> pl.DataFrame:
    """Run one step that rejects nothing."""
    left, marks, _ = applied(table, step)
    assert marks == []
    return left
