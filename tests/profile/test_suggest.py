"""Law of suggestions: every rule suggested holds on the data it came from, as the job itself judges."""

import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from daskae.config import load_settings
from daskae.errors import GateError
from daskae.run.job import run_job
from daskae.run.profile import InputProfile, profile_input, write_profile
from daskae.summary import RunSummary
from tests.profile.building import tables, typed_tables, write_csv

FEW = settings(max_examples=6, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=250, suppress_health_check=list(HealthCheck))


def profile(path: Path, folder: Path, **flags: Any) -> InputProfile:
    given_flags = {"inputs": [str(path)], "work_dir": folder / "work", "workers": 1, "cluster_name": "inline", **flags}
    return profile_input(load_settings(given_flags, None))


def run_suggested(path: Path, folder: Path, found: InputProfile) -> RunSummary:
    """Run the job with the file that was suggested, and nothing else."""
    _, config = write_profile(found, folder / "profile")
    flags = {
        "inputs": [str(path)], "work_dir": folder / "work", "workers": 1, "cluster_name": "inline",
        "to": f"{folder}/out/", "fresh": True,
    }  # fmt: skip
    try:
        return run_job(load_settings(flags, config)).summary
    except GateError as error:  # rules are judged all the same where the contract lets no row through
        if isinstance(error.summary, RunSummary) and error.what.startswith("not one row was accepted"):
            return error.summary
        raise


def check(path: Path, folder: Path) -> None:
    """Profile, suggest, run, and compare what was promised with what came out."""
    found = profile(path, folder)
    tomllib.loads(found.suggestion.text)
    if not found.suggestion.mapped.is_complete:
        return
    outcomes = {rule.rule_name: rule for rule in run_suggested(path, folder, found).rules}
    promised = {f"{rule['rule']}_{rule['column']}": rule for rule in found.suggestion.rules}
    assert set(promised) <= set(outcomes)
    for name, rule in promised.items():
        outcome = outcomes[name]
        assert outcome.passed, (rule, outcome)
        assert outcome.affected_rows <= rule.get("max_share", 0) * outcome.checked_rows, (rule, outcome)


def check_table(table: dict[str, list[str]] | pa.Table) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "orders"
        if isinstance(table, dict):
            path = write_csv(path.with_suffix(".csv"), table)
        else:
            path = path.with_suffix(".parquet")
            pq.write_table(table, path)
        check(path, Path(name))


@FEW
@given(tables())
def test_every_suggested_rule_holds(table: dict[str, list[str]]) -> None:
    check_table(table)


@FEW
@given(typed_tables())
def test_every_suggested_rule_holds_for_typed_columns(table: pa.Table) -> None:
    check_table(table)


@pytest.mark.slow
@MANY
@given(tables() | typed_tables())
def test_every_suggested_rule_holds_for_many_more(table: dict[str, list[str]] | pa.Table) -> None:
    check_table(table)
