"""Law 1: the same input gives the same tables, whatever the blocks, files, threads, engine or order of completion."""

import shutil
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from daskae.synthetic import Spec
from jobs.generate_orders import SETTINGS, generate
from tests.support import (
    EXACT_DUPLICATE,
    POSITIVE_QUANTITY,
    REPEATED_ORDER,
    SMALL_AMOUNT,
    Run,
    assert_same,
    assert_same_tables,
    run,
)

from .orders import MALFORMED, ROWS, headers, records, whole_runs

RULES = st.sampled_from(
    [[], [EXACT_DUPLICATE], [POSITIVE_QUANTITY, EXACT_DUPLICATE, REPEATED_ORDER, SMALL_AMOUNT], [REPEATED_ORDER]]
)
BLOCKS = st.sampled_from([64, 65, 100, 128, 333, 1024, 4096])
ORDERS = 20_000


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose examples remove what they wrote."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def write(folder: Path, *pieces: bytes) -> list[Path]:
    """Write files whose path order is the order given."""
    folder.mkdir()
    paths = [folder / f"orders-{i:02d}.csv" for i in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    return paths


def without_place(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rejected rows as a sorted list, without what a file split changes."""
    return sorted((row["raw"], row["reason"], *row["reasons"], row["column"] or "", row["value"] or "") for row in rows)


def assert_same_rows(found: Run, expected: Run) -> None:
    """Compare two runs over the same rows in other files."""
    assert found.summary.rows == expected.summary.rows
    assert_same_tables(found.tables, expected.tables)
    assert without_place(found.quarantine) == without_place(expected.quarantine)


@given(st.data())
@whole_runs(5)
def test_blocks_and_threads_do_not_show(data: st.DataObject) -> None:
    header, rows, rules = data.draw(headers()), data.draw(records(ROWS | MALFORMED)), data.draw(RULES)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write(folder / "in", header + b"".join(rows))
        whole = run(paths, folder / "whole", rules=rules, block_size=1 << 20)
        event("published" if whole.tables else "refused")
        blocks = data.draw(BLOCKS)
        assert_same(run(paths, folder / "blocks", rules=rules, block_size=blocks), whole)
        assert_same(run(paths, folder / "threads", rules=rules, block_size=64, workers=3), whole)


@given(st.data())
@whole_runs(5)
def test_files_do_not_show(data: st.DataObject) -> None:
    assert_files_do_not_show(data)


@pytest.mark.slow
@given(st.data())
@whole_runs(20)
def test_many_more_files_do_not_show(data: st.DataObject) -> None:
    assert_files_do_not_show(data)


def assert_files_do_not_show(data: st.DataObject) -> None:
    header, rows, rules = data.draw(headers()), data.draw(records()), data.draw(RULES)
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=6).map(sorted))
    bounds = list(zip([0, *cuts], [*cuts, len(rows)], strict=True))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = run(write(folder / "one", header + b"".join(rows)), folder / "whole", rules=rules)
        pieces = [header + b"".join(rows[start:stop]) for start, stop in bounds]
        blocks = data.draw(BLOCKS)
        many = run(write(folder / "many", *pieces), folder / "split", rules=rules, block_size=blocks, workers=3)
        assert_same_rows(many, one)


@pytest.mark.slow
@given(header=headers(), rows=records(ROWS | MALFORMED), rules=RULES)
@whole_runs(20)
def test_every_block_size(header: bytes, rows: list[bytes], rules: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write(folder / "in", header + b"".join(rows))
        whole = run(paths, folder / "whole", rules=rules)
        for size in (64, 71, 97, 128, 200, 511, 2048):
            assert_same(run(paths, folder / str(size), rules=rules, block_size=size, workers=2), whole)


@pytest.mark.dask
@given(header=headers(), rows=records(ROWS | MALFORMED))
@whole_runs(3)
def test_engines_do_not_show(scheduler: str, header: bytes, rows: list[bytes]) -> None:
    rules = [POSITIVE_QUANTITY, EXACT_DUPLICATE, REPEATED_ORDER]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write(folder / "in", header + b"".join(rows))
        inline = run(paths, folder / "inline", rules=rules)
        dask = run(paths, folder / "dask", rules=rules, block_size=256, cluster_name=scheduler)
        assert dask.summary.engine == "dask"
        assert_same(dask, inline)


@pytest.fixture(scope="module", params=["csv", "parquet"])
def generated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Generated orders with every planted defect, and the truth about them."""
    folder = tmp_path_factory.mktemp(request.param) / "orders"
    return folder, generate(Spec(ORDERS, 3, request.param, dirt=0.03), folder)


def test_generated_orders_give_what_was_planted(generated: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    orders, truth = generated
    runs = [
        run(orders, tmp_path / size, config=orders / SETTINGS, block_size=size, workers=threads)
        for size, threads in (("16KiB", 3), ("1MiB", 1))
    ]
    assert_same(runs[0], runs[1])
    found = runs[0]
    assert found.summary.rows.read == truth["rows"] == ORDERS
    assert found.summary.rows.accepted == truth["accepted"]
    assert found.counts == truth["rejected_by_rule"]
    assert found.summary.kpis["customers"] == truth["customers"] == found.tables["customer_metrics"].num_rows
    assert found.summary.kpis["orders"] == truth["orders"]
    assert Decimal(str(found.summary.kpis["revenue"])) == Decimal(truth["revenue"])
    assert sum(row["total_revenue"] for row in found.tables["customer_metrics"].to_pylist()) == Decimal(
        truth["revenue"]
    )
