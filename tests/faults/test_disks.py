"""Full and read-only disks below the work directory, made of a tmpfs in a mount namespace of the child's own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daskae.config import load_settings
from daskae.errors import PlanError, WorkDirError
from daskae.run import workdir
from daskae.run.job import make_context
from daskae.run.workdir import explained
from tests.support import ROOT

from .checker import numbered_orders

NAMESPACE = ["unshare", "--map-root-user", "--mount"]
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
    inputs.write_bytes(b"".join(numbered_orders(12_000).replace(b"plain", b"x" * 60)))
    disk.mkdir()
    argv = [str(inputs), "--to", f"{tmp_path}/out/", "--work-dir", str(disk / "work"), "--block-size", "100KiB"]
    config = tmp_path / "settings.toml"
    config.write_text("[money]\nscale = 0\n")
    given = json.dumps([str(disk), size, what, *argv, "--config", str(config), "--quiet", "--json", *flags])
    return subprocess.run(
        [*NAMESPACE, sys.executable, "-c", CHILD, given], capture_output=True, text=True, check=False, cwd=ROOT
    )


# Full in the first files, in the middle of the partitions, and when customers are grouped.
@pytest.mark.usefixtures("_private_mounts")
@pytest.mark.parametrize("size", ["60k", "300k", "500k", "700k"])
def test_a_full_work_directory(size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKAE_CLUSTER__INLINE_BELOW", "1GiB")
    done = on_small_disk(tmp_path, size, "full")
    assert done.returncode == 0, done.stderr
    assert "first 1" in done.stdout, done.stdout + done.stderr
    assert "the disk of the work directory is " in done.stderr
    assert str(tmp_path / "disk") in done.stderr
    assert " free" in done.stderr
    assert "at least" in done.stderr
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert "again 0" in done.stdout, done.stderr
