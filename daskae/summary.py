"""The closing record of a run: what ``--json`` prints, what ``manifest.json`` keeps, what the report is drawn from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from daskae.events import Status

SCHEMA_VERSION = 1
PROFILE = "profile.json"
"""Name of the profile that a thorough run leaves in its folder."""


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
    kind: str = ""
    status: str = ""
    """``passed``, ``failed``, ``error`` where the rule itself failed, or ``skipped``."""
    tags: tuple[str, ...] = ()
    description: str = ""
    seconds: float = 0.0
    """Time spent on it, added up over tasks."""
    samples: tuple[dict[str, Any], ...] = ()
    """First rows that break it, in input order: ``file``, ``row_number``, ``value``."""
    observed: dict[str, Any] = field(default_factory=dict)
    """What depends on the clock or on earlier runs, such as the age of the newest date."""


@dataclass(frozen=True)
class ValidationSummary:
    """All rules together."""

    executed: int
    passed: int
    failed: int
    errors: int
    """Failed rules of severity error."""
    warnings: int
    """Failed rules of severity warning."""
    pass_rate: float
    """Passed by executed; 1 where no rule was executed."""
    passed_rules: tuple[str, ...]
    failed_rules: tuple[str, ...]
    error_rules: tuple[str, ...]
    warning_rules: tuple[str, ...]
    skipped_rules: tuple[str, ...]
    """Rules that the tags asked for leave out, or that had nothing to compare with."""

    @classmethod
    def of(cls, rules: Sequence[RuleOutcome], skipped: Sequence[str] = ()) -> "ValidationSummary":
        """Count outcomes."""
        executed = [rule for rule in rules if rule.status != "skipped"]
        passed = tuple(rule.rule_name for rule in executed if rule.passed)
        failed = [rule for rule in executed if not rule.passed]
        errors = tuple(rule.rule_name for rule in failed if rule.severity == "error")
        warnings = tuple(rule.rule_name for rule in failed if rule.severity == "warning")
        left_out = (*skipped, *(rule.rule_name for rule in rules if rule.status == "skipped"))
        return cls(
            len(executed), len(passed), len(failed), len(errors), len(warnings),
            round(len(passed) / len(executed), 6) if executed else 1.0,
            passed, tuple(rule.rule_name for rule in failed), errors, warnings, left_out,
        )  # fmt: skip


@dataclass(frozen=True)
class StepOutcome:
    """What became of the rows in one transformation."""

    name: str
    at: str
    """``before_rules``, ``after_rules``, or ``late`` where it needed all rows or customers at once."""
    rows_in: int
    rows_out: int
    """Fewer where the step rejected rows."""
    failed: int = 0
    """Rows left as they are because the step failed on them."""
    partitions: int = 0
    skipped_partitions: int = 0
    """Partitions for which its condition was not true."""
    seconds: float = 0.0
    """Time spent on it, added up over tasks."""
    error: str = ""
    """One of the errors, if there were any."""
    on_error: str = "raise"
    description: str = ""
    tags: tuple[str, ...] = ()


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
    changes: dict[str, int] = field(default_factory=dict)
    """Rows inserted, updated, unchanged, deleted and rejected, where the target counts them."""


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
    corrected_rows: int = 0
    """Rows read that are corrections of rejected rows."""
    rules: tuple[RuleOutcome, ...] = ()
    skipped_rules: tuple[str, ...] = ()
    data_id: str = ""
    """Identity of the sources: another one means that some of them changed."""
    quality: dict[str, Any] = field(default_factory=dict)
    """Scores of columns and rows; filled by the profile ``thorough``."""
    steps: tuple[StepOutcome, ...] = ()
    """Transformations, in the order they ran."""
    inputs: tuple[str, ...] = ()
    files: int = 0
    input_bytes: int = 0
    as_of: str = ""
    message: str = ""
    """Why it was refused or failed; empty when all went well."""
    mended: tuple[str, ...] = ()
    """Workers that were lost, memory that got short, parts that were cut or run again; the first of them, in order."""

    @property
    def profile(self) -> str:
        """Path of the profile of all columns; empty unless the run was ``thorough``."""
        return f"{self.run_dir}/{PROFILE}" if self.quality else ""

    @property
    def validation(self) -> ValidationSummary:
        """All rules together."""
        return ValidationSummary.of(self.rules, self.skipped_rules)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; the keys are a contract and change only with ``schema_version``."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "validation": asdict(self.validation)}
