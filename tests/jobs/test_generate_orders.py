"""The generator against a second reading of its files in plain Python, which shares no code with it."""

import csv
import io
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae import synthetic
from daskae.errors import SettingsError
from daskae.synthetic import COLUMNS, NOTES, ODD_CUSTOMERS, Spec
from jobs.generate_orders import generate, main

Row = list[str | None]


@dataclass
class Reading:
    """What a reader under the standard policy makes of a folder."""

    rows: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    kept: list[Row] = field(default_factory=list)
    kept_in: dict[str, Path] = field(default_factory=dict)
    copied_across_files: int = 0

    def document(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "accepted": len(self.kept),
            "rejected_by_rule": dict(self.rejected),
            "customers": len({row[1] for row in self.kept}),
            "orders": len({row[0] for row in self.kept}),
            "revenue": str(sum((Decimal(row[3] or "") for row in self.kept), Decimal("0.00"))),
            "first_order": min(row[2] or "" for row in self.kept),
            "last_order": max(row[2] or "" for row in self.kept),
        }


def csv_rows(path: Path) -> list[Row | str]:
    """Rows of a file below its header; a row that cannot be split is its reason instead."""
    text = path.read_bytes().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    reader, rows = csv.reader(io.StringIO(text, newline=""), strict=True), list[Row | str]()
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return rows[1:]
        except csv.Error:
            rows.append("malformed_quoting")
        else:
            rows.extend([list(row)] if row else [])


def parquet_rows(path: Path) -> list[Row | str]:
    table = pq.read_table(path)
    assert table.column_names == list(COLUMNS)
    assert {str(kind) for kind in table.schema.types} == {"string"}
    return [list(row.values()) for row in table.to_pylist()]


def readable(date: str) -> bool:
    try:
        datetime.strptime(date, "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return False
    return True


def fault(row: Row | str) -> str | None:
    """The one rule of the standard policy that a row breaks by itself."""
    if isinstance(row, str):
        return row
    values = [value or "" for value in row]
    if values == list(COLUMNS):
        return "repeated_header"
    if len(values) != len(COLUMNS):
        return "wrong_field_count"
    faults = {
        "invalid_encoding": any("\udc80" <= char <= "\udcff" for char in "".join(values)),
        "missing_customer_id": not values[1].strip(),
        "unparsable_date": not readable(values[2]),
        "unparsable_number": not re.fullmatch(r"-?\d+\.\d\d", values[3]),
        "non_positive_quantity": int(values[4]) < 1,
    }
    broken = [name for name, found in faults.items() if found]
    assert len(broken) < 2, f"{row} breaks {broken}"
    assert (values[5] == "returned") == faults["non_positive_quantity"] == values[3].startswith("-")
    return broken[0] if broken else None


def read(folder: Path, *, lines_per_order: int = 1) -> Reading:
    reading, seen = Reading(), set[tuple[str | None, ...]]()
    for path in sorted(folder.glob("orders-*")):
        for row in csv_rows(path) if path.suffix == ".csv" else parquet_rows(path):
            reading.rows += 1
            reason = fault(row)
            if reason is None:
                if tuple(row) in seen:
                    reason = "exact_duplicate"
                elif row[0] in reading.kept_in and lines_per_order == 1:
                    reason = "duplicate_order_id"
            if reason is not None:
                reading.rejected[reason] += 1
                if reason.endswith(("duplicate", "duplicate_order_id")):
                    reading.copied_across_files += reading.kept_in[str(row[0])] != path
                continue
            assert isinstance(row, list)
            seen.add(tuple(row))
            reading.kept.append(row)
            reading.kept_in[str(row[0])] = path
    return reading


def assert_true(document: dict[str, Any], reading: Reading) -> None:
    expected = reading.document()
    assert {key: document[key] for key in expected} == expected
    assert document["planted"] == {k: n for k, n in reading.rejected.items() if k != "non_positive_quantity"}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("lines_per_order", [1, 4])
def test_the_sidecar_tells_what_an_independent_reader_finds(
    tmp_path: Path, format: Any, lines_per_order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "BLOCK_ROWS", 600)  # several blocks a file, as large data has
    spec = Spec(5_000, dirt=0.05, format=format, lines_per_order=lines_per_order)
    document = generate(spec, tmp_path)
    reading = read(tmp_path, lines_per_order=lines_per_order)
    assert_true(document, reading)
    assert set(document["planted"]) == set(spec.kinds)
    assert sum(document["planted"].values()) == 250
    assert max(document["planted"].values()) - min(document["planted"].values()) <= 1
    assert document == json.loads((tmp_path / "_generated.json").read_text())
    files = list(tmp_path.glob("orders-*"))
    assert (document["files"], document["bytes"]) == (len(files), sum(path.stat().st_size for path in files))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 300), st.integers(1, 6), st.floats(0, 0.5), st.integers(0, 9), st.integers(1, 3), st.booleans())
def test_any_small_data_set_is_described_truly(
    rows: int, files: int, dirt: float, seed: int, lines: int, parquet: bool
) -> None:
    spec = Spec(rows, min(files, rows // 2), "parquet" if parquet else "csv", seed, dirt, lines)
    with tempfile.TemporaryDirectory() as folder:
        document = generate(spec, Path(folder))
        assert_true(document, read(Path(folder), lines_per_order=lines))
    assert sum(document["planted"].values()) == spec.defects


def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    arguments = ["--rows", "3_000", "--dirt", "0.02", "--files", "5", "--quiet"]
    for name, *more in (["one", "--workers", "1"], ["two", "--workers", "2"], ["other", "--seed", "2"]):
        assert main([*arguments, *more, "--out", f"{tmp_path / name}"]) == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert content(tmp_path / "one")["orders-00000.csv"] != content(tmp_path / "other")["orders-00000.csv"]


def test_the_data_looks_like_orders(tmp_path: Path) -> None:
    document = generate(Spec(rows=20_000), tmp_path)
    reading = read(tmp_path)
    kept = reading.kept
    assert 10 < document["rows"] / document["customers"] < 14
    assert 0.01 < document["rejected_by_rule"]["non_positive_quantity"] / document["rows"] < 0.03
    frequencies = sorted(Counter(row[1] for row in kept).values(), reverse=True)
    assert sum(frequencies[: len(frequencies) // 5]) > 0.5 * len(kept)
    months = Counter((row[2] or "")[:7] for row in kept)
    assert len(months) == 36
    assert months["2024-12"] > 1.3 * months["2024-02"] > months["2022-02"]
    assert set(ODD_CUSTOMERS) <= {row[1] for row in kept}
    assert {len(row[1] or "") for row in kept if row[1] not in ODD_CUSTOMERS} == {8}
    assert {note or "" for note in NOTES} == {row[7] for row in kept}
    days = [(row[2] or "")[:10] for row in kept]
    assert days == sorted(days)
    assert reading.copied_across_files > 0


def test_valid_oddities_are_planted_in_csv(tmp_path: Path) -> None:
    document = generate(Spec(rows=2_000, dirt=0.01), tmp_path)
    data = {oddity: (tmp_path / name).read_bytes() for oddity, name in document["oddities"].items()}
    header = ",".join(COLUMNS).encode()
    assert data["byte_order_mark"].startswith(b"\xef\xbb\xbf" + header + b"\n")
    assert data["crlf_line_ends"].startswith(header + b"\r\n")
    assert data["crlf_line_ends"].count(b"\r\n") > 500
    assert not data["no_final_newline"].endswith(b"\n")
    assert b"\n\nO-" in data["blank_lines"]
    assert b"\n\n\nO-" in data["blank_lines"]


def test_without_dirt_any_reader_reads_the_files(tmp_path: Path) -> None:
    document = generate(Spec(rows=1_000, dirt=0), tmp_path)
    rows: list[dict[str, str]] = []
    for path in sorted(tmp_path.glob("orders-*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows += csv.DictReader(file)
    assert (document["planted"], document["oddities"], len(rows)) == ({}, {}, 1_000)
    assert len({row["order_id"] for row in rows}) == 1_000


def test_settings_hold_the_standard_policy(tmp_path: Path) -> None:
    generate(Spec(rows=100), tmp_path)
    policy = tomllib.loads((tmp_path / "_settings.toml").read_text())
    assert set(policy["columns"]) == {"order_id", "customer_id", "order_date", "amount", "quantity", "channel"}
    assert [rule["name"] for rule in policy["rules"]] == [
        "non_positive_quantity",
        "exact_duplicate",
        "duplicate_order_id",
    ]


def test_a_folder_with_foreign_files_is_refused_untouched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The name is one of ours, but nothing says that we wrote it.
    (tmp_path / "orders-00000.csv").write_text("precious")
    assert main(["--rows", "100", "--out", f"{tmp_path}"]) == 2
    assert "files that this generator did not write" in (message := capsys.readouterr().err)
    assert "orders-00000.csv" in message
    assert content(tmp_path) == {"orders-00000.csv": b"precious"}


def test_an_earlier_data_set_of_ours_is_replaced(tmp_path: Path) -> None:
    generate(Spec(rows=100, files=5), tmp_path)
    generate(Spec(rows=100, files=2, format="parquet"), tmp_path)
    assert set(content(tmp_path)) == {
        "_generated.json",
        "_settings.toml",
        "orders-00000.parquet",
        "orders-00001.parquet",
    }
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SettingsError, match=r"mine\.txt"):
        generate(Spec(rows=100), tmp_path)


def test_an_interrupted_run_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(Spec(rows=100), whole := tmp_path / "whole")
    generate(Spec(rows=50), cut := tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr("jobs.generate_orders.write_csv", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        assert main(["--rows", "100", "--out", f"{cut}"]) == 1
    assert set(content(cut)) == {"_generating.json"}, "no sidecar may stand beside data that it does not describe"
    (cut / "_orders-00001.csv.partial").touch()  # what a kill leaves
    generate(Spec(rows=100), cut)
    assert content(cut) == content(whole)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dirt", "0.7"], "dirt"),
        (["--rows", "3", "--files", "2"], "files"),
        (["--workers", "0"], "workers"),
        (["--format", "xml"], "format"),
        (["--bogus"], "bogus"),
    ],
)
def test_wrong_usage_exits_with_2(
    tmp_path: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", f"{tmp_path / 'out'}"]) == 2
    assert told in "".join(capsys.readouterr()).lower()
    assert not (tmp_path / "out").exists()


def test_json_goes_to_stdout_and_the_summary_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "1_000", "--out", f"{tmp_path}", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["rows"] == 1_000
    assert "1,000 rows in 4 files" in printed.err
    assert main(["--rows", "1_000", "--out", f"{tmp_path}", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from jobs.generate_orders import main; code = main(['--help'])\n"
        "heavy = {'polars', 'pyarrow', 'numpy', 'pandas', 'dask'} & set(sys.modules)\n"
        "raise SystemExit(f'imported {heavy}' if heavy else code)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--lines-per-order" in done.stdout
