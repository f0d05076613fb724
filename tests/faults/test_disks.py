"""Full and read-only disks below the work directory, made of a tmpfs in a mount namespace of the child's own."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daskae.config import load_settings
from daskae.errors import InputError, LoadError, PlanError, WorkDirError
from daskae.run import workdir
from daskae.run.job import make_context
from daskae.run.workdir import explained
from tests.fault_log import Kind, fault
from tests.support import ROOT, read_tables

from .checker import numbered_orders
from .jobs import Calm, Job

NAMESPACE = ["unshare", "--map-root-user", "--mount"]
MORE_SIZES = ("300k", "500k", "700k")
CHILD = """
import json, subprocess, sys
from jobs.customer_metrics import main

disk, size, small, *argv = json.loads(sys.argv[1])
mount = lambda *options: subprocess.run(["mount", *options, disk], check=True)
mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
if small == "read-only":
    mount("-o", "remount,ro")
print("first", main(argv), flush=True)
mount("-o", "remount,rw,size=100m")
print("again", main(argv), flush=True)
"""


@pytest.fixture(scope="module")
def _private_mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare command")
    probe = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path_factory.mktemp("probe"))]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a process mount a small disk of its own")


def on_small_disk(tmp_path: Path, size: str, what: str, *flags: str) -> subprocess.CompletedProcess[str]:
    inputs, disk = tmp_path / "orders.csv", tmp_path / "disk"
    inputs.write_bytes(numbered_orders(12_000).replace(b"plain", b"x" * 60))
    disk.mkdir()
    argv = [str(inputs), "--to", f"{tmp_path}/out/", "--work-dir", str(disk / "work"), "--block-size", "100KiB"]
    config = tmp_path / "settings.toml"
    config.write_text("[money]\nscale = 0\n")
    given = json.dumps([str(disk), size, what, *argv, "--config", str(config), "--quiet", "--json", *flags])
    where = f"work directory of {size}" if what == "full" else "work directory"
    fault("full disk" if what == "full" else "read-only disk", where, "driver", "parquet")
    return subprocess.run(
        [*NAMESPACE, sys.executable, "-c", CHILD, given], capture_output=True, text=True, check=False, cwd=ROOT
    )


# Full in the first files, in the middle of the partitions, and when customers are grouped.
@pytest.mark.usefixtures("_private_mounts")
@pytest.mark.parametrize(
    "size", ["60k", "600k", *(pytest.param(size, marks=pytest.mark.slow) for size in ("300k", "500k", "700k"))]
)
def test_a_full_work_directory(size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKAE_CLUSTER__INLINE_BELOW", "1GiB")
    done = on_small_disk(tmp_path, size, "full")
    assert done.returncode == 0, done.stderr
    assert "first 1" in done.stdout, done.stdout + done.stderr
    assert "the disk of the work directory is " in done.stderr, done.stderr
    assert str(tmp_path / "disk") in done.stderr
    assert " free" in done.stderr
    assert "at least" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert "again 0" in done.stdout, done.stderr


@pytest.mark.usefixtures("_private_mounts")
def test_a_read_only_work_directory(tmp_path: Path) -> None:
    done = on_small_disk(tmp_path, "9m", "read-only")
    assert done.returncode == 0, done.stderr
    assert "first 2" in done.stdout, done.stdout + done.stderr
    assert "the run folder cannot be created" in done.stderr
    assert f"{tmp_path}/disk/work" in done.stderr
    assert "Read-only file system" in done.stderr
    assert "set --work-dir" in done.stderr
    assert "again 0" in done.stdout, done.stderr


def context_of(tmp_path: Path, **flags: Any) -> Any:
    return make_context(load_settings({"work_dir": tmp_path / "work", **flags}, None))


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(28, "No space left on device"), "the disk of the work directory is full"),
        (OSError("IO error: No space left on device (os error 28)"), "the disk of the work directory is full"),
        (OSError(5, "Input/output error"), "the disk of the work directory has failed"),
        (OSError(30, "Read-only file system"), "the work directory is on a read-only disk"),
        (OSError(122, "Disk quota exceeded"), "the disk quota of the work directory is used up"),
    ],
    ids=str,
)
def test_errors_of_the_disk_in_words(error: OSError, what: str, tmp_path: Path) -> None:
    for raised in (error, RuntimeError("a task failed")):
        raised.__cause__ = error if raised is not error else None
        with (
            pytest.raises(WorkDirError, match=rf"{what}(.|\n)*{tmp_path}/work(.|\n)*free"),
            explained(context_of(tmp_path), []),
        ):
            raise raised


def test_errors_of_other_places_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"), explained(context_of(tmp_path), []):
        raise OSError(28, "No space left on device", "/elsewhere/file")
    for translated in (InputError("an input cannot be read"), LoadError("the target is on a read-only disk")):
        # Writing to an open file names no path.
        translated.__cause__ = OSError(30, "Read-only file system")
        with pytest.raises(type(translated), match=translated.what), explained(context_of(tmp_path), []):
            raise translated
    with pytest.raises(ValueError, match="something else"), explained(context_of(tmp_path), []):
        raise ValueError("something else")


def test_a_disk_that_is_certainly_too_small_is_told_before_the_first_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daskae.pipeline import plan_run

    path = tmp_path / "orders.csv"
    path.write_bytes(numbered_orders(200))
    context = context_of(tmp_path, inputs=[str(path)], to=f"{tmp_path}/out/", fresh=True)
    plan_run(context)
    monkeypatch.setattr(workdir, "_free_bytes", lambda _: 1000)
    with pytest.raises(PlanError, match=r"too small(.|\n)*1000 B free(.|\n)*KiB at least(.|\n)*--work-dir"):
        plan_run(context)


GOING_BAD = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

place, how, point, before, argv = json.loads(sys.argv[1])
image = Path(place).with_name("image")
call = lambda *command: subprocess.run(command, check=True)
mount = lambda *options: call("mount", *options)
MOUNTS = {"bound": ("-t", "tmpfs", "tmpfs", place), "aborted": ("-o", "loop", str(image), place)}


def run(name, argv, stop=""):
    with open(f"{place}-{name}.json", "wb") as output, open(f"{place}-{name}.txt", "wb") as errors:
        command = [sys.executable, "-m", "jobs.customer_metrics", *argv]
        child = subprocess.Popen(command, stdout=output, stderr=errors, env={**os.environ, "DASKAE_STOP_AT": stop})
        while stop and child.poll() is None:
            if Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                make_read_only()
                child.send_signal(signal.SIGCONT)
                break
            time.sleep(0.02)
        return child.wait()


def make_read_only():
    if how == "aborted":  # what a file system does when its disk fails: no write comes through, to open files neither
        mount("-o", "remount,abort", place)
    else:  # open files stay as they are, without which a mounted file system cannot be made read-only
        mount("--bind", place, place)
        mount("-o", "remount,ro,bind", place)


if how == "aborted":
    call("truncate", "-s", "32M", str(image))
    call("mkfs.ext4", "-q", str(image))
mount(*MOUNTS[how])
codes = [run("before", before)]
call("cp", "-a", f"{Path(place).parent}/out", f"{place}-old")
codes.append(run("bad", argv, stop=point))
call("cp", "-a", f"{Path(place).parent}/out", f"{place}-served")
call("umount", place)
if how == "aborted":
    mount(*MOUNTS[how])
codes.append(run("again", argv))
call("cp", "-a", f"{place}/.", f"{place}-end")
call("umount", place)
call("cp", "-a", f"{place}-end/.", place)
print(json.dumps(codes))
"""


def go_bad(job: Job, place: str, how: str, point: str) -> list[int]:
    """Run a job three times, the second time with a disk that becomes read-only at a point; the exit codes."""
    (job.folder / place).mkdir(parents=True)
    before = [*replace(job, block="1KiB").argv, "--as-of", "2024-01-01"]
    given = json.dumps([str(job.folder / place), how, point, before, job.argv])
    namespace = NAMESPACE if how == "bound" else ["unshare", "--mount"]
    command = [*namespace, sys.executable, "-c", GOING_BAD, given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    kind: Kind = "read-only disk" if how == "bound" else "failing disk"
    fault(kind, f"{'work directory' if place == 'work' else 'target'} at {point}", "driver", "parquet")
    codes: list[int] = json.loads(done.stdout)
    return codes


def why_not_abort() -> str:
    """Say why there can be no file system here whose disk fails, empty if there can."""
    if os.geteuid() != 0:
        return "a file system of one's own wants root"
    if not list(Path("/dev").glob("loop[0-9]*")) or shutil.which("mkfs.ext4") is None:
        return "no loop device, or no mkfs.ext4"
    return ""


WORK = [
    ("exchange.before_commit:2", False),
    ("exchange.after_commit:5", False),
    ("quarantine.shared", False),
    ("turn.published", True),
    ("publish.before", True),
    ("publish.after", True),
    ("report.before_manifest", True),
]
TARGET = [("turn.published", False), ("parquet.started", False), ("parquet.writing:2", False),
          ("parquet.written", False), ("parquet.linked", False), ("parquet.flipped", True)]  # fmt: skip
CASES = [
    pytest.param(
        place, how, point, there, id=f"{place}-{how}-{point}",
        marks=[] if (how, point) == ("bound", "exchange.after_commit:5") else [pytest.mark.slow],
    )
    for place, points in (("work", WORK), ("out", TARGET))
    for how in ("bound", "aborted")
    for point, there in points
]  # fmt: skip


@pytest.mark.usefixtures("_private_mounts")
@pytest.mark.parametrize(("place", "how", "point", "there"), CASES)
def test_a_disk_that_becomes_read_only(place: str, how: str, point: str, there: bool, calm: Calm, job: Job) -> None:
    """Readers find the old load or the new one; the same command goes on when the disk takes writes again."""
    if how == "aborted" and (reason := why_not_abort()):
        pytest.skip(reason)
    codes = go_bad(job, place, how, point)
    said = (job.folder / f"{place}-bad.txt").read_text()
    assert "Traceback" not in said
    if (place, point) == ("out", "parquet.flipped"):  # what is left to do there can wait
        assert codes == [0, 0, 0], said
    else:
        assert codes == [0, 1, 0], said
        assert f"where:   {job.folder}/{place}" in said
        assert "next:    " in said
        assert "read-only disk" in said or "cannot be written" in said
        assert ("the load is in the target" in said) == there
    old, served = (read_tables(job.folder / f"{place}-{name}") for name in ("old", "served"))
    assert served == (calm.tables if there else old) != (old if there else calm.tables)
    document = json.loads((job.folder / f"{place}-again.json").read_text())
    assert document["already_published"] == there
    calm.assert_equal(job, document)
    if not there and (place, how) != ("work", "aborted"):  # there nothing was synced
        assert document["reused_partitions"] > 0
