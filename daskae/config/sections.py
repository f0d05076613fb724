"""The tables of a settings file, each with its keys, their defaults and what they mean."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from daskae.units import parse_bytes, parse_seconds

Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
OnFailure = Literal["reject_row", "warn", "info", "block_run"]
ColumnType = Literal["text", "decimal", "integer", "float", "datetime", "date", "boolean"]
DriftPolicy = Literal["evolve", "freeze", "ignore", "quarantine"]
MetadataName = Literal["_load_id", "_loaded_at", "_source_rows"]


class Section(BaseModel):
    """A table of the file: unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSettings(Section):
    """``[input]``: how the sources are written."""

    delimiter: str = ","
    """One character or a few, or ``whitespace`` for runs of blanks."""
    quote: str = '"'
    escape: str = ""
    """Character that makes the one behind it ordinary, such as a backslash before a quote; none unless set."""
    encoding: str = "utf-8"
    header: list[str] | None = None
    """Names of the columns, for sources without a header line."""
    skip_rows: int = Field(0, ge=0)
    """Lines at the start of every file that are left out, before its header line."""
    null_values: list[str] = []
    """Texts that stand for "nothing here", beside the empty text."""
    timezone: str = "UTC"
    """Zone that times with an offset are converted to; times without one are taken as they are."""
    max_record_bytes: Bytes = 16 << 20
    max_expansion: int = Field(250, ge=1)
    """Bytes behind one byte of a compressed file, at most, where it holds more than 256 MiB."""
    table: str | None = None
    """Table to read where INPUT is a database URL."""
    query: str | None = None
    """Query to read where INPUT is a database URL."""
    key: str | None = None
    """Integer column by whose ranges a table or query is read in partitions."""
    partitions: int = Field(8, ge=1)
    """Key ranges a table or query is read in."""

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # a folder of zones is an OSError
            raise ValueError("the name of a time zone, such as UTC or Europe/Berlin") from None
        return name


class MoneySettings(Section):
    """``[money]``."""

    scale: int = Field(4, ge=0, le=9)
    """Digits kept after the point; a text with more is a rejected row."""


class ColumnSettings(Section):
    """One entry of ``[columns]`` written as a table."""

    column: str | None = None
    expression: str | None = None
    dtype: ColumnType | None = None
    format: str | list[str] | None = None
    personal: bool = False
    """Whether its values name a person and are not to be shown; as if it stood in ``privacy.mask``."""

    @model_validator(mode="after")
    def _one_source(self) -> "ColumnSettings":
        if (self.column is None) == (self.expression is None):
            raise ValueError("give either column or expression")
        return self


class RuleSettings(Section):
    """One ``[[rules]]`` entry; which parameters a rule takes is checked when it is built."""

    rule: str
    name: str | None = None
    description: str = ""
    enabled: bool = True
    tags: list[str] = []
    on_failure: OnFailure | None = None
    severity: Literal["error", "warning", "info"] | None = None
    column: str | None = None
    columns: list[str] | Literal["*"] | None = None
    min: float | int | str | date | None = None
    max: float | int | str | date | None = None
    values: list[str | int | float] | None = None
    pattern: str | None = None
    expression: str | None = None
    max_rows: int | None = Field(None, ge=0)
    """Rows that may break the rule before it counts as failed."""
    max_share: float | None = Field(None, ge=0, le=1)
    """Share of rows that may break the rule before it counts as failed."""
    min_share: float | None = Field(None, ge=0, le=1)
    """Share of rows that must hold a value; for completeness."""
    dtype: ColumnType | None = None
    """Type that the texts of a column must be readable as."""
    format: str | list[str] | None = None
    """How dates are written, where ``dtype`` is one."""
    direction: Literal["increasing", "decreasing"] | None = None
    strict: bool | None = None
    """Whether equal neighbours break a monotonic rule."""
    max_age_days: int | None = Field(None, ge=0)
    as_of: date | Literal["today"] | None = None
    """Day by which freshness is judged; ``today`` is the one place where a rule looks at the clock."""
    min_ratio: float | None = Field(None, ge=0)
    """Least accepted rows, as a multiple of the last successful run's."""
    max_ratio: float | None = Field(None, ge=0)
    """Most accepted rows, as a multiple of the last successful run's."""
    source: str | None = None
    """File, folder, pattern or URL that holds the keys of a reference."""
    source_column: str | None = None
    """Column of the keys there; the rule's own column name unless given."""
    table: str | None = None
    """Table of the keys, where the source is a database URL."""
    statistic: Literal["mean", "min", "max", "quantile", "share"] | None = None
    quantile: float | None = Field(None, ge=0, le=1)
    value: str | int | float | bool | None = None
    """The category whose share is bound."""


class ValidationSettings(Section):
    """``[validation]``: which rules run, and how much is looked at beside them."""

    profile: Literal["fast", "thorough"] = "fast"
    """``thorough`` adds a profile of every column and quality scores to the pass that reads the data."""
    tags: list[str] = []
    """Run only rules with one of these tags; the contract is always enforced."""
    exclude_tags: list[str] = []
    """Do not run rules with one of these tags."""
    check_determinism: bool = True
    """Call functions in steps, rules and metrics a second time with a few rows, and fail where they differ."""
    samples: int = Field(5, ge=0, le=100)
    """Rows shown for each rule that some row breaks; counts are exact whatever this is."""


class StepSettings(Section):
    """One ``[[steps]]`` entry; which parameters a step takes is checked when it is built."""

    function: str | None = None
    """Name of a registered function."""
    expression: str | None = None
    """SQL over the columns; its value goes into ``column``, and without one it says which rows stay."""
    column: str | list[str] | None = None
    parameters: dict[str, Any] = {}
    name: str | None = None
    description: str = ""
    condition: str | None = None
    """SQL over facts of the data set or the partition; the step runs where it is true."""
    on_error: Literal["raise", "skip", "log"] = "raise"
    at: Literal["before_rules", "after_rules"] = "after_rules"
    enabled: bool = True
    tags: list[str] = []


class MetricSettings(Section):
    """``[metrics]``: what the definitions leave open."""

    churn_days: int = Field(365, ge=0)
    margin: Decimal = Field(Decimal(1), ge=0, max_digits=9)
    """Share of revenue that is kept; realized_ltv = revenue x margin."""
    frequency: Literal["observation", "tenure"] = "observation"
    observation_months: float = Field(12, gt=0)
    lifespan_months: float = Field(24, gt=0)


class PrivacySettings(Section):
    """``[privacy]``: values that name a person; tables in the target hold them all the same."""

    mask: list[str] = []
    """Columns, of the contract or of the sources, whose values no summary, report, log or profile shows."""
    quarantine: Literal["keep", "mask"] = "keep"
    """``mask`` hides their values in the rejected rows, too; such rows can be counted, but not corrected."""


class QualitySettings(Section):
    """``[quality]``."""

    max_rejected_share: float = Field(1.0, ge=0, le=1)
    """Above this share of rejected rows the run ends with exit code 3 (the result is published all the same)."""


class LoadCheckSettings(Section):
    """One ``[[load.checks]]`` entry: a query that must find nothing wrong before anything becomes visible."""

    name: str = Field(min_length=1)
    sql: str = Field(min_length=1)
    """A query; ``{staged}`` and ``{target}`` stand for the new rows and the table they go into."""
    table: str = ""
    """Output table that the two mean; ``{staged.kpis}`` names another one."""
    expect: Literal["no_rows", "true"] = "no_rows"
    """``no_rows``: every row that is found is a fault; ``true``: the query returns a single true."""
    on_failure: Literal["block", "warn"] = "block"
    at: Literal["before", "after"] = "before"
    """Whether the query sees the target before or after the new rows came in."""


class LoadSettings(Section):
    """``[load]``: what the keys of the result mean in the target, and how long to wait for it."""

    duplicates: str = "error"
    """Which row stays where several have one key: ``first``, ``last``, the greatest in a column of this name, or none
    (``error``)."""
    null_keys: Literal["reject", "match", "error"] = "reject"
    """Whether a row with a null in its key is left out, is a key like any other, or fails the load."""
    update_columns: list[str] = []
    """Columns that an upsert or a merge may change in existing rows; all unless given."""
    on_missing: Literal["keep", "delete", "flag"] = "keep"
    """What a merge does with rows of the target whose keys the result does not hold."""
    only_if_newer: str = ""
    """Column that must be greater before an upsert or a merge changes an existing row."""
    on_drift: DriftPolicy = "evolve"
    """What happens where a table has other columns than the result: ``evolve`` adds columns and widens types,
    ``freeze`` refuses, ``ignore`` leaves such columns out, ``quarantine`` leaves out and keeps the rows with a value in
    them."""
    drift: dict[str, DriftPolicy] = {}
    """The same for single columns: ``name = "policy"``."""
    metadata: list[MetadataName] | dict[MetadataName, str] = list(get_args(MetadataName))
    """Columns added to every table: a list of those that are wanted, or a table of the names they get."""
    checks: list[LoadCheckSettings] = []
    partition_by: list[str] | dict[str, list[str]] = []
    """Columns whose values make folders in a target of Parquet files: for each table that has them all, or by table."""
    timeout_seconds: float = Field(30, ge=0, le=86_400)
    """How long to wait while somebody else writes to the target, a day at most."""


class WorkSettings(Section):
    """``[work]``: the work directory."""

    keep: Bytes = 20 << 30
    """Intermediate results kept for later runs; the oldest are swept above this size."""
    keep_days: int = Field(30, ge=0)
