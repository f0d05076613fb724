"""How rules went over the runs of a work directory, as the command shows it."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from jobs.history import main
from tests.support import ROOT, SMALL_AMOUNT, orders_csv, run

LIMIT = {"rule": "row_count", "name": "enough", "min": 30, "on_failure": "block_run"}


def call(*argv: Any) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(item) for item in argv])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: 100 rows, 200 rows, and one that is refused."""
    folder = tmp_path_factory.mktemp("history")
    source = folder / "orders.csv"
    for count in (100, 200, 20):
        source.write_bytes(orders_csv(count))
        run(source, folder, rules=[SMALL_AMOUNT, LIMIT])
    return folder / "work"


def test_runs_newest_last(work: Path) -> None:
    code, text, _ = call("--work-dir", work)
    lines = text.splitlines()
    assert code == 0
    assert lines[0].split() == ["run", "status", "read", "accepted", "rejected", "rules", "passed", "failed"]
    assert [line.split()[1:3] for line in lines[1:]] == [["done", "100"], ["done", "200"], ["refused", "20"]]
    assert "enough" in lines[3]


def test_a_rule_over_time(work: Path) -> None:
    code, text, _ = call("small_amount", "--work-dir", work, "--json")
    document = json.loads(text)
    assert (code, document["rule"]) == (0, "small_amount")
    found = [(row["checked"], row["affected"], row["outcome"]) for row in document["runs"]]
    assert [row[0] for row in found] == [100, 200, 20]
    assert [row[2] for row in found] == ["failed", "failed", "passed"]
    assert all(row["share"] == round(row["affected"] / row["checked"], 9) for row in document["runs"])
    last = call("small_amount", "--work-dir", work, "--last", 2)[1].splitlines()
    assert [line.split()[3] for line in last[1:]] == ["200", "20"]


def test_what_is_not_there(work: Path, tmp_path: Path) -> None:
    code, _, text = call("small_amonut", "--work-dir", work)
    assert (code, "did you mean 'small_amount'?" in text) == (1, True)
    code, _, text = call("--work-dir", tmp_path)
    assert (code, "no run in this work directory" in text) == (1, True)


@pytest.mark.parametrize("argv", [["--last", "-1"], ["a", "b"], ["--nothing"]])
def test_wrong_arguments(argv: list[str]) -> None:
    assert call(*argv)[0] == 2


def test_a_run_that_is_not_finished_is_passed_over(work: Path) -> None:
    broken = work / "runs" / "20990101T000000-abcdef"
    broken.mkdir()
    (broken / "manifest.json").write_text('{"run_id": ')
    try:
        assert len(call("--work-dir", work)[1].splitlines()) == 4
    finally:
        (broken / "manifest.json").unlink()
        broken.rmdir()


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from jobs.history import main; main(['--help']); print(sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"polars", "pyarrow", "pydantic", "dask", "pandas"} & set(found.stdout.splitlines()[-1].split("'"))
