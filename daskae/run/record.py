"""What a run was asked to do, kept in its folder so that it can be done again."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daskae.aggregate.customer import BUILT_IN
from daskae.config import Settings
from daskae.durable import replacing
from daskae.errors import SettingsError
from daskae.masking import mask_secrets
from daskae.read.source import is_url
from daskae.run.context import RunContext

RECORD = "settings.json"
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class RunRecord:
    """The settings of an earlier run; paths are absolute, passwords are masked."""

    run_id: str
    started: str
    own_code: dict[str, list[str]]
    """Names of what was given in code: ``metrics``, ``rules``, ``steps``."""
    settings: dict[str, Any]


def write_record(context: RunContext) -> None:
    """Write the record of a run into its folder."""
    data = {
        "run_id": context.run_id,
        "started": f"{context.started:%Y-%m-%dT%H:%M:%S.%fZ}",
        "own_code": _own_code(context),
        "settings": repeatable(context.settings),
    }
    with replacing(context.run_dir / RECORD) as temporary:
        temporary.write_text(json.dumps(data, indent=1))


def load_record(run_dir: Path) -> RunRecord:
    """Read the record of a run.

    Raises
    ------
    SettingsError
        If the run left none.
    """
    try:
        data = json.loads((run_dir / RECORD).read_text())
        return RunRecord(data["run_id"], data["started"], dict(data["own_code"]), dict(data["settings"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            "the run has no record of its settings", str(run_dir), hint="run the job once more, then take its new run"
        ) from None


def _own_code(context: RunContext) -> dict[str, list[str]]:
    built_in = {item.name for item in BUILT_IN}
    return {
        "metrics": [item.name for item in context.metrics if item.name not in built_in],
        "rules": [item.name for item in context.custom_rules],
        "steps": [item.name for item in context.own_steps],
        "checks": [item.name for item in context.load_checks],
    }


def repeatable(settings: Settings) -> dict[str, Any]:
    """Return every setting as plain data that means the same from any folder."""
    data = settings.model_dump(mode="json", exclude={"fresh"})
    data["inputs"] = [text if is_url(text) else os.path.abspath(text) for text in settings.inputs]
    data["to"] = _absolute_target(settings.to)
    data["work_dir"] = os.path.abspath(settings.work_dir)
    return without_secrets(data)


def without_secrets(data: dict[str, Any]) -> dict[str, Any]:
    """Return dumped settings with the passwords of all places masked: inputs, target and sources of rules and steps."""
    masked = dict(data)
    if "to" in data:
        masked["to"] = mask_secrets(data["to"])
    if "inputs" in data:
        masked["inputs"] = [mask_secrets(text) for text in data["inputs"]]
    if "rules" in data:
        masked["rules"] = [_with_masked_source(rule) for rule in data["rules"]]
    if "steps" in data:
        masked["steps"] = [
            {**step, "parameters": _with_masked_source(step.get("parameters", {}))} for step in data["steps"]
        ]
    return masked


def _with_masked_source(values: dict[str, Any]) -> dict[str, Any]:
    source = values.get("source")
    return {**values, "source": mask_secrets(source)} if isinstance(source, str) else values


def _absolute_target(target: str) -> str:
    if target.startswith(_SQLITE):
        name, mark, options = target.removeprefix(_SQLITE).partition("?")
        return f"{_SQLITE}{os.path.abspath(name)}{mark}{options}" if name else target
    return target if is_url(target) else os.path.abspath(os.path.expanduser(target)) + "/"
