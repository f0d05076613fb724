"""Power cuts: what is published outlives them, and what was not synced is found out and made again."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daskae.run.corrections import corrections_path
from jobs import history, quarantine
from tests.fault_log import checked, fault, target_of
from tests.support import Child

from .jobs import KILLED, Calm, Job
from .power import Disk, Node, parse, traced

EARLIER = ("--as-of", "2024-01-01")
"""What makes a load another one than the calm run's."""


@dataclass(frozen=True)
class Powered:
    """A job whose system calls are watched, and the model of the disk that it works on."""

    job: Job
    disk: Disk

    def run(self, *more: str, **environment: str) -> int:
        """Run the job; its exit code."""
        return self.call("customer_metrics", *self.argv(*more), **environment)

    def call(self, command: str, *argv: str, **environment: str) -> int:
        """Run any of the commands."""
        code, calls = traced(self.job.folder.parent, ["-m", f"jobs.{command}", *argv], **environment)
        for call in calls:
            self.disk.apply(call)
        return code

    def cut(self, left: str) -> None:
        """Cut the power; what a disk keeps is one of `CUTS`."""
        self.disk.cut(*CUTS[left])
        fault("power cut", f"left of what was not synced: {left}", "machine", self.kind)

    @property
    def kind(self) -> str:
        """What kind of target it loads."""
        argv = self.argv()
        return target_of(argv[argv.index("--to") + 1])

    def argv(self, *more: str) -> list[str]:
        kind = "duckdb" if self.job.target.endswith(".duckdb") else "sqlite"
        return [text.replace("sqlite:", f"{kind}:") for text in self.job.argv] + list(more)


def prepare(calm: Calm, folder: Path, target: str, *loads: Sequence[str]) -> Powered:
    """Make a job, and the loads before it; all of that is on the disk."""
    job = Job(calm.inputs, calm.config, folder / "job", target=target)
    job.folder.mkdir()
    for number, more in enumerate(loads):
        argv = Powered(job, Disk(job.folder)).argv(*more)
        assert Child(argv, folder / f"load-{number}.json").wait() == 0
    return Powered(job, Disk(job.folder))


LOG = """
7  openat(AT_FDCWD</x>, "/disk/new", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3</disk/new>
7  write(3</disk/new>, ""..., 9) = 9
7  rename("/disk/new", "/disk/old" <unfinished ...>
8  openat(AT_FDCWD</x>, "/disk/more", O_RDONLY|O_CREAT) = -1 EACCES (Permission denied)
8  mkdir("/disk/inner", 0777)       = 0
8  openat(AT_FDCWD</x>, "/disk/inner/late", O_WRONLY|O_CREAT, 0666) = 4</disk/inner/late>
8  write(4</disk/inner/late>, ""..., 9 <unfinished ...>
7  <... rename resumed>)           = 0
9  fsync(4</disk/inner/late> <unfinished ...>
8  <... write resumed>)            = 9
9  <... fsync resumed>)            = 0
"""


def test_the_model_tells_what_is_not_synced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "old").write_text("before")
    disk = Disk(tmp_path / "disk")

    def then(*lines: str) -> set[str]:
        log = tmp_path / "log"
        log.write_text("\n".join(lines).replace("/disk", str(disk.folder)) + "\n")
        for call in parse(log):
            disk.apply(call)
        return disk.lost()

    assert then(LOG) == {"old", "inner"}
    assert then("7  fsync(5</disk>) = 0") == {"old", "inner/late"}
    assert then("7  fdatasync(5</disk/old>) = 0") == {"inner/late"}
    assert then("7  fsync(5</disk/inner>) = 0") == {"inner/late"}, "it was written to while it was synced"
    assert then("7  fsync(5</disk/inner/late>) = 0") == set()
    assert then('7  link("/disk/old", "/disk/second") = 0', '7  unlink("/disk/old") = 0') == {"second", "-old"}
    assert then('7  unlinkat(6</disk/inner>, "late", 0) = 0') == {"second", "-old", "-inner/late"}


def test_a_cut_takes_what_is_not_synced(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    (place / "folder").mkdir(parents=True)
    (place / "folder" / "kept").write_text("kept")
    disks = Disk(place), Disk(place)
    program = """if True:
        import sys
        from pathlib import Path
        place = Path(sys.argv[1])
        (place / "torn").write_text("torn")
        (place / "folder").rename(place / "other")"""
    _, calls = traced(tmp_path, ["-c", program, str(place)])
    left = []
    for strict, disk in enumerate(disks):
        for call in calls:
            disk.apply(call)
        disk.cut(strict=bool(strict))
        left.append({str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()})
    assert left == [{"torn": "", "other/kept": "kept"}, {"folder/kept": "kept"}]


def test_a_synced_replacement_is_there_and_whole(tmp_path: Path) -> None:
    """What the turns, the notes of cut partitions and the corrections are written with."""
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk")
    program = """if True:
        import sys
        from pathlib import Path
        from daskae.durable import replacing
        for name in ("synced", "other"):
            with replacing(Path(sys.argv[1], name), synced=name == "synced") as temporary:
                temporary.write_text("text")"""
    _, calls = traced(tmp_path, ["-c", program, str(disk.folder)])
    for call in calls:
        disk.apply(call)
    assert disk.lost() == {"other"}


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


APPENDED, UPSERTED = (("--strategy", name, *EARLIER) for name in ("append", "upsert"))
LOADS = [("out/", [], ()), ("metrics.db", [], ()), slow("metrics.duckdb", [], ()), slow("out/", [EARLIER], ()),
         slow("metrics.db", [EARLIER], ()), slow("metrics.duckdb", [EARLIER], ()), slow("out/", [()], APPENDED),
         slow("out/", [()], UPSERTED)]  # fmt: skip


@pytest.mark.parametrize(("target", "loads", "more"), LOADS)
def test_what_is_published_is_on_the_disk_before_that_is_said(
    target: str, loads: Sequence[Sequence[str]], more: Sequence[str], calm: Calm, tmp_path: Path
) -> None:
    powered = prepare(calm, tmp_path, target, *loads)
    assert powered.run(*more) == 0
    lost = {path for path in powered.disk.lost() if not path.lstrip("-").startswith("work")}
    fault("power cut in a model", "when the load is said to be done", "machine", powered.kind)
    # What was removed may be back: locks that nobody holds, SQLite's logs of what is in the database.
    assert {path for path in lost if not path.startswith("-")} == set()
    assert {path for path in lost if not path.endswith(("lock", "-wal", "-shm", "-new"))} <= {"-out/.daskae/snapshots"}


def files_of(node: Node, strict: bool) -> dict[str, Node]:
    """Files below a folder, as they are or as they would be after a power cut."""
    found: dict[str, Node] = {}
    for name, inner in (node.kept if strict else node.entries).items():
        found |= {f"{name}/{path}": file for path, file in files_of(inner, strict).items()} | {name: inner}
    return {path: file for path, file in found.items() if not file.is_folder}


def published(disk: Disk, strict: bool) -> tuple[str, frozenset[str]] | None:
    """Return the snapshot that readers would see after a power cut, and its files; torn ones are none."""
    node: Node | None = disk.root
    for name in ("out", ".daskae"):
        node = (node.kept if strict else node.entries).get(name) if node else None
    pointer = (node.kept if strict else node.entries).get("current") if node else None
    if node is None or pointer is None or pointer.text is None:
        return None
    for name in pointer.text.split("/"):
        node = (node.kept if strict else node.entries).get(name, Node())
    whole = (path for path, file in files_of(node, strict).items() if not file.is_torn)
    return pointer.text, frozenset(whole)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("loads", "more"), [([], ()), slow([EARLIER], ()), slow([()], APPENDED)])
def test_power_may_go_at_any_moment_of_a_publish(
    strict: bool, loads: Sequence[Sequence[str]], more: Sequence[str], calm: Calm, tmp_path: Path
) -> None:
    """After every single call a reader would find the old snapshot or the new one, and all of it."""
    powered = prepare(calm, tmp_path, "out/", *loads)
    disk, seen = powered.disk, [published(powered.disk, strict)]
    code, calls = traced(tmp_path, ["-m", "jobs.customer_metrics", *powered.argv(*more)])
    assert code == 0
    moments = 0
    for call in calls:
        disk.apply(call)
        moments += "/out" in call.arguments
        if "/out" in call.arguments and (now := published(disk, strict)) != seen[-1]:
            seen.append(now)
    names = "only what was synced" if strict else "all names"
    fault("power cut in a model", f"after each call to the target; left: {names}", "machine", "parquet", count=moments)
    assert len(seen) == 2, seen
    new = seen[1]
    assert new is not None
    assert len(new[1]) >= 5
    assert new == published(disk, strict=False)


# What a power cut leaves: all names, and of the bytes that were not synced none, half of them, or zeros in the place of
# half of them; or what was synced alone.
CUTS: dict[str, tuple[bool, float, bool]] = {
    "empty": (False, 0.0, False), "half": (False, 0.5, False), "zeros": (False, 0.5, True), "nothing": (True, 0.0, True)
}  # fmt: skip
# When it comes: the process has said that it is done, the target has changed, or is just about to; is the load there?
MOMENTS = [("out/", "", "empty", True), ("out/", "parquet.flipped", "zeros", True), slow("out/", "", "half", True),
           slow("out/", "", "nothing", True), slow("out/", "parquet.flipped", "empty", True),
           slow("out/", "parquet.flipped", "nothing", True), slow("out/", "parquet.linked", "empty", False),
           slow("out/", "parquet.linked", "nothing", False), slow("out/", "turn.published", "half", False),
           slow("out/", "turn.published", "zeros", False),
           slow("out/", "exchange.after_commit:4", "empty", False), slow("metrics.db", "", "empty", True),
           slow("metrics.db", "", "nothing", True), ("metrics.db", "sqlite.named", "empty", True),
           slow("metrics.db", "sqlite.named", "nothing", True), slow("metrics.db", "sqlite.built", "empty", False),
           slow("metrics.db", "sqlite.built", "nothing", False)]  # fmt: skip


@pytest.mark.parametrize(("target", "moment", "left", "there"), MOMENTS)
def test_the_same_command_after_a_power_cut(
    target: str, moment: str, left: str, there: bool, calm: Calm, tmp_path: Path
) -> None:
    powered = prepare(calm, tmp_path, target)
    assert powered.run(**crashing(moment)) == (KILLED if moment else 0)
    require_calm_end(powered, calm, tmp_path, left, there)


LATER = [("out/", "parquet.linked", "empty", False), slow("out/", "parquet.linked", "nothing", False),
         slow("out/", "parquet.flipped", "nothing", True), slow("out/", "", "half", True),
         slow("metrics.db", "", "nothing", True), slow("metrics.db", "sqlite.committed", "empty", True),
         slow("metrics.db", "sqlite.committed", "nothing", True),
         slow("metrics.db", "sqlite.uncommitted", "empty", False),
         slow("metrics.db", "sqlite.uncommitted", "nothing", False)]  # fmt: skip


@pytest.mark.parametrize(("target", "moment", "left", "there"), LATER)
def test_a_power_cut_of_a_later_load(
    target: str, moment: str, left: str, there: bool, calm: Calm, tmp_path: Path
) -> None:
    powered = prepare(calm, tmp_path, target, EARLIER)
    before = contents(powered.job)
    assert powered.run(**crashing(moment)) == (KILLED if moment else 0)
    require_calm_end(powered, calm, tmp_path, left, there, before)


def crashing(moment: str) -> dict[str, str]:
    return {"DASKAE_CRASH_AT": moment} if moment else {}


def contents(job: Job) -> Any:
    return job.tables() if job.target == "out/" else job.rows()


def require_calm_end(powered: Powered, calm: Calm, tmp_path: Path, left: str, there: bool, before: Any = None) -> None:
    """Cut the power: readers find the old tables or the new ones; the same command then ends as the calm run."""
    job = powered.job
    expected: Any = calm.tables
    if job.target != "out/":
        undisturbed = Job(calm.inputs, calm.config, tmp_path / "calm", target=job.target)
        undisturbed.finish()
        expected = undisturbed.rows()
    powered.cut(left)
    if there or before is not None:
        assert contents(job) == (expected if there else before)
    else:
        assert not (job.folder / job.target).exists() or not list((job.folder / "out").glob("customer_metrics/*"))
    document = job.finish()
    assert document["already_published"] == there
    assert contents(job) == expected
    checked("contents")
    if job.target == "out/":
        calm.assert_equal(job, document)
    tell_of_runs(job)


def tell_of_runs(job: Job) -> None:
    """Commands that look at earlier runs pass over what a power cut has torn."""
    work = str(job.folder / "work")
    for command, argv in ((quarantine, ["list"]), (quarantine, ["show"]), (history, [])):
        with redirect_stdout(io.StringIO()):
            assert command.main([*argv, "--work-dir", work]) == 0


@pytest.mark.slow
def test_corrections_outlive_a_power_cut_and_their_work_directory_with_them(calm: Calm, tmp_path: Path) -> None:
    powered = prepare(calm, tmp_path, "out/")
    work, rejects = ["--work-dir", f"{powered.job.folder}/work"], tmp_path / "rejects.csv"
    assert powered.run() == 0
    assert quarantine.main(["show", "--out", str(rejects), *work]) == 0
    rejects.write_text(rejects.read_text().replace("31.12.", "2023-12-31 00:00:00"))
    assert powered.call("quarantine", "replay", str(rejects), "--no-run", *work) == 0
    stored = corrections_path(powered.job.folder / "work").read_bytes()
    powered.cut("nothing")
    assert corrections_path(powered.job.folder / "work").read_bytes() == stored


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out/", "metrics.db"])
def test_what_was_purged_is_not_back_after_a_power_cut(target: str, calm: Calm, tmp_path: Path) -> None:
    powered = prepare(calm, tmp_path, target, EARLIER, ())
    argv = powered.argv()
    assert powered.call("purge", "C3", "--to", argv[argv.index("--to") + 1], "--work-dir", f"{tmp_path}/job/work") == 0
    lost = powered.disk.lost()
    fault("power cut in a model", "when the purge is said to be done", "machine", powered.kind)
    assert {path for path in lost if not path.endswith(("lock", "-wal", "-shm"))} == set()
