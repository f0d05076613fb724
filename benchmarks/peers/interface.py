"""What every peer takes and gives: files in, tables out, counts as JSON on standard output.

A peer is a module with one function ``run(task) -> Result`` and a last line ``main(run)``::

    python -m benchmarks.peers.duckdb INPUT OUT [--cpus 2]

It leaves ``OUT/customer_metrics/*.parquet``, ``OUT/cohort_metrics/*.parquet`` and ``OUT/rejected/*.parquet``.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("order_id", "customer_id", "order_date", "amount", "quantity", "status", "channel", "note")
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"
AMOUNT = r"[+-]?[0-9]{1,14}([.][0-9]{1,4})?"
"""An exact decimal with at most four digits after the point; fourteen before it fit DECIMAL(18, 4)."""
QUANTITY = r"[+-]?[0-9]{1,18}"
CHURN_DAYS = 365

STRUCTURE_RULES = ("malformed_quoting", "invalid_encoding", "wrong_field_count", "repeated_header")
ROW_RULES = ("missing_customer_id", "unparsable_date", "unparsable_number", "non_positive_quantity")
SET_RULES = ("exact_duplicate", "duplicate_order_id")
RULES = STRUCTURE_RULES + ROW_RULES + SET_RULES
"""The order in which rules are tried: a rejected row carries all that it breaks and counts under the first."""


@dataclass(frozen=True)
class Task:
    """One run of the job."""

    files: tuple[Path, ...]
    """Input files in the order that decides which of two equal rows is the first."""
    out: Path
    cpus: int
    memory: int = 0
    """MiB that may be taken; 0 for any."""

    @property
    def is_csv(self) -> bool:
        """Whether the input is text; Parquet otherwise."""
        return self.files[0].suffix == ".csv"

    @property
    def paths(self) -> list[str]:
        """The input files as text."""
        return [str(path) for path in self.files]

    def table(self, name: str) -> Path:
        """Give the folder of one output table, made if needed."""
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def part(self, name: str) -> str:
        """Give the file of an output table that is written as one."""
        return str(self.table(name) / "part-0.parquet")


@dataclass(frozen=True)
class Result:
    """What a peer tells about its run."""

    tool: str
    """Name and version."""
    accepted: int
    rejected_by_rule: Mapping[str, int]
    notes: tuple[str, ...] = ()
    """What this peer does less than the others."""

    def document(self) -> dict[str, object]:
        """Give the JSON document, in the shape that daskae prints."""
        rejected = sum(self.rejected_by_rule.values())
        rows = {
            "read": self.accepted + rejected,
            "accepted": self.accepted,
            "rejected": rejected,
            "rejected_by_rule": dict(self.rejected_by_rule),
        }
        return {"tool": self.tool, "rows": rows, "notes": list(self.notes)}


def input_files(folder: Path) -> tuple[Path, ...]:
    """List the data files of a folder in path order; names with an underscore are no input.

    Raises
    ------
    SystemExit
        If there are none.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in {".csv", ".parquet"} and path.name[0] != "_")
    if not files:
        raise SystemExit(f"no .csv or .parquet files in {folder}")
    return tuple(files)


def main(run: Callable[[Task], Result]) -> None:
    """Run a peer from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=0)
    given = parser.parse_args()
    task = Task(input_files(given.input.absolute()), given.out.absolute(), given.cpus, given.memory)
    task.out.mkdir(parents=True, exist_ok=True)
    json.dump(run(task).document(), sys.stdout)
    print()
