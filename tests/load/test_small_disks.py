"""Full and read-only disks, made of a tmpfs in a mount namespace of the child's own: nothing is left mounted."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .building import A, B, build_load, shop

NAMESPACE = ["unshare", "--map-root-user", "--mount"]

CHILD = """
import pickle, subprocess, sys
from pathlib import Path
from daskae.errors import LoadError
from daskae.load.targets import open_sink

disk, target, case, first, second = sys.argv[1:]
first, second = (pickle.loads(Path(path).read_bytes()) for path in (first, second))

def mount(*options):
    subprocess.run(["mount", *options, disk], check=True)

mount("-t", "tmpfs", "-o", "size=500k", "tmpfs")
sink = open_sink(target)
sink.publish(first)
if case == "read-only":
    mount("-o", "remount,ro")
for step in (sink.publish,) if case == "full" else (sink.preflight, sink.publish):
    try:
        step(second)
    except LoadError as error:
        print(step.__name__, error)
if case == "read-only":
    mount("-o", "remount,rw")
print("old load still there:", sink.preflight(first) is not None)
"""


@pytest.fixture(scope="module")
def _private_mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare command")
    probe = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path_factory.mktemp("probe"))]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a process mount a small disk of its own")


@pytest.mark.usefixtures("_private_mounts")
@pytest.mark.parametrize("target", ["sqlite:///{}/metrics.db", "{}/out"])
@pytest.mark.parametrize(
    ("case", "message"), [("full", "disk of the target is full"), ("read-only", "cannot be written")]
)
def test_a_disk_that_does_not_take_the_load(case: str, message: str, target: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    loads = [build_load(tmp_path, A, shop("north")), build_load(tmp_path, B, shop("south", 150_000))]
    pickles = [tmp_path / f"{load.load_id[:1]}.pickle" for load in loads]
    for path, load in zip(pickles, loads, strict=True):
        path.write_bytes(pickle.dumps(load))
    command = [*NAMESPACE, sys.executable, "-c", CHILD, str(disk), target.format(disk), case, *map(str, pickles)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if case == "full" and target.startswith("sqlite"):
        message = "disk of the database is full"
    steps = ["publish"] if case == "full" else ["preflight", "publish"]
    for step in steps:
        assert any(line.startswith(step) and message in line for line in done.stdout.splitlines()), done.stdout
    assert str(disk) in done.stdout
    assert "old load still there: True" in done.stdout
