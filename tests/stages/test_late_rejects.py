"""Rows of one compressed file that reduce tasks reject, when they are too many to be held."""

import gzip
from pathlib import Path
from unittest.mock import patch

import pytest

from daskae.stages import late_rejects
from daskae.stages.late_rejects import late_tables
from tests.support import EXACT_DUPLICATE, REPEATED_ORDER, assert_same, orders_csv, run

RULES = [EXACT_DUPLICATE, REPEATED_ORDER]


def write_repeated(folder: Path, times: int) -> Path:
    """Write orders again and again into one compressed file."""
    folder.mkdir()
    head, body = orders_csv(500).split(b"\n", 1)
    (folder / "orders.csv.gz").write_bytes(gzip.compress(head + b"\n" + times * body))
    return folder


def quarantined(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("work/runs/*/quarantine/*/*.parquet"))]


@pytest.mark.parametrize("most", [pytest.param(1, marks=pytest.mark.slow), 700, 2000])
def test_what_is_held_at_once_does_not_show(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1 there are more stretches of the input than a file has slots."""
    inputs = write_repeated(tmp_path / "in", 12)
    expected = run(inputs, tmp_path / "whole", rules=RULES)
    monkeypatch.setattr(late_rejects, "_STRETCH", 16)
    monkeypatch.setattr(late_rejects, "MOST_ROWS", most)
    found = run(inputs, tmp_path / "parts", rules=RULES)
    assert len(found.quarantine) > 5000
    assert_same(found, expected)
    assert quarantined(tmp_path / "parts") == quarantined(tmp_path / "whole")
    assert list(tmp_path.rglob("late-dealt*")) == []


def test_rows_are_not_read_once_for_each_stretch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = write_repeated(tmp_path / "in", 12)
    monkeypatch.setattr(late_rejects, "_STRETCH", 16)
    monkeypatch.setattr(late_rejects, "MOST_ROWS", 100)
    with patch.object(late_rejects, "late_tables", wraps=late_tables) as reads:
        found = run(inputs, tmp_path, rules=RULES)
    assert len(found.quarantine) > 50 * 100
    assert reads.call_count == 2
