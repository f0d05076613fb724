"""Drivers that stop for long, wake up late, or run at the same time."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daskae.errors import TargetBusyError
from daskae.run.job import make_context
from daskae.run.turns import Turn, publishing, take_turn
from tests.fault_log import fault, target_of
from tests.support import CONTEXT, WAIT, Child, call_main, read_quarantine

from .checker import assert_accounted_for, numbered_orders
from .jobs import Calm, Job, go_on


@pytest.mark.parametrize("point", ["plan.made", "exchange.before_commit"])
def test_a_paused_driver_is_overtaken_and_finds_its_work_done(point: str, calm: Calm, job: Job) -> None:
    first = job.stopped_at(point)
    second = Child(job.argv, job.folder / "second.json")
    assert second.wait() == 0
    calm.assert_equal(job, second.document())
    assert go_on(first) == 0
    assert first.document()["already_published"]
    calm.assert_equal(job, first.document())


def test_a_driver_paused_while_it_publishes_holds_the_target(job: Job) -> None:
    first = job.stopped_at("publish.before")
    second = Child(job.argv, job.folder / "second.json", {"DASKAE_LOAD__TIMEOUT_SECONDS": "0.2"})
    assert second.wait() == 75
    assert f"held by process {first.pid} on" in second.document()["message"]
    assert go_on(first) == 0


def test_a_driver_that_wakes_up_late_does_not_bring_the_old_input_back(calm: Calm, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "orders-0.csv").write_bytes(numbered_orders(60))
    job = Job(inputs, calm.config, tmp_path / "job")
    late = job.stopped_at("exchange.before_commit")
    (inputs / "orders-1.csv").write_bytes(numbered_orders(60, first=60))
    newer = Child(job.argv, tmp_path / "newer.json")
    assert newer.wait() == 0
    quarantine = read_quarantine(newer.document()["quarantine"])
    assert_accounted_for(inputs, job.tables()["customer_metrics"], quarantine)
    assert go_on(late) == 75
    assert_accounted_for(inputs, job.tables()["customer_metrics"], quarantine)
    assert "overtaken by run 2" in late.document()["message"]


def turn_of(job: Job) -> Turn:
    from daskae.config import load_settings

    settings = load_settings(
        {"inputs": [str(job.inputs)], "to": f"{job.folder}/out/", "work_dir": job.folder / "work"}, job.config
    )
    context = make_context(settings)
    context.turns.mkdir(parents=True, exist_ok=True)
    return replace(take_turn(context), timeout=0.1)


def test_turns_of_one_command_go_up(job: Job) -> None:
    first, second = turn_of(job), turn_of(job)
    with publishing(first), pytest.raises(TargetBusyError, match=r"held by process \d+"), publishing(second):
        pass
    with publishing(second):
        pass
    with publishing(second):
        pass
    with pytest.raises(TargetBusyError, match="run 1 of this command, overtaken by run 2"), publishing(first):
        pass


def test_other_commands_have_turns_of_their_own(job: Job, tmp_path: Path) -> None:
    first = turn_of(job)
    (tmp_path / "other").mkdir()
    with publishing(turn_of(replace(job, inputs=tmp_path / "other"))):
        pass
    with publishing(first):
        pass


def _at_once(barrier: Any, argv: list[str], results: Any) -> None:
    barrier.wait(WAIT)
    results.put(call_main(argv))


def run_at_once(*argvs: list[str]) -> list[int]:
    """Run several commands that begin at the same moment; their exit codes."""
    barrier, results = CONTEXT.Barrier(len(argvs)), CONTEXT.SimpleQueue()
    children = [CONTEXT.Process(target=_at_once, args=(barrier, argv, results)) for argv in argvs]
    for child in children:
        child.start()
    fault("runs at once", f"{len(argvs)} runs of {len({tuple(argv) for argv in argvs})} commands", "driver",
          target_of(argvs[0][argvs[0].index("--to") + 1]), count=len(argvs))  # fmt: skip
    codes = [results.get()[0] for _ in children]
    for child in children:
        child.join(WAIT)
        child.close()
    results.close()
    return codes


def test_the_same_command_several_times_at_once(calm: Calm, job: Job) -> None:
    job.folder.mkdir()
    codes = run_at_once(job.argv, job.argv, job.argv)
    assert set(codes) <= {0, 75}
    assert 0 in codes
    document = job.finish()
    assert document["already_published"]
    assert document["reused_partitions"] == document["partitions"]
    calm.assert_equal(job, document)


@pytest.mark.parametrize("target", ["out/", pytest.param("metrics.db", marks=pytest.mark.slow)])
def test_different_commands_into_one_target_at_once(target: str, calm: Calm, tmp_path: Path) -> None:
    jobs = []
    for i in range(2):
        inputs = tmp_path / f"in-{i}"
        inputs.mkdir()
        (inputs / "orders.csv").write_bytes(numbered_orders(60, first=60 * i))
        jobs.append(Job(inputs, calm.config, tmp_path / "job", target=target))
    (tmp_path / "job").mkdir()
    codes = run_at_once(*([*job.argv, "--strategy", "append"] for job in jobs))
    assert codes == [0, 0]
    (tmp_path / "both").mkdir()
    for i, job in enumerate(jobs):
        (tmp_path / "both" / f"{i}.csv").write_bytes((job.inputs / "orders.csv").read_bytes())
    # Each is there once, as when they had run one after the other.
    apart = [replace(job, folder=tmp_path / "apart") for job in jobs]
    for job in apart:
        child = Child([*job.argv, "--strategy", "append"], tmp_path / "apart.json")
        (tmp_path / "apart").mkdir(exist_ok=True)
        assert child.wait() == 0
    if target == "out/":
        found, expected = ([job.tables()["customer_metrics"].sort_by("customer_id")] for job in (jobs[0], apart[0]))
        assert found == expected
    else:
        assert {name: sorted(rows, key=repr) for name, rows in jobs[0].rows().items()} == {
            name: sorted(rows, key=repr) for name, rows in apart[0].rows().items()
        }
