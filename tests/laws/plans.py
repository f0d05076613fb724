"""Random plans: inputs of many shapes, sizes and kinds of dirt, with settings that fit them or do not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tests.support import EXACT_DUPLICATE, REPEATED_ORDER, write_settings

_RULES: list[dict[str, Any]] = [
    EXACT_DUPLICATE,
    REPEATED_ORDER,
    {"rule": "range", "name": "small", "column": "amount", "max": 60},
    {"rule": "unique", "name": "one_a_day", "columns": ["customer_id", "order_date"], "on_failure": "warn"},
]
_MOST_TEXT = 12 << 20


@dataclass(frozen=True)
class RandomPlan:
    """One command."""

    argv: list[str]
    limit: int
    shape: str
    """For who reads of a failure."""


def random_plan(seed: int, folder: Path) -> RandomPlan:
    """Write an input and settings, and return the command over them."""
    draw = np.random.default_rng(seed)
    columns, width = int(draw.choice([0, 1, 4, 20])), int(draw.choice([0, 5, 50, 400]))
    text = int(_MOST_TEXT * 10 ** -draw.uniform(0, 1.5))
    rows = max(50, text // (40 + columns * (width + 1)))
    kind, files = str(draw.choice(["csv", "csv.gz", "parquet"])), int(draw.integers(1, 5))
    customers = int(draw.choice([1, 50, max(2, rows // 20), rows]))
    bad, repeated = float(draw.choice([0, 0.01, 0.5, 1])), float(draw.choice([0, 0.05, 0.9]))
    rules = [rule for rule in _RULES if draw.random() < 0.5]
    block, workers = int(2 ** draw.uniform(16, 24)), int(draw.integers(1, 3))
    limit = int(draw.uniform(workers * 150e6 + 120e6, workers * 300e6 + 200e6))
    _write(folder / "in", _orders(draw, rows, columns, width, customers, bad, repeated), kind, files)
    config = write_settings(folder / "rules.toml", *rules)
    argv = [str(folder / "in"), "--config", str(config), "--to", f"{folder}/out/", "--work-dir", f"{folder}/work"]
    argv += ["--cluster", "inline", "--workers", str(workers), "--block-size", str(block)]
    argv += ["--memory-limit", str(limit), "--quiet", "--json"]
    shape = f"seed {seed}: {rows} rows as {files} {kind}, {columns} notes of {width}, {customers} customers, "
    shape += f"{bad:.0%} bad, {repeated:.0%} repeated, {len(rules)} rules, blocks of {block}, {workers} at once"
    return RandomPlan(argv, limit, shape)


def _orders(
    draw: np.random.Generator, rows: int, columns: int, width: int, customers: int, bad: float, repeated: float
) -> pl.DataFrame:
    """Return orders as text; those that are repeated are some of the first hundred."""
    number = np.arange(rows)
    number = np.where(draw.random(rows) < repeated, number % 100, number)
    day = pl.Series(np.datetime64("2022-01-01") + (number % 900).astype("timedelta64[D]")).cast(pl.String)
    day = day.zip_with(pl.Series(number % 1000 >= 1000 * bad), pl.repeat("tomorrow", rows, eager=True))
    texts = {
        "order_id": pl.Series(number).cast(pl.String),
        "customer_id": "C" + pl.Series(number * 7919 % customers).cast(pl.String),
        "order_date": day,
        "amount": pl.Series(number % 90).cast(pl.String) + ".25",
    }
    notes = {f"note_{i}": pl.Series(number % 1000).cast(pl.String).str.pad_end(width, "n") for i in range(columns)}
    return pl.DataFrame({**texts, **notes})


def _write(folder: Path, orders: pl.DataFrame, kind: str, files: int) -> None:
    folder.mkdir(parents=True)
    step = -(-orders.height // files)
    for i, piece in enumerate(orders.iter_slices(step)):
        path = folder / f"orders-{i}.{kind}"
        if kind == "parquet":
            piece.write_parquet(path, row_group_size=max(1, step // 2))
        else:
            piece.write_csv(path, compression="gzip" if kind == "csv.gz" else "uncompressed")
