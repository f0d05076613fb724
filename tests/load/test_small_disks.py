"""Full and read-only disks, made of a tmpfs in a mount namespace of the child's own: nothing is left mounted."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daskae.load.base import Load, Strategy
from tests.support import ROOT

from .building import A, B, build_load, shop
from .harm import STRATEGIES, two_loads

AS_ANYBODY = ["unshare", "--map-root-user", "--mount"]
AS_ROOT = ["unshare", "--mount"]  # a server refuses to run as root, and another user needs a namespace that knows it


def in_namespace(namespace: list[str], disk: Path, case: str, target: str, loads: tuple[Load, Load]) -> dict[str, Any]:
    """Run tests.load.small_disk; return what it found."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare command")
    disk.mkdir()
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this machine does not let a process mount a small disk of its own")
    pickles = [disk.with_name(f"{load.load_id[:1]}.pickle") for load in loads]
    for path, load in zip(pickles, loads, strict=True):
        path.write_bytes(pickle.dumps(load))
    command = [*namespace, sys.executable, "-m", "tests.load.small_disk", str(disk), case, target, *map(str, pickles)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("case", "message", "target"),
    [
        ("full", "disk of the database is full", "sqlite:///{}/metrics.db"),
        ("full", "disk of the target is full", "{}/out"),
        ("read-only", "cannot be written", "sqlite:///{}/metrics.db"),
        pytest.param("read-only", "cannot be written", "{}/out", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_does_not_take_the_load(case: str, message: str, target: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    loads = (build_load(tmp_path, A, shop("north")), build_load(tmp_path, B, shop("south", 150_000)))
    found = in_namespace(AS_ANYBODY, disk, case, target.format(disk), loads)
    assert found["said"].keys() == ({"publish"} if case == "full" else {"preflight", "publish"})
    for text in found["said"].values():
        assert message in text
        assert str(disk) in text
    assert found["kept"]
    assert found["again"] == {"customer_metrics": 150_000, "kpis": 1}


@pytest.mark.parametrize(
    ("kind", "strategy"),
    [
        pytest.param(kind, strategy, marks=[] if (kind, strategy) in (("sqlite", "upsert"), ("parquet", "append"))
                     else [pytest.mark.slow])
        for kind in ("sqlite", "parquet", "postgresql")
        for strategy in STRATEGIES
    ],
)  # fmt: skip
def test_a_disk_that_is_full_at_any_point_then_run_again(kind: str, strategy: Strategy, tmp_path: Path) -> None:
    if kind == "postgresql" and os.geteuid() != 0:
        pytest.skip("only root can mount a disk for a server of another user")
    disk = (Path("/var/tmp") if kind == "postgresql" else tmp_path) / f"daskae-disk-{os.getpid()}"
    try:
        namespace = AS_ROOT if kind == "postgresql" else AS_ANYBODY
        found = in_namespace(namespace, disk, "every-point", kind, two_loads(tmp_path, strategy))
    finally:
        disk.rmdir()
    assert found["points"] >= 4
    assert found["said"]
    for text in found["said"].values():
        assert "is full" in text or "connection to the database was lost" in text
