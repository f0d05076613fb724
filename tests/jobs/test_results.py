"""What a run gives back to Python."""

from decimal import Decimal
from pathlib import Path

import pytest

from daskae.config import load_settings
from daskae.errors import DaskaeError
from daskae.run.job import RunResult, run_job
from tests.support import orders_csv


def run(tmp_path: Path, **flags: object) -> RunResult:
    given = {
        "inputs": [str(tmp_path / "in")], "to": str(tmp_path / "out"), "work_dir": tmp_path / "work",
        "cluster_name": "inline", "block_size": 4096, **flags,
    }  # fmt: skip
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nname = "twice"\nrule = "unique"\ncolumns = ["order_id"]\n')
    return run_job(load_settings(given, rules))


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_bytes(orders_csv(300))
    (folder / "b.csv").write_bytes(orders_csv(300) + b"one,C1,2024-01-05,-0.1001,1,x\nbad,C1,2024-01-05,many,1,x\n")
    return folder


def test_accepted_rows_as_a_dask_dataframe(tmp_path: Path, orders: Path) -> None:
    result = run(tmp_path)
    frame = result.to_dask()
    assert frame.npartitions == result.summary.partitions > 2
    table = frame.compute(scheduler="synchronous")
    assert len(table) == result.summary.rows.accepted == 283
    assert sum(table["amount"]) == Decimal(str(result.summary.kpis["revenue"]))
    assert table["customer_id"].nunique() == result.summary.kpis["customers"]
    assert list(frame.columns) == list(table.columns)
    assert (frame.dtypes == table.dtypes).all()


def test_a_fresh_run_has_no_accepted_rows_to_read(tmp_path: Path, orders: Path) -> None:
    with pytest.raises(DaskaeError, match="a fresh run leaves no accepted rows"):
        run(tmp_path, fresh=True).to_dask()
