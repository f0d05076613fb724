import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daskae.events import PlanReady, RunFinished, RunStarted, StageDone, StageStarted, Warned
from daskae.monitor.history import EventLog, read_events
from tests.fault_log import fault

from .scenes import task


def test_every_event_is_one_json_line_in_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events = [
        RunStarted("r1", ("orders/",), "sqlite:///m.db", str(tmp_path), at=1.5),
        PlanReady(3, 1000, 4, 1, 16, 2**28, "inline", at=2.0),
        StageStarted("map", 3, 1, 750, at=3.0),
        task(1),
        StageDone("map", 1.0, at=4.0),
        RunFinished("done", 5.0, at=6.0),
    ]
    with EventLog(path) as log:
        for event in events:
            log(event)
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        json.loads(json.dumps(event.to_json(), default=list)) for event in events
    ]
    assert [json.loads(line)["event"] for line in lines][:2] == ["RunStarted", "PlanReady"]


def test_a_line_is_there_as_soon_as_the_event_is(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        for count in range(1, 4):
            log(Warned(f"event {count}"))
            assert len(list(read_events(path))) == count


def test_a_killed_process_leaves_valid_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    code = (
        "import os, signal, sys; from pathlib import Path; from daskae.events import Warned;"
        "from daskae.monitor.history import EventLog; log = EventLog(Path(sys.argv[1]));"
        "[log(Warned(f'event {n}')) for n in range(100)]; os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    fault("kill", "after a hundred events", "writer of events")
    assert [event["message"] for event in read_events(path)] == [f"event {n}" for n in range(100)]


def test_a_torn_line_is_not_read_and_is_cut_off_when_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"Warned","message":"whole"}\n{"event":"Warn')
    assert [event["message"] for event in read_events(path)] == ["whole"]
    with EventLog(path) as log:
        log(Warned("next"))
    assert [event["message"] for event in read_events(path)] == ["whole", "next"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_full_disk_is_told_and_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.jsonl"

    class FullDisk:
        """Takes five bytes, then no more."""

        def __init__(self, log: EventLog) -> None:
            self.file = log._file
            self.full = False

        def write(self, line: bytes) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            self.full = True
            return self.file.write(line[:5]) or 0

        def fileno(self) -> int:
            return self.file.fileno()

        def truncate(self, size: int) -> int:
            return self.file.truncate(size)

    with EventLog(path) as log:
        log(Warned("whole"))
        with monkeypatch.context() as patch:
            patch.setattr(log, "_file", FullDisk(log))
            with pytest.raises(OSError, match="No space left"):
                log(Warned("torn"))
        log(Warned("after"))
    assert [event["message"] for event in read_events(path)] == ["whole", "after"]


def test_any_file_name_gives_valid_utf8_and_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    name = os.fsdecode(b"caf\xe9.csv")
    with EventLog(path) as log:
        log(Warned(name))
        log(Warned("Zürich\u2028\n"))
    assert len(path.read_bytes().decode("utf-8").splitlines()) == 3  # U+2028 is a line end for Python only
    assert [event["message"] for event in read_events(path)] == [name, "Zürich\u2028\n"]


def test_the_end_of_a_run_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with EventLog(tmp_path / "events.jsonl") as log:
        log(task(1))
        assert not synced
        log(RunFinished("failed", 1.0, "boom"))
        assert len(synced) == 1
