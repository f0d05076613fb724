"""The files that all contenders read, and the exact truth about them."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.agreement import Totals

ROOT = Path(__file__).parents[1]
SEED, EXTRA_SEED = 7, 8
EXTRA_NUMBER = 99_999


@dataclass(frozen=True)
class Dataset:
    """A folder of order files."""

    folder: Path
    rows: int
    bytes: int
    format: str
    totals: Totals
    rejected_by_rule: dict[str, int]

    @property
    def files(self) -> list[Path]:
        """The data files, in path order."""
        return sorted(self.folder.glob(f"orders-*.{self.format}"))


def generate(folder: Path, rows: int, format: str, seed: int = SEED, *, dirt: float = 0.005, files: int = 0) -> Dataset:
    """Generate order files anew in a folder of our own, and read what the generator says about them."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "jobs.generate_orders", "--rows", f"{rows}", "--out", f"{folder}", "--quiet"]
    command += ["--format", format, "--seed", f"{seed}", "--dirt", f"{dirt}"]
    subprocess.run([*command, *(["--files", f"{files}"] if files else [])], cwd=ROOT, check=True)
    truth = json.loads((folder / "_generated.json").read_text(encoding="utf-8"))
    totals = Totals(truth["customers"], truth["orders"], Decimal(truth["revenue"]))
    return Dataset(folder, truth["rows"], truth["bytes"], format, totals, truth["rejected_by_rule"])


def generate_extra(dataset: Dataset, folder: Path, *, dirt: float = 0.005) -> Dataset:
    """Generate one more file of a hundredth of the rows, of customers of the data set but with order ids of its own."""
    extra = generate(folder, max(100, dataset.rows // 100), dataset.format, EXTRA_SEED, dirt=dirt, files=1)
    (file,) = extra.files
    if extra.format == "csv":
        # At line starts only; within a quoted note the same text may change too, which changes no result.
        file.write_bytes(re.sub(rb"(?m)^O-(?=\d{9})", b"X-", file.read_bytes()))
    else:
        table = pq.read_table(file)
        renamed = pc.replace_substring_regex(table["order_id"], r"^O-", "X-")
        pq.write_table(table.set_column(table.column_names.index("order_id"), "order_id", renamed), file)
    return extra


@contextmanager
def with_extra(dataset: Dataset, extra: Dataset) -> Iterator[Dataset]:
    """Put the extra file beside the others while the context lasts."""
    (file,) = extra.files
    added = dataset.folder / f"orders-{EXTRA_NUMBER}.{dataset.format}"
    shutil.copyfile(file, added)
    orders = dataset.totals.orders + extra.totals.orders
    # Both files name customers by the same numbers, so their count is not the sum.
    totals = Totals(None, orders, dataset.totals.revenue + extra.totals.revenue)
    rejected = Counter(dataset.rejected_by_rule) + Counter(extra.rejected_by_rule)
    rows, size = dataset.rows + extra.rows, dataset.bytes + file.stat().st_size
    try:
        yield Dataset(dataset.folder, rows, size, dataset.format, totals, dict(rejected))
    finally:
        added.unlink()


def warm_cache(dataset: Dataset) -> None:
    """Read all bytes once, so that no contender reads them from the disk for the others."""
    for path in dataset.files:
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
