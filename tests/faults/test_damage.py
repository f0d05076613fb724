"""Intermediate files that rot, and inputs that change: the result is that of a fresh run over what is there now."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daskae.errors import InputError
from tests.fault_log import fault
from tests.support import (
    EXACT_DUPLICATE,
    POSITIVE_QUANTITY,
    REPEATED_ORDER,
    Run,
    assert_same,
    assert_same_tables,
    orders_csv,
    run,
)

from .jobs import Calm, Job, go_on

RULES = [POSITIVE_QUANTITY, EXACT_DUPLICATE, REPEATED_ORDER]
# Every kind of file that a run leaves for a later one.
KINDS = [
    "maps/*/*/manifest.json", "maps/*/*/rows-*", "maps/*/*/keys-*", "maps/*/*/rejects-*", "steps/*/manifest.json",
    "steps/*/repeated-*", "steps/*/states-*.arrow", "steps/*/states-*.npy", "steps/*/late-*", "steps/*/customers-*",
    "steps/*/rejected-*",
]  # fmt: skip


def flip_bit(path: Path) -> None:
    """Flip one bit in the middle, where the data are."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def flip_every_part(path: Path) -> None:
    """Flip a bit in each of 40 places, so that one is sure to hit data and not padding."""
    data = bytearray(path.read_bytes())
    for i in range(40):
        data[len(data) * i // 40] ^= 2
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """Cut off the last third."""
    data = path.read_bytes()
    path.write_bytes(data[: 2 * len(data) // 3])


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        (folder / f"orders-{i}.csv").write_bytes(orders_csv(40, first=35 * i))
    return folder


def start(orders: Path, folder: Path, **flags: Any) -> Run:
    """Run with partitions of one file each, so that there is something to take over."""
    return run(orders, folder, rules=RULES, block_size=2000, **flags)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A folder with an input, what a run made of it, and its work directory, to be brought back after damage."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "in").mkdir()
    for i in range(3):
        (folder / "in" / f"orders-{i}.csv").write_bytes(orders_csv(40, first=35 * i))
    calm = start(folder / "in", folder)
    (folder / "work").rename(folder / "kept")
    return folder, calm


# By default every kind of file is damaged, and some in every way; CI runs all.
IN_EVERY_WAY = ("maps/*/*/manifest.json", "maps/*/*/rows-*", "steps/*/customers-*")
DAMAGED = [
    pytest.param(
        kind, damage, id=f"{kind}-{damage.__name__}",
        marks=[] if damage is flip_every_part or kind in IN_EVERY_WAY else [pytest.mark.slow],
    )
    for kind in KINDS
    for damage in (flip_bit, flip_every_part, truncate)
]  # fmt: skip


@pytest.mark.parametrize(("kind", "damage"), DAMAGED)
def test_damaged_intermediate_files(
    kind: str, damage: Callable[[Path], None], prepared: tuple[Path, Run], tmp_path: Path
) -> None:
    folder, calm = prepared
    damage_all(folder, kind, damage)
    # Another target, where the load is not known yet.
    again = start(folder / "in", tmp_path, work_dir=folder / "work")
    assert_same(again, calm)


# A new day is judged from the states; other definitions need the rows again, and what was found about them.
CHANGES: list[dict[str, Any]] = [{"as_of": "2024-06-01"}, {"definitions": {"churn_days": 9}}]


@pytest.fixture(scope="module", params=CHANGES, ids=["as_of", "definitions"])
def changed(
    request: pytest.FixtureRequest, prepared: tuple[Path, Run], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Run]:
    """Another question, and what a run without a work directory answers."""
    folder, _ = prepared
    return request.param, start(folder / "in", tmp_path_factory.mktemp("fresh"), **request.param)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith(("rows-*", "repeated-*", "arrow", "npy"))])
def test_damaged_files_that_a_changed_question_needs(
    kind: str, changed: tuple[dict[str, Any], Run], prepared: tuple[Path, Run], tmp_path: Path
) -> None:
    folder, _ = prepared
    change, fresh = changed
    damage_all(folder, kind, flip_every_part)
    assert_same(start(folder / "in", tmp_path, work_dir=folder / "work", **change), fresh)


def damage_all(folder: Path, kind: str, damage: Callable[[Path], None]) -> None:
    """Bring the work directory back as the run left it, and damage all files of a kind."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / "kept", work)
    found = sorted(work.glob(kind))
    assert found, f"no file like {kind}"
    for path in found:
        damage(path)
    note_damage(damage, kind, len(found))


def note_damage(damage: Callable[[Path], None], where: str, count: int = 1) -> None:
    fault("damaged file" if damage is truncate else "flipped bit", f"{where}: {damage.__name__}", count=count)


def test_unchanged_input_maps_nothing(orders: Path, tmp_path: Path) -> None:
    first = start(orders, tmp_path)
    assert first.summary.reused_partitions == 0
    again = start(orders, tmp_path)
    assert again.summary.reused_partitions == again.summary.partitions == first.summary.partitions > 1
    assert_same(again, first)


def test_a_new_file_maps_one_new_partition(orders: Path, tmp_path: Path) -> None:
    before = start(orders, tmp_path)
    (orders / "orders-15.csv").write_bytes(orders_csv(30, first=200))
    after = start(orders, tmp_path)
    assert after.summary.partitions == before.summary.partitions + 1
    assert after.summary.reused_partitions == before.summary.partitions
    assert_same(after, start(orders, tmp_path / "fresh"))


def test_a_new_file_that_comes_first_in_path_order_wins_among_duplicates(orders: Path, tmp_path: Path) -> None:
    start(orders, tmp_path)
    copy = orders / "orders-0-early.csv"
    copy.write_bytes((orders / "orders-0.csv").read_bytes())
    copy.rename(orders / "a.csv")
    after = start(orders, tmp_path)
    assert_same(after, start(orders, tmp_path / "fresh"))
    repeated = {row["file"] for row in after.quarantine if row["reason"] == "exact_duplicate"}
    assert "orders-0.csv" in repeated
    assert "a.csv" not in repeated


def test_a_removed_file_leaves_the_result(orders: Path, tmp_path: Path) -> None:
    before = start(orders, tmp_path)
    (orders / "orders-1.csv").unlink()
    after = start(orders, tmp_path)
    assert after.summary.rows.read < before.summary.rows.read
    assert after.summary.reused_partitions == after.summary.partitions > 0
    assert_same(after, start(orders, tmp_path / "fresh"))


def test_a_changed_file_is_read_again(orders: Path, tmp_path: Path) -> None:
    before = start(orders, tmp_path)
    changed = orders / "orders-1.csv"
    # The same length and, on a coarse clock, the same time: only the bytes tell.
    changed.write_bytes(changed.read_bytes().replace(b",C1,", b",C9,"))
    after = start(orders, tmp_path)
    assert 0 < after.summary.reused_partitions < after.summary.partitions == before.summary.partitions
    assert after.customer("C9")["order_count"] > 0
    assert_same(after, start(orders, tmp_path / "fresh"))


def test_rows_added_to_a_file_leave_its_first_blocks(orders: Path, tmp_path: Path) -> None:
    path = orders / "orders-2.csv"
    before = run(path, tmp_path, rules=RULES, block_size=300)
    path.write_bytes(path.read_bytes() + orders_csv(10, first=300).partition(b"\n")[2])
    after = run(path, tmp_path, rules=RULES, block_size=300)
    assert after.summary.reused_partitions >= before.summary.partitions - 1
    assert_same(after, run(path, tmp_path / "fresh", rules=RULES, block_size=300))


def test_changed_rules_are_not_served_from_memory(orders: Path, tmp_path: Path) -> None:
    start(orders, tmp_path)
    rules = [{**POSITIVE_QUANTITY, "min": 3}, EXACT_DUPLICATE, REPEATED_ORDER]
    after = run(orders, tmp_path, rules=rules, block_size=2000)
    assert after.summary.reused_partitions == 0
    assert_same(after, run(orders, tmp_path / "fresh", rules=rules, block_size=2000))


MORE = [pytest.param(one, marks=pytest.mark.slow) for one in ({"margin": "0.5"}, {"lifespan_months": 7})]


@pytest.mark.parametrize("metrics", [{"churn_days": 3}, *MORE], ids=str)
def test_changed_definitions_reuse_the_rows(metrics: dict[str, Any], orders: Path, tmp_path: Path) -> None:
    before = start(orders, tmp_path)
    after = start(orders, tmp_path, definitions=metrics)
    assert after.summary.reused_partitions == after.summary.partitions
    assert not after.tables["customer_metrics"].equals(before.tables["customer_metrics"])
    assert_same(after, start(orders, tmp_path / "fresh", definitions=metrics))


def test_a_fresh_run_takes_nothing_over_and_leaves_nothing(orders: Path, tmp_path: Path) -> None:
    first = start(orders, tmp_path)
    fresh = start(orders, tmp_path, fresh=True)
    assert fresh.summary.reused_partitions == 0
    assert_same_tables(fresh.tables, first.tables)
    assert not list((tmp_path / "work").rglob("fresh"))
    assert start(orders, tmp_path).summary.reused_partitions == first.summary.partitions


def test_an_input_gone_since_is_named(orders: Path, tmp_path: Path) -> None:
    paths = sorted(orders.iterdir())
    run(paths, tmp_path, rules=RULES)
    paths[1].unlink()
    with pytest.raises(InputError, match=r"no such file(.|\n)*orders-1\.csv"):
        run(paths, tmp_path, rules=RULES)


def stored_files(folder: Path) -> list[Path]:
    """Every file with anything in it that a run leaves for later ones; what is in the folder of a run is for people."""
    kept = folder / "kept"
    files = [path for path in sorted(kept.rglob("*")) if path.is_file() and path.stat().st_size]
    return [path for path in files if "runs" not in path.relative_to(kept).parts]


def run_over_damaged(folder: Path, calm: Run, damaged: Path, damage: Callable[[Path], None], target: Path) -> int:
    """Damage one file of what a run left and run again; returns the tasks that were run again."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / "kept", work)
    damage(work / damaged.relative_to(folder / "kept"))
    note_damage(damage, f"any stored file of {damaged.relative_to(folder / 'kept').parts[0]}")
    before = {path: path.stat().st_ino for path in work.glob("*/**/manifest.json")}
    again = start(folder / "in", target, work_dir=work)
    assert_same(again, calm)
    after = {path: path.stat().st_ino for path in work.glob("*/**/manifest.json")}
    return len([path for path in after if "runs" not in path.parts and after[path] != before.get(path)])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip_bit, truncate], ids=lambda damage: damage.__name__)
def test_every_single_stored_file_damaged(
    damage: Callable[[Path], None], prepared: tuple[Path, Run], tmp_path: Path
) -> None:
    """A corrupter that loops over all files: each time the result is the calm one, and little is done again."""
    folder, calm = prepared
    files = stored_files(folder)
    again = {}
    for number, path in enumerate(files):
        again[path] = run_over_damaged(folder, calm, path, damage, tmp_path / str(number))
    assert len(files) > 30
    # A part's rows are behind everything later; of what is later only that is made again which comes after it.
    assert max(again.values()) < len([path for path in files if path.name == "manifest.json"])


# Behind every stage: what has just been written rots before the publish, when all of it has been used already.
ROTTING = [("exchange.after_commit:3", "maps/*/*/rows-*"), ("exchange.after_commit:6", "steps/*/repeated-*"),
           ("quarantine.shared", "steps/*/customers-*"), ("turn.published", "maps/*/*/rows-*"),
           ("turn.published", "steps/*/states-*.arrow"), ("turn.published", "steps/*/customers-*"),
           ("turn.published", "steps/*/rejected-*")]  # fmt: skip


@pytest.mark.parametrize(("moment", "kind"), ROTTING)
def test_files_that_rot_during_the_run(moment: str, kind: str, calm: Calm, job: Job) -> None:
    child = job.stopped_at(moment)
    path = max((job.folder / "work").glob(kind), key=lambda path: path.stat().st_size)
    flip_every_part(path)
    note_damage(flip_every_part, f"{kind} at {moment}")
    assert go_on(child) == 0
    calm.assert_equal(job, child.document())
    (log,) = (job.folder / "work").glob("runs/*/run.log")
    assert "intermediate file" in log.read_text()
    assert "it is made again" in log.read_text()
