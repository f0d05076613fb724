"""Compressed inputs that hold far too much, lines without an end, and patterns that are costly elsewhere."""

import gzip
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from daskae.config import load_settings
from daskae.errors import DaskaeError, InputError
from daskae.read.source import open_stream
from tests.support import ROOT, orders_csv

MIB = 1 << 20
ROW = b"O1,C1,2023-01-01,1.00,1,plain\n"
READ_ALL = """
import resource, sys
from daskae.errors import InputError
from daskae.partition import PartitionRef
from daskae.read.csv import read_batches
from daskae.read.dialect import Dialect
from daskae.read.discover import find_files, scan_files

segments = scan_files(find_files([sys.argv[1]]), Dialect(), 64 << 20, None, 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for batch in read_batches(segments, Dialect(), lambda segment: ["order_id"]):
        pass
except InputError as error:
    print(error)
print("grown", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def write_bomb(path: Path, piece: bytes, total: int, codec: str) -> None:
    with pa.CompressedOutputStream(str(path), codec) as file:
        file.write(b"order_id,customer_id,order_date,amount,quantity,note\n")
        for _ in range(total // len(piece)):
            file.write(piece)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["gzip", "zstd"])
@pytest.mark.parametrize(
    ("piece", "what"), [(ROW * 35_000, "holds too much for its size"), (b"0" * MIB, "a line of an input has no end")]
)
def test_a_bomb_is_refused_with_flat_memory(piece: bytes, what: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb.csv.{'gz' if codec == 'gzip' else 'zst'}"
    write_bomb(path, piece, 2000 * MIB if codec == "zstd" else 600 * MIB, codec)
    expected = what
    if codec == "gzip" and piece.startswith(ROW):
        expected = "grown"  # gzip cannot say it in so few bytes, and what it may hold it holds
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert expected in done.stdout
    assert path.name in done.stdout or expected == "grown"
    assert int(done.stdout.rpartition("grown ")[2]) * 1024 < 400 * MIB


def test_what_a_compressed_file_may_hold_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "orders.csv.gz"
    path.write_bytes(gzip.compress(b"a" * MIB))
    with open_stream(str(path), "gzip", 1) as stream:
        assert len(stream.read(2 * MIB)) == MIB, "small ones may hold what they like"
    monkeypatch.setattr("daskae.read.source._NEVER_TOO_MUCH", 1000)
    with open_stream(str(path), "gzip", 2000) as stream:
        assert len(stream.read(2 * MIB)) == MIB
    with (
        pytest.raises(InputError, match=r"too much for its size(.|\n)*orders\.csv\.gz(.|\n)*input\.max_expansion"),
        open_stream(str(path), "gzip", 5) as stream,
    ):
        stream.read(2 * MIB)


def test_the_setting_reaches_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from daskae.run.job import run_job

    monkeypatch.setattr("daskae.read.source._NEVER_TOO_MUCH", 1000)
    path = tmp_path / "orders.csv.gz"
    path.write_bytes(gzip.compress(orders_csv(2000)))
    flags = {"inputs": [str(path)], "to": f"{tmp_path}/out/", "work_dir": tmp_path / "work", "cluster_name": "inline"}
    with pytest.raises(DaskaeError, match="too much for its size"):
        run_job(load_settings({**flags, "input": {"max_expansion": 1}}, None))
    assert run_job(load_settings(flags, None)).summary.rows.read == 2000


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){12}$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(a|a?)+$"])
def test_patterns_are_linear_in_the_text(pattern: str) -> None:
    texts = pl.Series(["a" * 20_000 + "!"] * 5)
    begun = time.perf_counter()
    texts.str.contains(pattern)
    assert time.perf_counter() - begun < 60


def test_a_pattern_that_is_itself_too_large_is_a_settings_error(tmp_path: Path) -> None:
    from daskae.run.job import run_job

    path = tmp_path / "orders.csv"
    path.write_bytes(orders_csv(5))
    rules = [{"rule": "pattern", "column": "order_id", "pattern": "((a{1000}){1000}){1000}"}]
    flags = {"inputs": [str(path)], "to": f"{tmp_path}/out/", "work_dir": tmp_path / "work", "rules": rules}
    with pytest.raises(DaskaeError, match="a pattern is not usable"):
        run_job(load_settings(flags, None))
