"""Inputs that change while a run reads them: the file is named, and nothing is published."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault_log import fault
from tests.support import Child, read_quarantine, read_tables

from .checker import assert_accounted_for, numbered_orders
from .jobs import Calm, Job, go_on


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(numbered_orders(1, first=500).partition(b"\n")[2])


def replace(path: Path) -> None:
    copy = path.with_suffix(".new")
    copy.write_bytes(path.read_bytes().replace(b"plain", b"PLAIN"))
    copy.replace(path)


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"plain", b"PLAIN"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


def remove(path: Path) -> None:
    path.unlink()


CHANGES = (append, replace, rewrite, cut, remove)
# The plan is made; one part is read; all are read; only the publish is left.
MOMENTS = ("turn.taken", "exchange.after_commit", "quarantine.shared", "turn.published")
QUICK = {("exchange.after_commit", replace), ("quarantine.shared", cut), ("turn.published", append)}
CASES = [
    pytest.param(
        moment, change, id=f"{moment}-{change.__name__}",
        marks=[] if (moment, change) in QUICK else [pytest.mark.slow],
    )
    for moment in MOMENTS
    for change in CHANGES
]  # fmt: skip


@pytest.mark.parametrize(("moment", "change"), CASES)
def test_an_input_that_changes_during_the_run(
    moment: str, change: Callable[[Path], None], calm: Calm, tmp_path: Path
) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    paths = [inputs / f"orders-{i}.csv" for i in range(2)]
    for i, path in enumerate(paths):
        path.write_bytes(numbered_orders(60, first=60 * i))
    job = Job(inputs, calm.config, tmp_path / "job", block="1KiB", workers=1)
    child = job.stopped_at(moment)
    change(paths[1])
    fault("changed input", f"{change.__name__} at {moment}", "driver")
    assert go_on(child) == 1
    message = child.document()["message"]
    if change not in (cut, remove) or moment == "turn.published":
        assert "an input changed" in message
        assert "got:" in message
        assert "allowed:" in message
    assert "orders-1.csv" in message
    assert not list(job.folder.glob("out/customer_metrics/*"))
    if change is remove:
        paths[1].write_bytes(numbered_orders(60, first=60))
    again = Child(job.argv, tmp_path / "again.json")
    assert again.wait() == 0
    quarantine = read_quarantine(again.document()["quarantine"])
    assert_accounted_for(inputs, read_tables(job.folder / "out")["customer_metrics"], quarantine)
