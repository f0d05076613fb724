import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from daskae.config import load_settings
from daskae.errors import SettingsError
from jobs.import_rules import main
from tests.support import run

SUITE: dict[str, Any] = {
    "expectation_suite_name": "orders",
    "expectations": [
        {"expectation_type": "expect_column_values_to_be_between", "kwargs": {"column": "quantity", "min_value": 1}},
        {
            "expectation_type": "expect_column_values_to_match_regex",
            "kwargs": {"column": "E-mail \"addr\"", "regex": "@", "mostly": 0.5},
        },
        {"expectation_type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 2}},
        {"expectation_type": "expect_column_to_exist", "kwargs": {"column": "order_date"}},
        {"expectation_type": "expect_column_to_exist", "kwargs": {"column": "customer_id"}},
        {"expectation_type": "expect_column_to_exist", "kwargs": {"column": "amount"}},
        {"expectation_type": "expect_column_kl_divergence_to_be_less_than", "kwargs": {"column": "quantity"}},
    ],
}  # fmt: skip
ORDERS = (
    'order_id,customer_id,order_date,amount,quantity,"E-mail ""addr"""\n'
    "1,a,2024-01-01,10,1,x@y\n2,a,2024-01-02,10,0,\n3,b,2024-01-03,10,2,nobody\n4,b,2024-01-04,10,-1,y@z\n"
)
SCHEMA = """
import pandera.pandas as pa

Orders = pa.DataFrameSchema({
    "customer_id": pa.Column(str),
    "order_date": pa.Column("datetime64[ns]"),
    "amount": pa.Column(float, pa.Check.ge(0)),
    "quantity": pa.Column(int, pa.Check.gt(0)),
})
not_a_schema = 3
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(SUITE))
    return path


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS)
    return path


def results(inputs: Path, folder: Path, config: Path) -> dict[str, tuple[bool, int]]:
    """Run the job with a settings file: for each rule whether it passed, and for how many rows it did not."""
    table = run(inputs, folder, config=config).tables["validation_results"].to_pylist()
    return {row["rule_name"]: (row["passed"], row["affected_rows"]) for row in table}


def test_a_suite_runs_as_it_was_written(
    suite: Path, orders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rules.toml"
    assert main([str(suite), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "6 rules imported, 1 not imported" in told.err
    assert "expect_column_kl_divergence_to_be_less_than" in told.err
    assert "no rule says this" in told.err
    assert "# - expect_column_kl_divergence_to_be_less_than" in out.read_text()
    found = results(orders, tmp_path, out)
    assert found["quantity_to_be_between"] == (False, 2)
    assert found["E_mail_addr_to_match_regex"] == (True, 1)
    assert found["table_row_count_to_be_between"][0]
    assert found["amount_exists"] == (True, 0)
    orders.write_text(ORDERS.replace("amount", "sum", 1))
    with pytest.raises(SettingsError, match="no such source column for amount"):
        results(orders, tmp_path, out)


def test_stdout_holds_the_settings_and_strict_fails(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(suite), "--strict", "--on-failure", "reject_row"]) == 1
    rules = tomllib.loads(capsys.readouterr().out)["rules"]
    assert {rule["rule"]: rule["on_failure"] for rule in rules} == {
        "range": "reject_row", "pattern": "reject_row", "row_count": "block_run", "expression": "reject_row"
    }  # fmt: skip
    whole = {**SUITE, "expectations": SUITE["expectations"][:-1]}
    suite.write_text(json.dumps(whole))
    assert main([str(suite), "--strict"]) == 0


def test_rules_follow_given_settings(suite: Path, orders: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "settings.toml", tmp_path / "all.toml"
    config.write_text(
        '# mine\n[columns]\norder_id = "order_id"\ncustomer_id = "customer_id"\norder_date = "order_date"\n'
        'amount = "amount * 1"\nquantity = "quantity"\n\n[[rules]]\nrule = "not_null"\ncolumn = "order_id"\n'
    )
    assert main([str(suite), "--config", str(config), "--out", str(out)]) == 0
    assert out.read_text().startswith(config.read_text())
    settings = load_settings({}, out)
    assert settings.columns["amount"] == "amount * 1"
    assert settings.rules[0].name is None
    assert results(orders, tmp_path, out)["quantity_to_be_between"] == (False, 2)


def test_settings_that_cannot_be_added_to_are_refused(
    suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('columns = { customer_id = "c", order_date = "d", amount = "a" }\n')
    assert main([str(suite), "--config", str(config)]) == 2
    assert "the rules cannot follow these settings" in capsys.readouterr().err


def test_a_schema_in_python_yaml_or_json_gives_the_same_rules(
    tmp_path: Path, orders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandera", reason="the extra 'interop' is not installed")
    code = tmp_path / "orders_schema_for_import.py"
    code.write_text(SCHEMA)
    out = tmp_path / "python.toml"
    assert main([f"{code}:Orders", "--out", str(out), "--strict", "--on-failure", "warn"]) == 0
    found = results(orders, tmp_path, out)
    assert {name: rows for name, (passed, rows) in found.items() if not passed} == {"quantity_between": 2}

    monkeypatch.syspath_prepend(tmp_path)
    import orders_schema_for_import as module  # type: ignore[import-not-found]

    (tmp_path / "s.yaml").write_text(module.Orders.to_yaml())
    (tmp_path / "s.json").write_text(module.Orders.to_json())
    capsys.readouterr()
    documents = []
    for source in ("orders_schema_for_import:Orders", str(tmp_path / "s.yaml"), str(tmp_path / "s.json")):
        assert main([source]) == 0
        documents.append(tomllib.loads(capsys.readouterr().out))
    assert documents[0] == documents[1] == documents[2]
    assert len(documents[0]["rules"]) == 7

    assert main([f"{code}:Ordrs"]) == 2
    assert "allowed: Orders" in capsys.readouterr().err
    assert main([f"{code}:not_a_schema"]) == 2
    assert "not a Pandera schema" in capsys.readouterr().err


def test_a_schema_of_polars_in_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandera", reason="the extra 'interop' is not installed")
    import pandera.polars as pap
    import polars as pl

    path = tmp_path / "s.yml"
    path.write_text(pap.DataFrameSchema({"x": pap.Column(pl.Int64, pap.Check.gt(0), nullable=True)}).to_yaml())
    assert main([str(path)]) == 0
    assert [rule["rule"] for rule in tomllib.loads(capsys.readouterr().out)["rules"]] == ["range"]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("absent.json", None, "the source cannot be read"),
        ("s.json", "{", "not valid JSON"),
        ("s.json", "[]", "neither a suite nor a schema"),
        ("s.json", '{"expectations": 1}', "not a suite of Great Expectations"),
        ("s.toml", "", "not a source of rules"),
        ("absent.py:Orders", None, "no such file"),
        ("no_such_module_at_all:Orders", None, "a module cannot be found"),
        ("s.py:Orders", None, "no such file"),
    ],
)
def test_what_is_no_source_is_said(
    name: str, content: str | None, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    source = name if name.startswith("no_such") else str(path)
    assert main([source]) == 2
    told = capsys.readouterr().err
    assert text in told
    assert "Traceback" not in told


def test_code_that_fails_and_a_schema_that_pandera_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = tmp_path / "broken_schema.py"
    code.write_text("1 / 0\n")
    assert main([f"{code}:Orders"]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
    pytest.importorskip("pandera", reason="the extra 'interop' is not installed")
    path = tmp_path / "s.yaml"
    path.write_text("schema_type: dataframe\ncolumns:\n  a:\n    no_such_check_at_all: 1\n    dtype: nonsense\n")
    assert main([str(path)]) == 2
    assert "pandera cannot read this schema" in capsys.readouterr().err
