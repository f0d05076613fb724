"""Readers in processes of their own, who list and read all the time: they see whole loads only."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import pyarrow as pa
import pytest

from daskae.load.base import Load, LoadOptions
from daskae.load.targets import open_sink

from .building import A, B, build_load

ROWS = 240
SHOWN = 40
GONE = ("no such file", "no files found", "expected at least")

READER = """
import json, sys
from glob import glob
place, way = sys.argv[1:]
pattern = place + "/**/*.parquet"
if way == "duckdb":
    import duckdb
    database = duckdb.connect()
    database.execute("SET threads = 1")
    query = f"SELECT round, count(*), count(DISTINCT id) FROM read_parquet('{pattern}') GROUP BY 1"
    gone = (duckdb.IOException, duckdb.HTTPException)
    look = lambda: database.execute(query).fetchall()
else:
    import polars as pl
    gone = (FileNotFoundError, pl.exceptions.ComputeError)
    columns = pl.len().alias("rows"), pl.col("id").n_unique().alias("ids")
    look = lambda: pl.scan_parquet(pattern, glob=True).group_by("round").agg(columns).collect().rows()
while True:
    try:
        found = look()
    except gone as error:
        found = ["gone", str(error).splitlines()[0][:200]]
    print(json.dumps(found), flush=True)
"""


def prepared(folder: Path, columns: tuple[str, ...]) -> list[Load]:
    """Two loads that change every row and half of the folders, back and forth."""
    loads = []
    for number, load_id in enumerate((A, B)):
        table = pa.table(
            {
                "id": [f"C{i:04d}" for i in range(ROWS)],
                "round": pa.array([number] * ROWS, pa.int64()),
                "part": [f"p{(i + number * (i % 2)) % 9}{'x' * number * (i % 2)}" for i in range(ROWS)],
            }
        )
        load = build_load(folder, load_id, {"t": (("id",), table)}, "merge" if number else "replace")
        parts = (replace(load.tables[0], partition_by=columns),)
        loads.append(replace(load, tables=parts, options=LoadOptions(on_missing="delete")))
    return loads


def take(source: Iterable[str], lines: "SimpleQueue[str]") -> None:
    for line in source:
        lines.put(line)


@contextmanager
def reader(place: str, way: str) -> Iterator["SimpleQueue[str]"]:
    """Run a reader; yield what it sees, taken from it at once, as a full pipe would make it wait and see old news."""
    lines: SimpleQueue[str] = SimpleQueue()
    with subprocess.Popen([sys.executable, "-c", READER, place, way], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        taker = Thread(target=take, args=(process.stdout, lines))
        taker.start()
        try:
            yield lines
        finally:
            process.kill()
            taker.join()


@pytest.mark.parametrize("columns", [(), ("part",)], ids=["plain", "folders"])
@pytest.mark.parametrize("way", ["duckdb", pytest.param("polars", marks=pytest.mark.slow)])
def test_a_reader_sees_the_old_load_or_the_new_one(way: str, columns: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip(way)
    loads = prepared(tmp_path, columns)
    sink = open_sink(str(tmp_path / "out"))
    sink.publish(loads[0])
    seen: dict[int, int] = {0: 0, 1: 0}
    gone = 0
    with reader(str(tmp_path / "out" / "t"), way) as lines:
        for number in range(1, 1000):
            sink.publish(loads[number % 2])
            for line in [lines.get(timeout=60), *(lines.get() for _ in range(lines.qsize()))]:
                found = json.loads(line)
                if found and found[0] == "gone":
                    assert any(word in found[1].lower() for word in GONE)
                    gone += 1
                    continue
                ((round_, rows, ids),) = found
                assert (rows, ids) == (ROWS, ROWS)
                seen[round_] += 1
            if min(number, sum(seen.values())) >= SHOWN and min(seen.values()) >= 3:
                break
    assert sum(seen.values()) >= SHOWN
    assert min(seen.values()) >= 3, (seen, gone)
