"""The closing record of a run: what ``--json`` prints, what ``manifest.json`` keeps, what the report is drawn from."""

from dataclasses import asdict, dataclass, field
from typing import Any

from daskae.events import Status

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RuleOutcome:
    """How one rule went over the whole data set; a row of ``validation_results``."""

    rule_name: str
    severity: str
    """``error``, ``warning`` or ``info``."""
    passed: bool
    checked_rows: int
    affected_rows: int
    """Rows that break the rule, whatever else they break."""
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RowCounts:
    """Rows read = accepted + rejected, always."""

    read: int
    accepted: int
    rejected: int
    rejected_by_rule: dict[str, int]
    """Each rejected row under the first rule it broke; in the order the rules are tried."""


@dataclass(frozen=True)
class TableOutcome:
    """One published table."""

    rows: int
    target: str


@dataclass(frozen=True)
class RunSummary:
    """Everything a person or a program wants to know of a finished run."""

    run_id: str
    status: Status
    rows: RowCounts
    tables: dict[str, TableOutcome]
    kpis: dict[str, str | int | float | None]
    """Values by metric name; money as exact decimal text."""
    seconds: dict[str, float]
    """By stage, in order, with ``total``."""
    peak_memory_bytes: int
    """Largest measured peak of one process."""
    partitions: int
    reused_partitions: int
    run_dir: str
    report: str
    """Path of the HTML report."""
    quarantine: str
    """Folder of the rejected rows, empty when there are none."""
    engine: str
    load_id: str = ""
    already_published: bool = False
    rules: tuple[RuleOutcome, ...] = ()
    inputs: tuple[str, ...] = ()
    files: int = 0
    input_bytes: int = 0
    as_of: str = ""
    message: str = ""
    """Why it was refused or failed; empty when all went well."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data; the keys are a contract and change only with ``schema_version``."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}
