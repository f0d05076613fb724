"""Real data sets against answers that two independent engines agree on."""

import gzip
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from tests.support import EXACT_DUPLICATE, call_main, data_folder, write_settings

from .expected import differences, load_expected

RETAIL_COLUMNS: dict[str, Any] = {
    "order_id": "InvoiceNo",
    "customer_id": "REPLACE(CustomerID, '.0', '')",
    "order_date": {"column": "InvoiceDate", "format": "%Y-%m-%d %H:%M:%S"},
    "amount": "Quantity * UnitPrice",
    "quantity": "Quantity",
    "price": "UnitPrice",
}
POSITIVE = [
    {"rule": "expression", "name": "non_positive_quantity", "expression": "quantity > 0"},
    {"rule": "expression", "name": "non_positive_price", "expression": "price > 0"},
]
POLICIES = {"purchases": POSITIVE, "purchases_dedup": [*POSITIVE, EXACT_DUPLICATE]}
LOG_COLUMNS = ["customer_id", "sample_id", "order_date", "quantity", "amount"]
LOG_POLICIES = {
    "all_rows": [],
    "positive": [POSITIVE[0], {**POSITIVE[1], "expression": "amount > 0"}],
}


@pytest.fixture(scope="module")
def retail() -> Path:
    return data_folder() / "online_retail"


@pytest.fixture(scope="module")
def one_file(retail: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows as one CSV file, in path order, under the first file's header."""
    path = tmp_path_factory.mktemp("one") / "retail.csv"
    with path.open("wb") as file:
        for i, part in enumerate(sorted(retail.glob("*.csv"))):
            header, end, rows = part.read_bytes().partition(b"\n")
            file.write((header + end if i == 0 else b"") + rows)
    return path


def run_policy(inputs: Path, policy: str, folder: Path, *argv: str) -> list[str]:
    """Run one policy and return the differences from the answers."""
    config = write_settings(folder / "settings.toml", *POLICIES[policy], columns=RETAIL_COLUMNS)
    return compare(inputs, "online_retail.expected.json", policy, config, folder, argv)


def compare(inputs: Path, answers: str, policy: str, config: Path, folder: Path, argv: Sequence[str] = ()) -> list[str]:
    database = folder / "metrics.db"
    places = ["--config", str(config), "--to", f"sqlite:///{database}", "--work-dir", str(folder / "work")]
    code, text = call_main([str(inputs), *places, "--cluster", "inline", "--quiet", "--json", *argv])
    assert code == 0
    found = differences(database, json.loads(text), load_expected(data_folder() / answers, policy))
    shutil.rmtree(folder / "work")
    return found


@pytest.mark.parametrize("size", ["64MiB", pytest.param("100KB", marks=pytest.mark.slow)])
@pytest.mark.parametrize("policy", ["purchases", pytest.param("purchases_dedup", marks=pytest.mark.slow)])
def test_daily_files(policy: str, size: str, retail: Path, tmp_path: Path) -> None:
    assert run_policy(retail, policy, tmp_path, "--block-size", size) == []


@pytest.mark.parametrize("size", [pytest.param("64MiB", marks=pytest.mark.slow), "1MB"])
def test_one_file(size: str, one_file: Path, tmp_path: Path) -> None:
    assert run_policy(one_file, "purchases_dedup", tmp_path, "--block-size", size) == []


def test_one_gzip_file(one_file: Path, tmp_path: Path) -> None:
    packed = tmp_path / "retail.csv.gz"
    with one_file.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    assert run_policy(packed, "purchases_dedup", tmp_path) == []


@pytest.mark.parametrize("size", [pytest.param("64MiB", marks=pytest.mark.slow), "100KB"])
def test_one_parquet_file(size: str, one_file: Path, tmp_path: Path) -> None:
    with one_file.open(encoding="utf-8-sig") as file:
        names = file.readline().strip().split(",")
    texts = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    table = pacsv.read_csv(one_file, parse_options=pacsv.ParseOptions(newlines_in_values=True), convert_options=texts)
    path = tmp_path / "retail.parquet"
    pq.write_table(table, path, row_group_size=20_000)
    assert run_policy(path, "purchases_dedup", tmp_path, "--block-size", size) == []


@pytest.mark.parametrize("size", ["64MiB", "20KB"])
@pytest.mark.parametrize("policy", LOG_POLICIES)
def test_a_log_without_header(policy: str, size: str, tmp_path: Path) -> None:
    config = write_settings(
        tmp_path / "settings.toml",
        *LOG_POLICIES[policy],
        input={"delimiter": "whitespace", "header": LOG_COLUMNS},
        columns={
            "customer_id": "customer_id", "order_date": {"column": "order_date", "format": "%Y%m%d"},
            "amount": "amount", "quantity": "quantity",
        },
    )  # fmt: skip
    log = data_folder() / "cdnow_sample"
    argv = ["--block-size", size]
    assert compare(log, "cdnow_sample.expected.json", policy, config, tmp_path, argv) == []
