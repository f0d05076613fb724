"""A load takes as much memory for many rows as for few, and not much."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.inputs import ROOT
from benchmarks.loaders.customers import generate_customers
from benchmarks.loaders.peak import FEW_ROWS
from benchmarks.measure import measure

from .databases import Database, Folder

MIB = 1 << 20
ROWS = 400_000


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_rows(database: Database, tmp_path: Path) -> None:
    peaks = []
    for rows in (100_000, 500_000):
        generate_customers(tmp_path / str(rows), rows)
        for name in ("daskae", "daskae_replace"):
            for table in database.names():
                database.run(f"DROP TABLE {table}")
            command = [sys.executable, "-m", "benchmarks.loaders", name, database.url, str(tmp_path / str(rows))]
            measured = measure([*command, str(rows)], tmp_path / "log" / name, cwd=ROOT)
            assert measured.exit_code == 0, measured.stderr
            peaks.append(measured.peak_bytes)
        assert database.query("SELECT count(*) FROM customer_metrics") == [(rows,)]
    few, many = max(peaks[:2]), max(peaks[2:])
    # Five times the rows; as Arrow they are 60 MiB more, as Python objects 600.
    assert many < few + 24 * MIB


def above_idle(url: str, folder: Path) -> int:
    """Measure in a process of its own what a load adds to one that has loaded before."""
    for rows in (FEW_ROWS, ROWS):
        generate_customers(folder / str(rows), rows)
    command = [sys.executable, "-m", "benchmarks.loaders.peak", url]
    command += [*(str(folder / str(rows)) for rows in (FEW_ROWS, ROWS)), str(ROWS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(json.loads(done.stdout)["above_idle"])


@pytest.mark.slow
def test_a_load_adds_no_more_than_64_mb_to_an_idle_process(database: Database, tmp_path: Path) -> None:
    """What is mapped of the parts that are read counts too."""
    assert above_idle(database.url, tmp_path) <= 64_000_000


@pytest.mark.slow
def test_files_add_little_more(folder: Folder, tmp_path: Path) -> None:
    """One file alone would add 48 MB; two are written at once."""
    assert above_idle(folder.url, tmp_path) <= 90_000_000
