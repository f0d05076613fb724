"""What the README shows works as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from daskae.config import load_settings
from tests.support import fork_script

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LOADING = (ROOT / "daskae" / "load" / "README.md").read_text(encoding="utf-8")
ORDERS = "order_id,customer_id,order_date,amount\n1,A,2024-01-06,5.25\n2,A,2024-01-08,7\n3,B,2024-01-07,1.10\n"


def block(language: str, holding: str, page: str = README) -> str:
    """Return the one block of a language that holds a text."""
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if holding in text]
    assert len(found) == 1
    return str(found[0])


def run(command: list[str], folder: Path) -> dict[str, object]:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    return document


def run_forked(script: Path, *argv: str) -> dict[str, object]:
    code, said, errors = fork_script(script, argv)
    assert code == 0, errors
    document: dict[str, object] = json.loads(said)
    return document


def test_the_metric_of_ten_lines(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block("python", "largest_order"))
    (tmp_path / "orders.csv").write_text(ORDERS)
    document = run(["shop.py", "orders.csv", "--to", "out", "--json", "--quiet"], tmp_path)
    assert document["status"] == "done"
    import pyarrow.parquet as pq

    rows = pq.read_table(tmp_path / "out" / "customer_metrics").to_pylist()
    found = {row["customer_id"]: (str(row["largest_order"]), row["weekend_orders"]) for row in rows}
    assert found == {"A": ("7.0000", 1), "B": ("1.1000", 1)}


def test_the_settings_file(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(block("toml", "InvoiceNo"))
    (tmp_path / "lines.csv").write_text(
        "InvoiceNo,CustomerID,InvoiceDate,Quantity,UnitPrice,Country\n"
        "1,17850.0,2011-12-01 08:26:00,6,2.55,UK\n"
        "1,17850.0,2011-12-01 08:26:00,6,2.55,UK\n"
        "2,17850.0,2011-12-02 08:26:00,-1,1,UK\n"
    )
    command = ["-m", "jobs.customer_metrics", "lines.csv", "--config", "shop.toml", "--to", "out", "--json", "--quiet"]
    document = run(command, tmp_path)
    assert document["rows"] == {
        "read": 3,
        "accepted": 1,
        "rejected": 2,
        "rejected_by_rule": {"non_positive_quantity": 1, "exact_duplicate": 1},
    }


def test_the_rules_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block("python", "RowRule"))
    (tmp_path / "orders.csv").write_text(ORDERS.replace(",7\n", ",7000\n"))
    document = run_forked(tmp_path / "shop.py", "orders.csv", "--to", "out", "--json", "--quiet")
    passed = {rule["rule_name"]: (rule["passed"], rule["affected_rows"]) for rule in document["rules"]}  # type: ignore[attr-defined]
    assert passed == {"known_price": (True, 0), "weekday": (False, 2), "revenue": (True, 0)}
    assert document["rows"]["rejected_by_rule"]["weekday"] == 2  # type: ignore[index]


def test_the_steps(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(block("python", "@register"))
    (tmp_path / "steps.toml").write_text(block("toml", "[[steps]]"))
    (tmp_path / "orders.csv").write_text(
        "customer_id,order_date,amount,Email\n"
        "A,2024-01-06,11.90, Ann@Example.COM \n"
        "test,2024-01-06,1,\n"
        "B,2024-01-07,1.19,nobody\n"
    )
    (tmp_path / "customers.csv").write_text("id,country\nA,FR\n")
    command = ["orders.csv", "--config", "steps.toml", "--to", "out", "--json", "--quiet"]
    document = run_forked(tmp_path / "shop.py", *command)
    assert document["rows"]["rejected_by_rule"] == {"no_test_orders": 1}  # type: ignore[index]
    # One file, so the net is not taken; then every amount is doubled.
    assert document["kpis"]["revenue"] == "26.18"  # type: ignore[index]
    affected = {rule["rule_name"]: rule["affected_rows"] for rule in document["rules"]}  # type: ignore[attr-defined]
    assert affected == {"readable_email": 1, "no_test_orders": 1}


def test_the_loading_guide(tmp_path: Path) -> None:
    """Its script and its settings make two loads, of which the second would lose a customer."""
    (tmp_path / "shop.py").write_text(block("python", "LoadCheck", LOADING))
    (tmp_path / "drift.toml").write_text(block("toml", "on_drift", LOADING))
    (tmp_path / "orders.csv").write_text(ORDERS)
    command = ["orders.csv", "--config", "drift.toml", "--to", "sqlite:///m.db", "--json", "--quiet"]
    assert run_forked(tmp_path / "shop.py", *command)["status"] == "done"
    (tmp_path / "orders.csv").write_text(ORDERS.partition("3,B")[0])
    code, _, errors = fork_script(tmp_path / "shop.py", command)
    assert code == 4
    assert "no_customer_lost" in errors


@pytest.mark.parametrize("holding", ["on_missing", "partition_by"])
def test_settings_of_the_loading_guide(holding: str, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(block("toml", holding, LOADING))
    assert load_settings({}, tmp_path / "settings.toml").load


def test_the_memory_of_ones_own_code(tmp_path: Path) -> None:
    code = block("python", "memory_monitor")
    (tmp_path / "own.py").write_text("def train():\n    return bytearray(1 << 24)\n\n" + code)
    done = subprocess.run([sys.executable, "own.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    peak, average, _ = done.stdout.split()
    assert int(peak) >= float(average) > 0


def test_links_lead_somewhere() -> None:
    for page in (README, LOADING):
        for link in re.findall(r"\]\(([^)#]+)\)", page):
            assert (ROOT / link).exists(), link
