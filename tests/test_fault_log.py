"""The fault log itself: what is noted where, the verdicts, workers of pytest-xdist, and nothing without the option."""

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daskae.faults import NOTES_VARIABLE
from tests.fault_log import CHECKS, KINDS, armed, begin, checked, fault, strike, target_of
from tests.fault_log.document import SCHEMA_VERSION, Line, summarize
from tests.fault_log.notes import Made, read_notes
from tests.support import ROOT

pytest_plugins = ["pytester"]

TESTS = """
import os, signal, subprocess, sys
import pytest
from daskae.faults import NOTES_VARIABLE
from tests.fault_log import checked, fault

KILLED = "import os; from daskae.faults import crash_point; crash_point('sqlite.staged')"

def test_survives():
    fault("cut connection", "at the commit", target="postgresql", seed=7, count=3)
    environment = {**os.environ, "DASKAE_CRASH_AT": "sqlite.staged"}
    assert subprocess.run([sys.executable, "-c", KILLED], env=environment).returncode == -signal.SIGKILL
    checked("rows")

def test_fails():
    fault("full disk", "in the middle", seed="a")
    assert not "lost"

def test_is_skipped():
    fault("full disk", "and nobody looked")
    pytest.skip("no")

@pytest.fixture
def broken():
    yield
    raise ValueError("something was left behind")

def test_whose_end_fails(broken):
    fault("pause", "in the middle", "worker")

def test_without_faults():
    checked("bytes")

def test_who_looks_where_notes_go():
    assert (NOTES_VARIABLE in os.environ) == (os.environ["EXPECTED"] == "notes")
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A place with some tests that make faults; what is done there is none of this run's."""
    monkeypatch.delenv(NOTES_VARIABLE, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("EXPECTED", "notes")
    pytester.makepyfile(TESTS)
    return pytester


def run_inner(place: pytest.Pytester, *options: str) -> pytest.RunResult:
    return place.runpytest_subprocess("-p", "tests.fault_log.plugin", "-p", "no:cacheprovider", *options)


def read(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [[line for line in lines if line["record"] == kind] for kind in ("run", "fault")]  # type: ignore[return-value]


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_each_fault_has_the_verdict_of_its_test(workers: str, inner: pytest.Pytester) -> None:
    result = run_inner(inner, "-n", workers, "--fault-log", "faults.jsonl")
    result.assert_outcomes(passed=4, failed=1, skipped=1, errors=1)
    (run,), faults = read(inner.path / "faults.jsonl")
    assert run["schema_version"] == SCHEMA_VERSION
    assert run["tests"] == {"failed": 2, "passed": 3, "skipped": 1}
    assert all(run["versions"][name] for name in ("daskae", "dask", "pyarrow", "polars"))
    found = {(line["test"].partition("::")[2], line["kind"]): line for line in faults}
    assert {key: (line["count"], line["verdict"]) for key, line in found.items()} == {
        ("test_survives", "cut connection"): (3, "survived"),
        ("test_survives", "kill"): (1, "survived"),
        ("test_fails", "full disk"): (1, "failed"),
        ("test_is_skipped", "full disk"): (1, "failed"),
        ("test_whose_end_fails", "pause"): (1, "failed"),
    }
    cut, kill = found["test_survives", "cut connection"], found["test_survives", "kill"]
    assert (cut["where"], cut["target"], cut["seed"], cut["checks"]) == ("at the commit", "postgresql", 7, {"rows": 1})
    assert (kill["where"], kill["process"], kill["target"]) == ("sqlite.staged", "driver", "sqlite")
    # pytest's own last line stays the last one.
    table = [" ".join(line.split()) for line in result.outlines]
    assert "kill driver 1 . 1 1 . 1 . ." in table
    assert "all 5 2 7 4 3 4 . ." in table
    assert table.index("all 5 2 7 4 3 4 . .") < len(table) - 1
    assert "passed" in table[-1]


def test_the_next_run_is_added(inner: pytest.Pytester) -> None:
    for test in ("test_survives", "test_fails"):
        result = run_inner(inner, "--fault-log", "faults.jsonl", "-k", test)
    runs, faults = read(inner.path / "faults.jsonl")
    assert len({run["run"] for run in runs}) == 2
    assert [(line["kind"], line["run"]) for line in faults] == [
        ("cut connection", runs[0]["run"]), ("kill", runs[0]["run"]), ("full disk", runs[1]["run"]),
    ]  # fmt: skip
    result.stdout.fnmatch_lines(["all *", "2 run(s) of the tests, of which 2 made faults; commit*"])
    printed = subprocess.run(
        [sys.executable, "-m", "tests.fault_log", "faults.jsonl"], cwd=inner.path, capture_output=True, text=True,
        check=True,
    ).stdout.splitlines()  # fmt: skip
    assert printed == [line for line in result.outlines if line in printed]


@pytest.mark.slow
def test_a_worker_that_dies_has_told_what_it_did(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        test_deadly="import os\nfrom tests.fault_log import strike\n"
        "def test_dies(): strike(os.getpid(), 9, 'in a test', 'pytest')\n"
    )
    run_inner(inner, "-n", "1", "--fault-log", "faults.jsonl", "-k", "test_deadly")
    _, (line,) = read(inner.path / "faults.jsonl")
    assert (line["kind"], line["where"], line["verdict"]) == ("kill", "in a test", "failed")


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_without_the_option_nothing_is_noted(
    workers: str, inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("EXPECTED", "nothing")
    result = run_inner(inner, "-n", workers)
    result.assert_outcomes(passed=4, failed=1, skipped=1, errors=1)
    result.stdout.no_fnmatch_line("*injected*")
    assert list(inner.path.rglob("*.jsonl")) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [("order_id,customer_id\n", "no fault log"), ('{"record": "run", "schema_version": 99}\n', "schema_version 99")],
)
def test_another_file_is_refused_before_any_test(text: str, said: str, inner: pytest.Pytester) -> None:
    (inner.path / "other").write_text(text)
    result = run_inner(inner, "--fault-log", "other")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--fault-log:*{said}*"])
    assert (inner.path / "other").read_text() == text


def test_a_folder_that_is_not_there_is_said_before_any_test(inner: pytest.Pytester) -> None:
    result = run_inner(inner, "--fault-log", "missing/faults.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--fault-log: there is no folder *missing*"])


def test_notes_are_read_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTES_VARIABLE, str(tmp_path / "notes"))
    begin("one")
    checked("rows")
    begin("two")
    checked("rows")
    for seed in (1, 1, 2):
        fault("silence", "at the commit", "server", "mariadb", seed)
    fault("flipped bit", "nowhere", count=0)
    checked("contents")
    armed("worker", "parquet")
    with (tmp_path / "notes").open("a") as file:
        file.write("SIGSTOP at plan.made\n")
    checked("bytes")
    begin("three")
    (two,) = read_notes(tmp_path / "notes")
    once, twice = (Made("silence", "at the commit", "server", "mariadb", seed) for seed in (2, 1))
    pause = Made("pause", "plan.made", "worker", "parquet", None)
    assert two.test == "two"
    assert dict(two.faults) == {twice: 2, once: 1, pause: 1}
    # What was checked before a fault is no check of it.
    assert two.checks == {twice: {"contents": 1, "bytes": 1}, once: {"contents": 1, "bytes": 1}, pause: {"bytes": 1}}


def test_a_signal_that_reaches_nobody_is_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setenv(NOTES_VARIABLE, str(notes))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        strike(child.pid, signal.SIGKILL, "while it waits", "child")
        assert child.wait() == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            strike(child.pid, signal.SIGKILL, "when it is gone", "child")
    assert [json.loads(line)["where"] for line in notes.read_text().splitlines()] == ["while it waits"]


def test_the_summary_counts_faults_by_kind_and_process() -> None:
    same: Line = {"record": "fault", "run": "r", "process": "driver", "target": "", "where": "here", "seed": None}
    lines = [
        {**same, "kind": "pause", "count": 2, "verdict": "failed", "test": "a", "checks": {}},
        {**same, "kind": "kill", "count": 3, "verdict": "survived", "test": "b", "checks": {"rows": 1, "bytes": 9}},
        {**same, "kind": "kill", "count": 1, "verdict": "failed", "test": "c", "checks": {}, "seed": 5},
    ]
    assert [line.split() for line in summarize(lines)[:4]] == [
        ["fault", "of", "places", "seeds", "injected", "survived", "failed", *CHECKS],
        ["kill", "driver", "1", "1", "4", "3", "1", "3", "3", "."],
        ["pause", "driver", "1", ".", "2", ".", "2", ".", ".", "."],
        ["all", "2", "1", "6", "3", "3", "3", "3", "."],
    ]
    assert len(set(KINDS)) == len(KINDS)


@pytest.mark.parametrize(
    ("url", "kind"),
    [("out/", "parquet"), ("/x/out", "parquet"), ("sqlite:///x.db", "sqlite"), ("memory://x/out", "memory"),
     ("postgresql://me:sesame@host/db", "postgresql"), ("portable+sqlite:///x.db", "portable")],
)  # fmt: skip
def test_a_target_is_told_by_its_kind(url: str, kind: str) -> None:
    assert target_of(url) == kind


def test_without_a_file_for_notes_none_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NOTES_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    fault("kill", "nowhere")
    checked("rows")
    assert os.listdir(tmp_path) == []


# The place for it, and what stops a server that the tests no longer need.
SENDERS = {"tests/fault_log/__init__.py", "tests/load/server.py", "tests/load/mariadb_server.py"}


def sends_a_signal(node: ast.AST) -> bool:
    """Whether a call sends a signal, and not the one that lets a process go on."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    function, arguments = ast.unparse(node.func), [ast.unparse(argument) for argument in node.args]
    if function in ("os.kill", "os.killpg") or node.func.attr in ("send_signal", "suspend"):
        return "signal.SIGCONT" not in arguments
    return False


def test_no_test_sends_a_signal_without_a_note() -> None:
    """What is left of a test is killed by ``kill`` of its process, which takes no signal."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if any(sends_a_signal(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found == SENDERS
