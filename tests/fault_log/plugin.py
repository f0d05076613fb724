"""What pytest does with ``--fault-log FILE``: add to it what faults the tests made, and the verdict on each.

A fault is survived if the test that made it has passed, its setup and its end too; in any other test it is failed.
Each process that runs tests has a file of notes of its own; the one that the user started reads them at the end, so
what was done in a worker of pytest-xdist that died is told, too. Without the option nothing of this is there.
"""

import os
import shutil
import tempfile
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from daskae.faults import NOTES_VARIABLE
from tests.fault_log import begin
from tests.fault_log.document import (
    SCHEMA_VERSION,
    Line,
    NoFaultLogError,
    add_to_log,
    describe_machine,
    read_log,
    summarize,
)
from tests.fault_log.notes import Noted, read_notes

_PHASES = {"setup", "call", "teardown"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-log", metavar="FILE", help="add to FILE what faults tests made and what became of them")


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.fault_log:
        return
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    if given is not None:
        config.pluginmanager.register(Notes(Path(given["fault_notes"])), "fault-notes")
        return
    # What is found out only at the end may have cost hours.
    path = Path(config.option.fault_log).absolute()
    if not path.parent.is_dir():
        raise pytest.UsageError(f"--fault-log: there is no folder {path.parent}")
    try:
        read_log(path)
    except NoFaultLogError as error:
        raise pytest.UsageError(f"--fault-log: {error}") from error
    log = FaultLog(path, config)
    config.pluginmanager.register(log, "fault-log")
    config.pluginmanager.register(Notes(log.notes / "main"), "fault-notes")


class Notes:
    """In a process that runs tests: where notes go, and of which test they are."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._before = os.environ.get(NOTES_VARIABLE)
        os.environ[NOTES_VARIABLE] = str(path)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        begin(item.nodeid)

    def pytest_unconfigure(self) -> None:
        os.environ.pop(NOTES_VARIABLE, None)
        if self._before is not None:
            os.environ[NOTES_VARIABLE] = self._before


class FaultLog:
    """In the process that the user started: the outcomes of all tests, and the log."""

    def __init__(self, path: Path, config: pytest.Config) -> None:
        self._path, self._config = path, config
        self.notes = Path(tempfile.mkdtemp(prefix="daskae-fault-notes-"))
        self._began, self._machine = datetime.now(UTC), describe_machine(config.rootpath)
        self._passed: dict[str, set[str]] = {}
        """The phases of each test, as far as they passed."""
        self._failed: set[str] = set()
        self._skipped: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of pytest-xdist where its notes go."""
        node.workerinput["fault_notes"] = str(self.notes / node.gateway.id)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        phases = self._passed.setdefault(report.nodeid, set())
        if report.passed:
            phases.add(str(report.when))
        else:
            (self._failed if report.failed else self._skipped).add(report.nodeid)

    def _survived(self, test: str) -> bool:
        return self._passed.get(test) == _PHASES and test not in self._failed | self._skipped

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        noted = [item for path in sorted(self.notes.iterdir()) for item in read_notes(path)]
        run = f"{self._began:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        faults = [line for item in noted for line in self._lines(run, item)]
        add_to_log(self._path, [self._describe(run), *faults])

    def _describe(self, run: str) -> Line:
        outcomes = Counter(
            "failed" if test in self._failed else "skipped" if test in self._skipped else "passed"
            for test in self._passed
        )
        return {
            "record": "run", "schema_version": SCHEMA_VERSION, "run": run,
            "began": self._began.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - self._began).total_seconds()),
            "markers": self._config.option.markexpr, "tests": dict(sorted(outcomes.items())),
            **self._machine,
        }  # fmt: skip

    def _lines(self, run: str, noted: Noted) -> list[Line]:
        verdict = "survived" if self._survived(noted.test) else "failed"
        return [
            {"record": "fault", "run": run, **made._asdict(), "count": count, "test": noted.test, "verdict": verdict,
             "checks": dict(sorted(noted.checks[made].items()))}
            for made, count in noted.faults.items()
        ]  # fmt: skip

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"faults, {self._path.name}")
        for line in summarize(read_log(self._path)):
            terminalreporter.line(line)

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self.notes)
