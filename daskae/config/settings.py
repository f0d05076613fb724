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
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from daskae.config.clusters import ClusterSettings
from daskae.config.sections import (
    Bytes,
    ColumnSettings,
    InputSettings,
    LoadSettings,
    MetricSettings,
    MoneySettings,
    PrivacySettings,
    QualitySettings,
    RuleSettings,
    Section,
    StepSettings,
    ValidationSettings,
    WorkSettings,
)
from daskae.errors import SettingsError

_PREFIX = "DASKAE_"
_OTHER_VARIABLES = ("DASKAE_CRASH_AT", "DASKAE_STOP_AT", "DASKAE_DATABASE_URL", "DASKAE_TEST_")
"""Beginnings of variables that are no settings; faults, databases and tests look at them."""


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
    privacy: PrivacySettings = PrivacySettings()
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
    models: list[type[BaseModel]] = [Settings, *Section.__subclasses__()]
    return [name for model in models for name in model.model_fields]
