import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daskae.faults import CRASH_VARIABLE, NOTES_VARIABLE, crash_point

THREE_PASSES = """
from daskae.faults import crash_point
for number in range(3):
    crash_point("here")
    print(number, flush=True)
"""


def run(crash_at: str | None) -> tuple[int, str]:
    environment = {} if crash_at is None else {CRASH_VARIABLE: crash_at}
    done = subprocess.run(
        [sys.executable, "-c", THREE_PASSES], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.replace("\n", "")


@pytest.mark.parametrize(
    ("crash_at", "code", "passed"),
    [
        (None, 0, "012"),
        ("elsewhere", 0, "012"),
        ("here", -signal.SIGKILL, ""),
        ("here:1", -signal.SIGKILL, ""),
        ("here:3", -signal.SIGKILL, "01"),
        ("here:4", 0, "012"),
    ],
)
def test_the_process_dies_at_the_named_pass(crash_at: str | None, code: int, passed: str) -> None:
    assert run(crash_at) == (code, passed)


@pytest.mark.parametrize("count", ["0", "x", "-1", "1.5"])
def test_a_count_that_is_none_is_an_error(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CRASH_VARIABLE, f"here:{count}")
    crash_point("elsewhere")
    with pytest.raises(ValueError, match=f"here:{count} is not a name"):
        crash_point("here")


def test_what_is_done_is_told_and_added_to_a_file(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("before\n")
    environment = {CRASH_VARIABLE: "here:2", NOTES_VARIABLE: str(notes)}
    done = subprocess.run(
        [sys.executable, "-c", THREE_PASSES], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "SIGKILL at here\n")
    assert notes.read_text() == "before\nSIGKILL at here\n"
