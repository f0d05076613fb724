"""Settings: `sections` says what there is, `settings` reads it from all layers."""

from daskae.config.clusters import ClusterSettings
from daskae.config.sections import (
    ColumnSettings,
    ColumnType,
    InputSettings,
    MetricSettings,
    OnFailure,
    RuleSettings,
    StepSettings,
    ValidationSettings,
)
from daskae.config.settings import Settings, load_settings

__all__ = [
    "ClusterSettings",
    "ColumnSettings",
    "ColumnType",
    "InputSettings",
    "MetricSettings",
    "OnFailure",
    "RuleSettings",
    "Settings",
    "StepSettings",
    "ValidationSettings",
    "load_settings",
]
