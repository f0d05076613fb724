"""Law 5: kill -9 of the driver at every point where it matters; the same command again ends in the same tables."""

import ast
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, assert_same_tables

from .jobs import KILLED, Calm, Job, seeds

SEED = 20_240_229
# Points of other targets and commands, which have their own tests.
ELSEWHERE = (
    "remote.", "corrections.", "staged", "staging", "deleted", "updated", "uncommitted", "committed",
    "purge", "sqlite.", "verifying.",
)  # fmt: skip


def named_points() -> Iterator[str]:
    """Names of all crash points in the tree, those that are put together at run time by what they end with."""
    for path in sorted((ROOT / "daskae").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crash_point":
                (argument,) = node.args
                yield ast.literal_eval(argument) if isinstance(argument, ast.Constant) else ast.unparse(argument)


POINTS = sorted({name for name in named_points() if not any(other in name for other in ELSEWHERE)})


def test_the_calm_run_has_something_to_lose(calm: Calm) -> None:
    rejected = calm.document["rows"]["rejected_by_rule"]
    assert all(rejected[name] for name in ("non_positive_quantity", "exact_duplicate"))
    assert all(rejected[name] for name in ("missing_customer_id", "unparsable_date", "wrong_field_count"))
    assert calm.document["partitions"] >= 3


def test_the_points_that_matter_are_there() -> None:
    stages = {name.partition(".")[0] for name in POINTS}
    assert stages == {"scan", "plan", "exchange", "quarantine", "turn", "parquet", "publish", "report", "sweep"}


@pytest.mark.slow
def test_killed_after_every_single_commit(calm: Calm, job: Job) -> None:
    """Each attempt gets one commit further and dies, until there is nothing left to commit."""
    done: list[int] = []
    while (code := job.start(DASKAE_CRASH_AT="exchange.after_commit:1").wait()) == KILLED:
        done.append(len(job.manifests()))
        assert done == sorted(done)
        assert len(done) < 100
    assert code == 0
    assert len(done) > calm.document["partitions"]
    document = job.document()
    assert document["reused_partitions"] == document["partitions"]
    calm.assert_equal(job, document)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_then_run_again(point: str, calm: Calm, job: Job) -> None:
    assert job.start(DASKAE_CRASH_AT=point).wait() == KILLED
    calm.assert_goes_on(job)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", ["out/", "metrics.db"])
def test_killed_at_every_passage_of_any_point(target: str, calm: Calm, tmp_path: Path) -> None:
    """None is left out: the n-th passage for n = 1, 2, 3 ... until a run survives."""
    calm_rows = None
    if target != "out/":
        undisturbed = Job(calm.inputs, calm.config, tmp_path / "calm", target=target)
        undisturbed.finish()
        calm_rows = undisturbed.rows()
    again: list[int] = []
    for passage in range(1, 1000):
        job = Job(calm.inputs, calm.config, tmp_path / str(passage), target=target, workers=1)
        code = job.start(DASKAE_CRASH_AT=f"*:{passage}").wait()
        if calm_rows is None:
            again.append(calm.assert_goes_on(job))
        else:
            job.finish()
            job.assert_rows(calm_rows)
        if code == 0:
            break
        assert code == KILLED
    print(f"{target}: killed at {passage - 1} passages; tasks run by the second command: {again}")
    assert passage > 40
    assert again == sorted(again, reverse=True)


LOADING = [("out/", "parquet.flipped"), ("metrics.db", "sqlite.named"),
           pytest.param("out/", "parquet.linked", marks=pytest.mark.slow),
           pytest.param("metrics.db", "sqlite.uncommitted", marks=pytest.mark.slow)]  # fmt: skip
MORE = [pytest.param(point, marks=pytest.mark.slow) for point in ("sqlite.staged", "sqlite.deleted:3", "sqlite.built")]


@pytest.mark.parametrize("point", ["sqlite.uncommitted", "sqlite.named", *MORE])
def test_killed_while_loading_a_database_then_run_again(point: str, calm: Calm, tmp_path: Path) -> None:
    jobs = [Job(calm.inputs, calm.config, tmp_path / name, target="metrics.db") for name in ("calm", "killed")]
    jobs[0].finish()
    assert jobs[1].start(DASKAE_CRASH_AT=point).wait() == KILLED
    document = jobs[1].finish()
    assert document["reused_partitions"] == document["partitions"]
    assert document["already_published"] == (point == "sqlite.named")
    jobs[1].assert_rows(jobs[0].rows())


@pytest.mark.parametrize(("target", "point"), LOADING)
def test_killed_while_loading_then_run_again_without_the_work_directory(
    target: str, point: str, calm: Calm, tmp_path: Path
) -> None:
    """The target and the input are enough: what is published already is known by its content."""
    jobs = [Job(calm.inputs, calm.config, tmp_path / name, target=target) for name in ("calm", "killed")]
    jobs[0].finish()
    assert jobs[1].start(DASKAE_CRASH_AT=point).wait() == KILLED
    shutil.rmtree(jobs[1].folder / "work")
    document = jobs[1].finish()
    assert document["reused_partitions"] == 0
    assert document["already_published"] == (point in ("sqlite.named", "parquet.flipped"))
    if target == "metrics.db":
        jobs[1].assert_rows(jobs[0].rows())
    else:
        assert_same_tables(jobs[1].tables(), jobs[0].tables())


def killed_at_random(calm: Calm, job: Job, kills: int, seed: int) -> None:
    moments, longest, killed = random.Random(seed), calm.seconds, 0
    while killed < kills:
        child = job.start()
        if child.wait(moments.uniform(0.02, 1.0) * longest) is None:
            child.kill("at a random moment", seed)
            killed += 1
        else:  # it was faster than the calm run: once more, from the beginning
            longest *= 0.7
            for name in ("work", "out"):
                shutil.rmtree(job.folder / name)
    calm.assert_equal(job, job.finish())


@pytest.mark.parametrize("seed", [1])
def test_driver_killed_at_random_moments(seed: int, calm: Calm, job: Job) -> None:
    killed_at_random(calm, job, 3, SEED + seed)


@pytest.mark.parametrize("seed", seeds(2, 32))
def test_driver_killed_at_more_random_moments(seed: int, calm: Calm, job: Job) -> None:
    killed_at_random(calm, job, 4, SEED + seed)
