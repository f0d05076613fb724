"""All settings of a run, layered once at the edge: flag, then ``DASKAE_…`` variable, then TOML file, then default.

Nested tables are set from the environment with two underscores: ``DASKAE_MONEY__SCALE=2``. ``DASKAE_INPUTS`` holds
paths as ``PATH`` does, one URL, or a JSON list of both; other lists and tables are JSON.
"""

import difflib
import json
import os
import tomllib
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from daskae.errors import SettingsError
from daskae.units import parse_bytes

Bytes = Annotated[int, BeforeValidator(parse_bytes)]
OnFailure = Literal["reject_row", "warn", "info", "block_run"]
ColumnType = Literal["text", "decimal", "integer", "float", "datetime", "date", "boolean"]

_PREFIX = "DASKAE_"
_OTHER_VARIABLES = ("DASKAE_CRASH_AT", "DASKAE_DATABASE_URL", "DASKAE_TEST_")
"""Beginnings of variables that are no settings; faults, databases and tests look at them."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSettings(_Table):
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


class MoneySettings(_Table):
    """``[money]``."""

    scale: int = Field(4, ge=0, le=9)
    """Digits kept after the point; a text with more is a rejected row."""


class ColumnSettings(_Table):
    """One entry of ``[columns]`` written as a table."""

    column: str | None = None
    expression: str | None = None
    dtype: ColumnType | None = None
    format: str | list[str] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "ColumnSettings":
        if (self.column is None) == (self.expression is None):
            raise ValueError("give either column or expression")
        return self


class RuleSettings(_Table):
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


class ValidationSettings(_Table):
    """``[validation]``: which rules run, and how much is looked at beside them."""

    profile: Literal["fast", "thorough"] = "fast"
    """``thorough`` adds a profile of every column and quality scores to the pass that reads the data."""
    tags: list[str] = []
    """Run only rules with one of these tags; the contract is always enforced."""
    exclude_tags: list[str] = []
    """Do not run rules with one of these tags."""
    samples: int = Field(5, ge=0, le=100)
    """Rows shown for each rule that some row breaks; counts are exact whatever this is."""


class StepSettings(_Table):
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


class MetricSettings(_Table):
    """``[metrics]``: what the definitions leave open."""

    churn_days: int = Field(365, ge=0)
    margin: Decimal = Field(Decimal(1), ge=0, max_digits=9)
    """Share of revenue that is kept; realized_ltv = revenue x margin."""
    frequency: Literal["observation", "tenure"] = "observation"
    observation_months: float = Field(12, gt=0)
    lifespan_months: float = Field(24, gt=0)


class QualitySettings(_Table):
    """``[quality]``."""

    max_rejected_share: float = Field(1.0, ge=0, le=1)
    """Above this share of rejected rows the run ends with exit code 3 (the result is published all the same)."""


class LoadSettings(_Table):
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
    timeout_seconds: float = Field(30, ge=0)
    """How long to wait while somebody else writes to the target."""


class ClusterSettings(_Table):
    """``[cluster]``: how the engine is started and watched."""

    inline_below: Bytes = 1 << 30
    """Inputs smaller than this run in this process, on all cores, where no cluster was asked for."""
    worker_ttl: str = "60s"
    """Silence after which a worker is taken for lost."""
    start_timeout: str = "120s"
    """How long to wait for the first worker."""
    retries: int = Field(3, ge=0)
    dashboard: bool = False
    """Serve Dask's dashboard, on the loopback address only."""


class WorkSettings(_Table):
    """``[work]``: the work directory."""

    keep: Bytes = 20 << 30
    """Intermediate results kept for later runs; the oldest are swept above this size."""
    keep_days: int = Field(30, ge=0)


class Settings(BaseSettings):
    """Settings of ``customer_metrics``; every field is a flag, an environment variable or a TOML key."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    inputs: list[str] = []
    to: str = "sqlite:///customer_metrics.db"
    strategy: Literal["replace", "append", "upsert", "merge"] = "replace"
    cluster_name: str = "auto"
    workers: int | None = Field(None, ge=1)
    memory_limit: Bytes | None = None
    as_of: date | None = None
    block_size: Bytes = 64 << 20
    work_dir: Path = Path(".daskae")
    fresh: bool = False
    input: InputSettings = InputSettings()
    money: MoneySettings = MoneySettings()
    columns: dict[str, str | ColumnSettings] = {}
    rules: list[RuleSettings] = []
    steps: list[StepSettings] = []
    metrics: MetricSettings = MetricSettings()
    validation: ValidationSettings = ValidationSettings()
    quality: QualitySettings = QualitySettings()
    load: LoadSettings = LoadSettings()
    cluster: ClusterSettings = ClusterSettings()
    work: WorkSettings = WorkSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment beat the file, whose content arrives under the key ``file_``; see load_settings."""
        return (_Flags(settings_cls, init_settings), _Environment(settings_cls), _File(settings_cls, init_settings))


class _Flags(PydanticBaseSettingsSource):
    """Values given on the command line or in code."""

    key = "flags_"

    def __init__(self, settings_cls: type[BaseSettings], init: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._values: dict[str, Any] = init().get(self.key, {})

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Return one value; required by the base class."""
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all values."""
        return self._values


class _Environment(EnvSettingsSource):
    """``DASKAE_…`` variables, where inputs and the name of a cluster need not be JSON."""

    def prepare_field_value(self, field_name: str, field: FieldInfo, value: Any, value_is_complex: bool) -> Any:
        """Read a variable, and say which one it is when it is not JSON where it should be."""
        if field_name == "inputs" and value is not None:
            return _read_inputs(value)
        if field_name == "cluster" and value is not None and _is_plain(value):
            value = None  # a name, not the table
        try:
            return super().prepare_field_value(field_name, field, value, value_is_complex)
        except ValueError as error:
            variable = _PREFIX + field_name.upper()
            raise SettingsError(
                "a variable of the environment is not JSON", f"{field_name} ({variable} or {variable}__…)",
                repr(getattr(error, "doc", value))[:120], 'JSON such as ["a", "b"] or {"key": 1}',
            ) from None  # fmt: skip

    def __call__(self) -> dict[str, Any]:
        """Return all values; a plain ``DASKAE_CLUSTER`` is the cluster's name, as ``cluster = "…"`` is in a file."""
        values = super().__call__()
        name = self.env_vars.get(f"{_PREFIX}cluster".lower())
        if name and _is_plain(name):
            values["cluster_name"] = name
        return values


def _is_plain(text: str) -> bool:
    """Whether a variable's text is not meant as JSON."""
    return not text.lstrip().startswith(("{", "["))


def _read_inputs(text: str) -> list[str]:
    """Read ``DASKAE_INPUTS``; a URL is not split, as colons are part of it."""
    with suppress(ValueError):  # a pattern such as [ab].csv looks like JSON
        listed = json.loads(text)
        if isinstance(listed, list):
            return listed
    if "://" in text or "::" in text:
        return [text]
    return [path for path in text.split(os.pathsep) if path]


class _File(_Flags):
    """Values of the TOML file."""

    key = "file_"


def load_settings(flags: dict[str, Any], config: Path | None) -> Settings:
    """Merge all layers and check them.

    Parameters
    ----------
    flags : dict
        Values given on the command line; absent ones are not in it.
    config : Path or None
        A TOML file.

    Raises
    ------
    SettingsError
        Naming the file, the key, what was found and the nearest known key.
    """
    _require_known_variables()
    file = _read_toml(config) if config is not None else {}
    if isinstance(file.get("cluster"), str):
        file["cluster_name"] = file.pop("cluster")
    try:
        return Settings(flags_=flags, file_=file)  # type: ignore[call-arg]
    except ValidationError as error:
        raise _explained(error, config) from None


def _require_known_variables() -> None:
    """Refuse a misspelt variable, which pydantic would pass over."""
    for variable, text in os.environ.items():
        name = variable.upper()
        if not text or not name.startswith(_PREFIX) or name.startswith(_OTHER_VARIABLES):
            continue
        if name.removeprefix(_PREFIX).partition("__")[0].lower() not in Settings.model_fields:
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), _known_variables(), 1)
            hint = f"did you mean {_PREFIX + near[0]!r}?" if near else f"unset it, or name it without {_PREFIX}"
            raise SettingsError("unknown setting", "the environment", variable, hint=hint)


def _known_variables() -> list[str]:
    """Names of variables, without their prefix."""
    nested = [
        f"{name}__{key}"
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        for key in field.annotation.model_fields
    ]
    return [name.upper() for name in (*Settings.model_fields, *nested)]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SettingsError("no such settings file", str(path), hint="give an existing file to --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("the settings file is not valid TOML", str(path), str(error)) from None
    except OSError as error:
        raise SettingsError("the settings file cannot be read", str(path), error.strerror or str(error)) from None


def _explained(error: ValidationError, config: Path | None) -> SettingsError:
    """Turn the first of pydantic's findings into our form, with the nearest known key for a misspelt one."""
    first = _telling(error.errors(include_url=False, include_context=False))
    # Which member of a union was tried says nothing to a person; the first two parts are names of theirs.
    parts = [str(part) for i, part in enumerate(first["loc"]) if i < 2 or not (part == "str" or _is_column_table(part))]
    where = ".".join(parts)
    hint = ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _known_keys(), 1)
        return SettingsError(
            "unknown setting",
            _at(where, config),
            repr(first["loc"][-1]),
            hint=f"did you mean {near[0]!r}?" if near else "",
        )
    message = first["msg"].removeprefix("Value error, ")
    return SettingsError("a setting is not usable", _at(where, config), repr(first["input"])[:120], message, hint)


def _telling(errors: list[ErrorDetails]) -> ErrorDetails:
    """Choose the finding to report: for a column written as a table not that it is no text, but what is wrong in it."""
    first = errors[0]
    if first["loc"][0] != "columns" or not isinstance(first["input"], dict):
        return first
    same = [error for error in errors if error["loc"][:2] == first["loc"][:2]]
    return next((error for error in same if any(map(_is_column_table, error["loc"][2:3]))), first)


def _is_column_table(part: str | int) -> bool:
    """Whether a part of a finding's place is pydantic's name for :class:`ColumnSettings`, with or without validator."""
    return ColumnSettings.__name__ in str(part)


def _at(where: str, config: Path | None) -> str:
    return f"{where} (in {config}, a flag or the environment)" if config else where


def _known_keys() -> list[str]:
    models: list[type[BaseModel]] = [Settings, *_Table.__subclasses__()]
    return [name for model in models for name in model.model_fields]
