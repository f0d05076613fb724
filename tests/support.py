"""Whole runs as tests see them: start one, in this process or in one that may be killed, and read back what it left."""

import io
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daskae.aggregate.aggregation import Metric
from daskae.config import load_settings
from daskae.engine import forks
from daskae.errors import GateError
from daskae.faults import CRASH_VARIABLE, STOP_VARIABLE
from daskae.load.base import METADATA_COLUMNS
from daskae.run.job import run_job
from daskae.summary import RuleOutcome, RunSummary
from daskae.validate.custom import CustomRule
from tests.fault_log import armed, checked, fault, target_of

ROOT = Path(__file__).resolve().parent.parent
TABLES = ("customer_metrics", "cohort_metrics", "kpis", "validation_results")
HEADER = ("order_id", "customer_id", "order_date", "amount", "quantity", "note")

EXACT_DUPLICATE = {"rule": "unique", "name": "exact_duplicate", "columns": "*"}
REPEATED_ORDER = {"rule": "unique", "name": "repeated_order", "columns": ["order_id"]}
POSITIVE_QUANTITY = {"rule": "range", "name": "non_positive_quantity", "column": "quantity", "min": 1}
SMALL_AMOUNT = {"rule": "range", "name": "small_amount", "column": "amount", "max": 50, "on_failure": "warn"}

# Children are forked from a server that has the package in memory, so each is there in some hundredths of a second.
# A process has one such server, for local workers too, so who starts it first decides what it has imported.
for _modules in (forks.MODULES, forks.DASK_MODULES):
    _modules.append("tests.forked")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(forks.DASK_MODULES)
WAIT = 180


@dataclass(frozen=True)
class Run:
    """What one run left behind."""

    summary: RunSummary
    tables: dict[str, pa.Table]
    """By name, in row order, without the metadata columns; empty for a refused run."""
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    """By file and row number."""

    @property
    def counts(self) -> dict[str, int]:
        """Rejected rows by the first rule they broke, without rules that no row broke."""
        return {name: count for name, count in self.summary.rows.rejected_by_rule.items() if count}

    def rule(self, name: str) -> RuleOutcome:
        """Return the outcome of one rule."""
        return {item.rule_name: item for item in self.summary.rules}[name]

    def customer(self, customer_id: str) -> dict[str, Any]:
        """Return one customer's row."""
        rows: list[dict[str, Any]] = self.tables["customer_metrics"].to_pylist()
        return {row["customer_id"]: row for row in rows}[customer_id]


def run(
    inputs: Path | Sequence[Path],
    folder: Path,
    *,
    metrics: Sequence[Metric] = (),
    custom: Sequence[CustomRule] = (),
    definitions: Mapping[str, Any] | None = None,
    **flags: Any,
) -> Run:
    """Run the job in this process, in one thread, with ``folder/work`` and a Parquet target ``folder/out`` unless told.

    ``definitions`` is the table ``[metrics]`` of the settings, ``custom`` are rules in Python.
    """
    given = [inputs] if isinstance(inputs, Path) else list(inputs)
    values = {"work_dir": folder / "work", "to": f"{folder}/out/", "workers": 1, "cluster_name": "inline", **flags}
    config = values.pop("config", None)
    if definitions:
        values["metrics"] = dict(definitions)
    settings = load_settings({"inputs": [str(path) for path in given], **values}, config)
    try:
        summary = run_job(settings, metrics, rules=custom).summary
    except GateError as error:
        refused = cast(RunSummary, error.summary)
        return Run(refused, {}, read_quarantine(refused.quarantine))
    return Run(summary, read_tables(Path(settings.to)), read_quarantine(summary.quarantine))


def read_tables(folder: Path) -> dict[str, pa.Table]:
    """Read all tables of a Parquet target, in the order of their rows, without the metadata columns."""
    return {name: read_table(folder / name).drop_columns(list(METADATA_COLUMNS)) for name in TABLES}


def read_table(folder: Path) -> pa.Table:
    """Read one table from its folder, files in the order of their names."""
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet")))


def read_quarantine(folder: str | Path) -> list[dict[str, Any]]:
    """Read all rejected rows of a run, by file and row number, without the run's id."""
    rows: list[dict[str, Any]] = pq.read_table(folder).to_pylist() if folder else []
    for row in rows:
        assert row.pop("run_id") == Path(folder).parent.name
    return sorted(rows, key=lambda row: (row["file"], row["row_number"]))


def files_naming(folder: Path, text: str) -> list[str]:
    """Name the files that hold a text, as bytes or in a decoded cell; a link is looked at where it leads."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        cells = repr(pq.ParquetFile(path).read().to_pydict()) if path.suffix == ".parquet" else ""
        if text.encode() in path.read_bytes() or text in cells or text in path.name:
            found.append(str(path.relative_to(folder)))
    return found


def assert_same_tables(found: dict[str, pa.Table], expected: dict[str, pa.Table]) -> None:
    """Compare schemas, values and row order."""
    assert found.keys() == expected.keys()
    for name, table in expected.items():
        assert found[name].schema == table.schema, name
        if not found[name].equals(table):
            assert found[name].to_pylist() == table.to_pylist(), name
    checked("contents")


def assert_same(found: Run, expected: Run) -> None:
    """Compare tables, counts and rejected rows of two runs over the same files."""
    assert found.summary.rows == expected.summary.rows
    assert_same_tables(found.tables, expected.tables)
    assert found.quarantine == expected.quarantine


def orders_csv(count: int, first: int = 0, customers: int = 7) -> bytes:
    """Make clean orders with a few defects among them: order ids from ``first`` on, a month or so between orders."""
    lines = [",".join(HEADER)]
    for i in range(first, first + count):
        day = f"2023-{i % 12 + 1:02d}-{i % 28 + 1:02d}"
        amount = "oops" if i % 17 == 5 else f"{i % 90}.{i % 100:02d}"
        note = '"two\nlines"' if i % 11 == 3 else "plain"
        lines.append(f"O{i},C{i % customers},{day} 10:00:00,{amount},{i % 9},{note}")
    return ("\n".join(lines) + "\n").encode()


def write_settings(path: Path, *rules: dict[str, Any], **tables: dict[str, Any]) -> Path:
    """Write a TOML settings file of tables and rules; TOML takes JSON's texts, numbers and lists of them."""
    lines: list[str] = []
    for name, values in tables.items():
        lines += [f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in values.items())]
    for rule in rules:
        lines += ["[[rules]]", *(f"{key} = {toml_value(value)}" for key, value in rule.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def toml_value(value: Any) -> str:
    """Write one value."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


class Child:
    """The command in a process of its own, whose standard output goes to a file, and standard error too if told."""

    def __init__(
        self, argv: Sequence[str], output: Path, environment: Mapping[str, str] | None = None, errors: bool = False
    ) -> None:
        self.output = output
        self._target = target_of(argv[argv.index("--to") + 1]) if "--to" in argv else ""
        if {CRASH_VARIABLE, STOP_VARIABLE} & (environment or {}).keys():
            armed("driver", self._target)
        self._process = CONTEXT.Process(target=_main, args=(list(argv), output, errors, environment or {}))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def wait(self, seconds: float = WAIT) -> int | None:
        """Wait for the end and return the exit code; None if it did not come in time."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self, where: str = "at some moment", seed: int | None = None) -> int | None:
        """Send SIGKILL and return the exit code, which is another if the end came first."""
        self._process.kill()
        code = self.wait()
        fault("kill", where, "driver", self._target, seed, count=int(code == -signal.SIGKILL))
        return code

    def document(self) -> dict[str, Any]:
        """Return what ``--json`` printed."""
        document: dict[str, Any] = json.loads(self.output.read_text())
        return document


def _main(argv: list[str], output: Path, errors: bool, environment: Mapping[str, str]) -> None:
    from jobs.customer_metrics import main

    os.environ.update(environment)
    with output.open("w") as file, redirect_stdout(file):
        if errors:
            os.dup2(file.fileno(), sys.stderr.fileno())
        code = main(argv)
    sys.exit(code)


def fork_script(script: Path, argv: Sequence[str]) -> tuple[int, str, str]:
    """Run a script in its folder, as ``python SCRIPT ARGV`` would; its exit code and what it said on both outputs.

    It runs in a fork, which has imported the package already.
    """
    process = CONTEXT.Process(target=_script, args=(script, list(argv)))
    process.start()
    process.join(WAIT)
    assert process.exitcode is not None, f"{script} did not end in {WAIT} s"
    said, errors = (script.with_suffix(ending).read_text() for ending in (".stdout", ".stderr"))
    return process.exitcode, said, errors


def _script(script: Path, argv: list[str]) -> None:
    os.chdir(script.parent)
    for stream, ending in ((sys.stdout, ".stdout"), (sys.stderr, ".stderr")):
        with script.with_suffix(ending).open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.argv = [str(script), *argv]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


def call_main(argv: Sequence[str], **options: Any) -> tuple[int, str]:
    """Call the command in this process; return its exit code and what it printed to stdout."""
    from jobs.customer_metrics import main

    buffer = io.StringIO()
    with redirect_stdout(buffer):
        code = main([str(item) for item in argv], **options)
    return code, buffer.getvalue()


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT) -> Any:
    """Wait until a condition holds; what it returned."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s for {what}")
        time.sleep(0.02)
    return found


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below one, itself left out; those that end meanwhile are passed over."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def data_folder() -> Path:
    """Return the folder of the public data sets, or skip the test saying why."""
    folder = Path(os.environ.get("DASKAE_TEST_DATA") or ROOT / ".." / "shared" / "data").resolve()
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set DASKAE_TEST_DATA to their folder")
    return folder
