import logging
import re
from pathlib import Path

import pytest

from daskae.events import PlanReady, RunFinished, RunStarted, StageDone, StageStarted, StepApplied, Warned
from daskae.monitor.logfile import LOGGER, LogEvents, attach_log_file

from .scenes import FakeClock, task


def test_a_run_reads_like_a_story(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with attach_log_file(path):
        log = LogEvents(clock=FakeClock())
        log(RunStarted("r1", ("orders/",), "sqlite:///m.db", "runs/r1"))
        log(PlanReady(3, 3 * 2**20, 48, 12, 16, 2**28, "inline"))
        log(StageStarted("map", 36, 12, 1000))
        log(task(1))
        log(StageDone("map", 1.25))
        log(StepApplied("trim", 1000, 990, 2, 4, 1, 0.5))
        log(Warned("two files\nare empty"))
        log(RunFinished("refused", 75.0, "too many rejected rows"))
    lines = path.read_text("utf-8").splitlines()
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d ")
    assert all(stamp.match(line) for line in lines)
    assert [stamp.sub("", line) for line in lines] == [
        "INFO run r1 started: orders/ -> sqlite:///m.db in runs/r1",
        "INFO plan: 3 files, 3.0 MiB, 48 partitions (12 reused), 16 buckets, up to 256.0 MiB a task, inline",
        "INFO map started, 36 tasks",
        "INFO map 1/36 part-0001: 1,000 rows in 0.50 s, peak memory 300.0 MiB",
        "INFO map done in 1.25 s",
        "INFO step trim: 1,000 rows in, 990 out, failed on 2, skipped in 1 of 4 partitions, 0.50 s",
        "WARNING two files\\nare empty",
        "ERROR run finished, refused, in 1 min 15 s: too many rejected rows",
    ]


def test_tracebacks_go_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with attach_log_file(path):
        try:
            raise ValueError("broken")
        except ValueError:
            logging.getLogger("daskae.anything").exception("the run failed")
    text = path.read_text("utf-8")
    assert "ERROR the run failed\nTraceback" in text
    assert text.endswith("ValueError: broken\n")


def test_the_logger_is_as_before_also_after_an_error(tmp_path: Path) -> None:
    before = LOGGER.level, list(LOGGER.handlers)

    def fail() -> None:
        with attach_log_file(tmp_path / "run.log", logging.DEBUG):
            assert LOGGER.isEnabledFor(logging.DEBUG)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail()
    assert (LOGGER.level, list(LOGGER.handlers)) == before


def test_a_second_attempt_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    for attempt in (1, 2):
        with attach_log_file(path):
            LOGGER.info("attempt %d", attempt)
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["1", "2"]
