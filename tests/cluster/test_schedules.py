"""What starts the command again and again, from `cluster/`: it does so where that may help, and only there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.support import ROOT

FOLDER = ROOT / "cluster"


@pytest.fixture
def pretend(tmp_path: Path) -> Path:
    """A folder where ``python`` ends as the lines of ``codes`` say, one a call, and where nobody sleeps."""
    for name, lines in (
        (".venv/bin/python", 'echo "$@" >>calls; code=$(head -n 1 codes); sed -i 1d codes; exit $code'),
        (".venv/bin/sleep", 'echo "sleep $1" >>calls'),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
    return tmp_path


def outcome(command: list[str], folder: Path, codes: list[int]) -> tuple[int, int, int]:
    """Run a command where ``python`` ends with these codes: the code of all, how often it was called, and sleep."""
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    (folder / "calls").write_text("")
    path = f"{folder}/.venv/bin:{os.environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, timeout=180, check=False)
    calls = (folder / "calls").read_text().splitlines()
    slept = sum(line.startswith("sleep ") for line in calls)
    return done.returncode, len(calls) - slept, slept


@pytest.mark.parametrize(
    ("codes", "expected"), [([0], (0, 1, 0)), ([75, 75, 0], (0, 3, 2)), ([75, 4], (4, 2, 1)), ([75] * 5, (75, 4, 4))]
)
def test_the_crontab_tries_again_where_that_may_help(
    codes: list[int], expected: tuple[int, int, int], pretend: Path
) -> None:
    line = (FOLDER / "cron" / "crontab").read_text().splitlines()[-1].split(maxsplit=5)[5]
    assert outcome(["bash", "-c", line.replace("/srv/shop", str(pretend))], pretend, codes) == expected
    assert "jobs.customer_metrics" in (pretend / "calls").read_text()


@pytest.mark.parametrize(("codes", "expected"), [([0], (0, 1, 0)), ([75, 75, 0], (0, 3, 2)), ([75, 4], (4, 2, 1))])
def test_the_pod_tries_again_where_that_may_help(
    codes: list[int], expected: tuple[int, int, int], pretend: Path
) -> None:
    document = yaml.safe_load((FOLDER / "k8s" / "job.yaml").read_text())
    (container,) = document["spec"]["job"]["spec"]["containers"]
    assert outcome([*container["command"], *container["args"]], pretend, codes) == expected


class RetriedError(Exception):
    """What Airflow takes as a reason to try again."""


class FinalError(RetriedError):
    """What it does not."""


def as_it_is(*_: Any, **__: Any) -> Any:
    """Stand in for a decorator with arguments."""
    return lambda function: function


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, None),
        (75, RetriedError),
        (-9, RetriedError),
        (143, RetriedError),
        (1, FinalError),
        (3, FinalError),
        (4, FinalError),
    ],
)
def test_airflow_tries_again_where_that_may_help(
    code: int, expected: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("airflow", "airflow.exceptions", "airflow.sdk"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    exceptions, sdk = sys.modules["airflow.exceptions"], sys.modules["airflow.sdk"]
    vars(exceptions).update(AirflowException=RetriedError, AirflowFailException=FinalError)
    vars(sdk).update(dag=as_it_is, task=as_it_is)
    commands: list[list[str]] = []

    def run(command: list[str], cwd: str) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(subprocess, "run", run)
    readme = (FOLDER / "airflow" / "README.md").read_text()
    (text,) = re.findall(r"^```python\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    if expected is None:
        exec(text, {})
    else:
        with pytest.raises(RetriedError) as raised:
            exec(text, {})
        assert raised.type is expected
    assert commands[0][1:3] == ["-m", "jobs.customer_metrics"]
