"""A load takes as much memory for many rows as for few."""

import sys
from pathlib import Path

import pytest

from benchmarks.inputs import ROOT
from benchmarks.loaders.customers import generate_customers
from benchmarks.measure import measure

from .databases import Database

MIB = 1 << 20


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
