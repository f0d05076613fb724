"""All settings of a run, layered once at the edge: flag, then ``DASKAE_…`` variable, then TOML file, then default.

Nested tables are set from the environment with two underscores: ``DASKAE_MONEY__SCALE=2``.
"""

import difflib
import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from daskae.errors import SettingsError
from daskae.units import parse_bytes

Bytes = Annotated[int, BeforeValidator(parse_bytes)]
OnFailure = Literal["reject_row", "warn", "info", "block_run"]
ColumnType = Literal["text", "decimal", "integer", "float", "datetime", "date", "boolean"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSettings(_Table):
    """``[input]``: how the sources are written."""

    delimiter: str = ","
    """One character, or ``whitespace`` for runs of blanks."""
    quote: str = '"'
    encoding: str = "utf-8"
    header: list[str] | None = None
    """Names of the columns, for sources without a header line."""
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
        env_prefix="DASKAE_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    inputs: list[str] = []
    to: str = "sqlite:///customer_metrics.db"
    strategy: Literal["replace", "append"] = "replace"
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
    metrics: MetricSettings = MetricSettings()
    quality: QualitySettings = QualitySettings()
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
        return (_Flags(settings_cls, init_settings), env_settings, _File(settings_cls, init_settings))


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
    file = _read_toml(config) if config is not None else {}
    if isinstance(file.get("cluster"), str):
        file["cluster_name"] = file.pop("cluster")
    try:
        return Settings(flags_=flags, file_=file)  # type: ignore[call-arg]
    except ValidationError as error:
        raise _explained(error, config) from None


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
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("str", "ColumnSettings"))
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


def _at(where: str, config: Path | None) -> str:
    return f"{where} (in {config}, a flag or the environment)" if config else where


def _known_keys() -> list[str]:
    models: list[type[BaseModel]] = [Settings, *_Table.__subclasses__()]
    return [name for model in models for name in model.model_fields]
