from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daskae.config import ColumnSettings, Settings, load_settings
from daskae.errors import SettingsError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def load(file: Path, text: str, **flags: Any) -> Settings:
    file.write_text(text)
    return load_settings(flags, file)


def test_nothing_given_gives_the_defaults() -> None:
    settings = load_settings({}, None)
    assert settings.to == "sqlite:///customer_metrics.db"
    assert (settings.block_size, settings.money.scale, settings.metrics.churn_days) == (64 << 20, 4, 365)
    assert settings.metrics.margin == Decimal(1)


def test_flag_beats_environment_beats_file_beats_default(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'to = "file"\nwork_dir = "file"\nworkers = 1\n'
    monkeypatch.setenv("DASKAE_TO", "environment")
    monkeypatch.setenv("DASKAE_WORK_DIR", "environment")
    settings = load(file, text, to="flag")
    assert (settings.to, str(settings.work_dir), settings.workers) == ("flag", "environment", 1)
    assert settings.strategy == "replace"


def test_nested_tables_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKAE_MONEY__SCALE", "2")
    monkeypatch.setenv("DASKAE_METRICS__MARGIN", "0.3")
    monkeypatch.setenv("DASKAE_COLUMNS__AMOUNT", "q * p")
    settings = load(
        file,
        '[money]\nscale = 6\n[metrics]\nchurn_days = 90\nmargin = 0.5\n[columns]\namount = "a"\ncustomer_id = "c"\n',
    )
    assert settings.money.scale == 2
    assert (settings.metrics.margin, settings.metrics.churn_days) == (Decimal("0.3"), 90)
    assert settings.columns == {"amount": "q * p", "customer_id": "c"}


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKAE_TO", "")
    monkeypatch.setenv("DASKAE_WORKERS", "")
    assert load_settings({}, None).to == "sqlite:///customer_metrics.db"


@pytest.mark.parametrize(("text", "expected"), [("orders/", ["orders/"]), ('["a", "b"]', ["a", "b"])])
def test_inputs_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]) -> None:
    monkeypatch.setenv("DASKAE_INPUTS", text)
    assert load_settings({}, None).inputs == expected


def test_the_cluster_by_name_in_the_file_and_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(file, 'cluster = "inline"').cluster_name == "inline"
    assert load(file, "[cluster]\nretries = 1").cluster.retries == 1
    monkeypatch.setenv("DASKAE_CLUSTER", "local")
    assert load_settings({}, None).cluster_name == "local"


@pytest.mark.parametrize("name", ["DASKAE_RULES", "DASKAE_COLUMNS", "DASKAE_MONEY"])
def test_a_variable_that_is_no_json_where_it_should_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "{")
    with pytest.raises(SettingsError, match=name.removeprefix("DASKAE_").lower()):
        load_settings({}, None)


def test_a_whole_file(file: Path) -> None:
    settings = load(
        file,
        """
        as_of = 2024-06-30
        block_size = "1MiB"
        memory_limit = 2000000000
        [input]
        delimiter = ";"
        null_values = ["NA"]
        [columns]
        customer_id = "c"
        order_date = { column = "d", format = "%d.%m.%Y" }
        amount = { expression = "q * p" }
        [[rules]]
        rule = "range"
        column = "amount"
        min = 0.1
        max = "1e3"
        """,
    )
    assert (settings.as_of, settings.block_size, settings.memory_limit) == (date(2024, 6, 30), 1 << 20, 2 * 10**9)
    assert settings.input.delimiter == ";"
    assert settings.columns["order_date"] == ColumnSettings(column="d", format="%d.%m.%Y")
    assert (settings.rules[0].min, settings.rules[0].max) == (0.1, "1e3")


@pytest.mark.parametrize(
    ("text", "where", "near"),
    [
        ('strateg = "append"', "strateg", "strategy"),
        ("[money]\nscal = 2", "money.scal", "scale"),
        ("[inputs]\nx = 1", "inputs", ""),
        ('[[rules]]\nrule = "range"\ncolum = "x"', "rules.0.colum", "column"),
        ('[columns]\namount = { colum = "a" }', "columns.amount.colum", "column"),
        ("[work]\nkeep_day = 3", "work.keep_day", "keep_days"),
    ],
)
def test_a_misspelt_key_names_the_nearest(file: Path, text: str, where: str, near: str) -> None:
    with pytest.raises(SettingsError, match=rf"(?s)where: +{where}.*settings\.toml.*{near}"):
        load(file, text)


def test_a_misspelt_variable_in_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASKAE_MONEY__SCAL", "2")
    with pytest.raises(SettingsError, match=r"(?s)unknown setting.*money\.scal.*did you mean 'scale'"):
        load_settings({}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('block_size = "64 M"', r"(?s)block_size.*'64 M'.*is not a size; write it like 64MiB"),
        ("block_size = 0", r"(?s)block_size.*a size must be positive"),
        ("block_size = 1.5", r"(?s)block_size.*1\.5"),
        ("memory_limit = true", r"(?s)memory_limit.*True"),
        ("[work]\nkeep = [1]", r"(?s)work\.keep"),
        ("workers = 0", r"(?s)workers.*greater than or equal to 1"),
        ('workers = "many"', r"(?s)workers.*'many'"),
        ('strategy = "upsrt"', r"(?s)strategy.*'upsrt'.*'replace', 'append'"),
        ("[money]\nscale = 10", r"(?s)money\.scale.*less than or equal to 9"),
        ("[metrics]\nmargin = -1", r"(?s)metrics\.margin.*greater than or equal to 0"),
        ("[quality]\nmax_rejected_share = 2", r"(?s)quality\.max_rejected_share"),
        ('[columns]\namount = { column = "a", expression = "b" }', r"(?s)columns\.amount.*either column or expression"),
        ("[columns]\namount = {}", r"(?s)columns\.amount.*either column or expression"),
        ('[columns]\nx = { column = "a", dtype = "money" }', r"(?s)columns\.x\.dtype.*'money'.*'decimal'"),
        ('[[rules]]\nname = "x"', r"(?s)rules\.0\.rule.*Field required"),
        ('[[rules]]\nrule = "range"\non_failure = "drop"', r"(?s)rules\.0\.on_failure.*'drop'.*'reject_row'"),
        ('as_of = "2024-02-30"', r"(?s)as_of.*'2024-02-30'.*day"),
        ('[input]\ntimezone = "Mars/Olympus"', r"(?s)input\.timezone.*'Mars/Olympus'"),
    ],
)
def test_values_that_cannot_be(file: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(file, text)


def test_files_that_cannot_be_read(tmp_path: Path, file: Path) -> None:
    with pytest.raises(SettingsError, match=r"(?s)no such settings file.*settings\.toml"):
        load_settings({}, file)
    with pytest.raises(SettingsError, match=r"(?s)the settings file cannot be read.*Is a directory"):
        load_settings({}, tmp_path)
    with pytest.raises(SettingsError, match=r"(?s)the settings file is not valid TOML.*line 1"):
        load(file, "x = = 1\n")
    file.write_bytes(b'to = "caf\xe9"')
    with pytest.raises(SettingsError, match="the settings file is not valid TOML"):
        load_settings({}, file)


def test_a_wrong_flag_names_no_file() -> None:
    with pytest.raises(SettingsError, match=r"(?s)a setting is not usable\n  where:   workers\n"):
        load_settings({"workers": "x"}, None)


def test_settings_do_not_change() -> None:
    settings = load_settings({}, None)
    with pytest.raises(ValueError, match="frozen"):
        settings.to = "x"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.money.scale = 2  # type: ignore[misc]
