"""A profile against plain Python, and its law: whatever the partitions, the state is the same."""

import json
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskae.config import load_settings
from daskae.profile.finish import ColumnProfile, finish_column, finish_table, read_document
from daskae.profile.scan import Reading, profile_chunk
from daskae.profile.state import KEPT_VALUES, TableState
from daskae.run.profile import profile_input
from tests.profile.building import frame, tables, write_csv

PLAIN = settings(max_examples=12, suppress_health_check=list(HealthCheck))


def column(values: list[Any], name: str = "x", reading: Reading | None = None, dtype: Any = pl.String) -> ColumnProfile:
    state = profile_chunk(pl.DataFrame({name: pl.Series(values, dtype=dtype)}), reading)
    return finish_column(name, state.columns[name])


@PLAIN
@given(tables(), st.lists(st.integers(0, 40), max_size=4), st.randoms())
def test_the_state_does_not_depend_on_the_parts(table: dict[str, Any], cuts: list[int], random: Any) -> None:
    cells = frame(table)
    ends = sorted({0, cells.height, *(cut for cut in cuts if cut < cells.height)})
    parts = [profile_chunk(cells[low:high]) for low, high in pairwise(ends)]
    random.shuffle(parts)
    whole = profile_chunk(cells).to_json()
    assert reduce(TableState.merge, parts).to_json()["columns"] == whole["columns"] or not parts
    reread = [TableState.from_json(json.loads(json.dumps(part.to_json()))) for part in parts]
    merged = reduce(TableState.merge, reread, TableState())
    assert {name: merged.columns[name].to_json() for name in table} == whole["columns"]


def test_block_size_and_file_split_do_not_show(tmp_path: Path) -> None:
    rows = 3_000
    table = {
        "order_id": [f"O-{i:05d}" for i in range(rows)],
        "customer_id": [str(i * 7919 % 611) for i in range(rows)],
        "order_date": [f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}" for i in range(rows)],
        "amount": [f"{i % 997}.{i % 100:02d}" if i % 50 else "n/a" for i in range(rows)],
        "note": [["", "two\nlines", "  "][i % 3] for i in range(rows)],
    }
    for folder in ("whole", "split"):
        (tmp_path / folder).mkdir()
    write_csv(tmp_path / "whole" / "a.csv", table)
    for i in range(0, rows, 700):
        write_csv(tmp_path / "split" / f"{i:05d}.csv", {name: cells[i : i + 700] for name, cells in table.items()})
    documents: list[dict[str, Any]] = []
    for source, size in (("whole", "64MiB"), ("whole", "20KiB"), ("split", "64MiB"), ("split", "9KiB")):
        flags = {"inputs": [str(tmp_path / source)], "block_size": size, "work_dir": tmp_path / f"work{len(documents)}"}
        found = profile_input(load_settings({**flags, "cluster_name": "inline"}, None)).document
        documents.append({key: found[key] for key in ("rows", "broken", "columns", "suggested")})
    # Beyond so many different values, counts of single ones are bounds that may differ.
    for document in documents:
        for item in document["columns"]:
            if not item["top_is_exact"]:
                del item["top"]
    assert rows > KEPT_VALUES
    assert all(document == documents[0] for document in documents)


@PLAIN
@given(st.lists(st.none() | st.text(max_size=3), max_size=40))
def test_counts_against_plain_python(values: list[str | None]) -> None:
    found = column(values)
    real = [value for value in values if value not in (None, "")]
    blank = [value for value in real if value is not None and pl.Series([value]).str.strip_chars()[0] == ""]
    kept = [value for value in real if value not in blank]
    assert (found.rows, found.nulls, found.blanks, found.values) == (
        len(values), len(values) - len(real), len(blank), len(kept),
    )  # fmt: skip
    assert found.distinct == len(set(kept))
    assert {item["value"]: item["count"] for item in found.top}.items() <= Counter(kept).items()
    if kept:
        lengths = [len(value or "") for value in kept]
        shortest, mean, longest = found.length
        assert (shortest, longest) == (min(lengths), max(lengths))
        assert mean == pytest.approx(sum(lengths) / len(lengths))


@pytest.mark.parametrize(
    ("values", "kind", "low", "high"),
    [
        (["1", "-20", " 3 "], "integer", "-20", "3"),
        (["1", "2.50", "1e1"], "decimal", "1", "10"),
        (["0.000001", "2.5"], "float", "1e-06", "2.5"),
        (["2024-01-31", "2023-12-01"], "date", "2023-12-01", "2024-01-31"),
        (["31/01/2024", "05/06/2024"], "date", "2024-01-31", "2024-06-05"),
        (["01/31/2024", "05/06/2024"], "date", "2024-01-31", "2024-05-06"),
        (["12/1/10 8:26", "12/31/10 18:00"], "datetime", "2010-12-01T08:26:00", "2010-12-31T18:00:00"),
        (["2024-01-31T10:00:00Z", "2024-01-31 09:00:00"], "datetime", "2024-01-31T09:00:00", "2024-01-31T10:00:00"),
        (["yes", "No", "true"], "boolean", None, None),
        (["0", "1", "1"], "integer", "0", "1"),
        (["00012", "00013"], "text", None, None),
        (["20240131", "20240201"], "integer", "20240131", "20240201"),
        (["a", "b"], "text", None, None),
        (["", " "], "empty", None, None),
        (["1"] * 19 + ["?"], "integer", "1", "1"),
        (["1"] * 8 + ["?"] * 2, "text", None, None),
    ],
)
def test_types(values: list[str], kind: str, low: str | None, high: str | None) -> None:
    found = column(values)
    assert (found.type, found.minimum, found.maximum) == (kind, low, high)


def test_digits_that_a_name_calls_dates_are_dates() -> None:
    assert column(["20240131", "20240201"], "order_date").formats == ("%Y%m%d",)
    assert column(["20240131", "20240201"], "order_date").type == "date"


def test_formats_side_by_side_and_in_doubt() -> None:
    mixed = column(["31/12/2010", "1/2/10", "2010-12-31", "25/12/10"])
    assert (mixed.type, mixed.formats) == ("date", ("%d/%m/%y", "%Y-%m-%d", "%d/%m/%Y"))
    assert not mixed.ambiguous
    assert column(["1/2/2010", "3/4/2010"]).ambiguous


def test_figures_of_numbers() -> None:
    found = column(["0.10"] * 10 + ["5", "x"])
    assert (found.readable, found.values, found.scale) == (11, 12, 2)
    assert found.mean == pytest.approx(6 / 11, abs=1e-15)
    assert found.quantiles == {"0.05": 0.1, "0.25": 0.1, "0.5": 0.1, "0.75": 0.1, "0.95": 0.1}
    assert [item["value"] for item in found.shapes] == ["9.99", "9", "a"]


def test_oddities() -> None:
    found = column(["a@b.com", "007", " x", "y ", "c@d.org", "z" * 99])
    assert (found.emails, found.leading_zeros, found.edge_blanks, found.long) == (2, 1, 2, 1)
    assert max(len(item["value"]) for item in found.top) == 80


def test_null_texts_are_no_values() -> None:
    found = column(["NA", "1", "2", "na"], reading=Reading(null_values=("NA",)))
    assert (found.nulls, found.values) == (1, 3)


def test_typed_columns() -> None:
    moments = [datetime(2024, 1, 1, 8, 30), None]
    assert column(moments, dtype=pl.Datetime("us")).minimum == "2024-01-01T08:30:00"
    assert column([date(2024, 1, 1)], dtype=pl.Date).type == "date"
    assert column([*[1.5] * 19, float("nan"), None], dtype=pl.Float64).readable == 19
    assert column([Decimal("1.25")], dtype=pl.Decimal(10, 2)).maximum == "1.25"
    assert column([Decimal("3.00")], dtype=pl.Decimal(10, 2)).type == "integer"
    assert column([True, False], dtype=pl.Boolean).type == "boolean"
    assert column(["a", "b", "a"], dtype=pl.Categorical).distinct == 2
    assert column([b"a", b"\xff"], dtype=pl.Binary).nulls == 1
    assert column([[1, 2], None], dtype=pl.List(pl.Int64)).top[0]["value"] == "[1, 2]"
    assert column([3, 4], dtype=pl.Int32).stored == ("Int32",)


def test_parquet_and_files_with_other_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", None]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [3], "c": [1.5]}), tmp_path / "2.parquet")
    flags = {"inputs": [str(tmp_path)], "work_dir": tmp_path / "work", "cluster_name": "inline"}
    found = profile_input(load_settings(flags, None))
    columns = {item.name: item for item in read_document(found.document)}
    assert (columns["a"].rows, columns["b"].rows, columns["c"].rows, found.document["rows"]) == (3, 2, 1, 3)
    assert list(found.suggestion.columns) == ["a"], "what only some files have is not suggested"


def test_the_document_is_plain_data() -> None:
    state = profile_chunk(frame({"a": ["1", "inf"], "b": ["x", None]}))
    document = finish_table(state)
    again = json.loads(json.dumps(document, allow_nan=False))
    assert read_document(again) == [finish_column(name, item) for name, item in state.columns.items()]
