"""Corrected records in place of the source's: reading with corrections is reading the mended file."""

import bz2
import gzip
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.errors import ExchangeError, SettingsError
from daskae.partition import Segment
from daskae.read.dialect import Dialect
from daskae.read.parquet import scan_parquet
from daskae.read.patch import Patch, load_patch, save_patch
from daskae.read.reader import raw_batches, read_segments
from daskae.read.record_text import is_one_record, join_record, split_record
from daskae.read.records import find_records
from daskae.read.typed_row import cast_values, changed_values

from .reading import PLAIN, Row, cut, rows_of_batch

WIDTH = 3
HEADER = "a,b,c"
TEXTS = st.text(st.sampled_from(list('ab,"\n é')), max_size=5)
CELLS = st.one_of(
    st.sampled_from(["", "1", "x y", 'in"side']), TEXTS.map(lambda text: '"' + text.replace('"', '""') + '"')
)
RECORDS = st.lists(CELLS, min_size=1, max_size=WIDTH + 1).map(",".join).filter(bool)
ENDS = st.sampled_from(["\n", "\r\n", "\n\n"])
BROKEN = st.sampled_from(['"open', 'a,"b"x,c', '"x"y'])


def all_rows(segments: list[Segment], dialect: Dialect = PLAIN) -> list[Row]:
    batches = read_segments(segments, dialect, lambda segment: segment.columns)
    return [row for batch in batches for row in rows_of_batch(batch)]


def with_patch(segment: Segment, folder: Path, positions: list[int], texts: list[str]) -> Segment:
    patch = Patch(np.array(positions, np.int64), tuple(texts))
    path = folder / f"{segment.label}-{segment.start}.parquet"
    save_patch(patch, path)
    return replace(segment, corrections=str(path), corrections_digest=patch.digest)


def content(rows: list[Row]) -> list[tuple[Any, ...]]:
    """What a mended file has in common with the file and its corrections: all but byte offsets and cuts."""
    return [(row.cells, row.reason, row.message, row.raw) for row in rows]


def mended(data: bytes, corrections: dict[int, str], dialect: Dialect) -> bytes:
    """Write a file again as a person would who corrects some of its records, by number."""
    records = find_records(data, dialect, final=True)
    pieces, done = [], 0
    for number, text in sorted(corrections.items()):
        start, end = int(records.starts[number]), int(records.ends[number])
        old = data[start:end]
        pieces += [data[done:start], text.encode(), old[len(old.rstrip(b"\r\n")) :]]
        done = end
    return b"".join([*pieces, data[done:]])


@given(st.data())
def test_reading_with_corrections_is_reading_the_mended_file(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("patch")
    found = data.draw(st.lists(st.tuples(RECORDS | BROKEN, ENDS).map("".join), min_size=1, max_size=12))
    whole = f"{HEADER}\n{''.join(found)}".encode()
    records = find_records(whole, PLAIN, final=True)
    broken = set(np.flatnonzero(records.malformed).tolist())
    numbers = data.draw(st.sets(st.integers(1, len(records.starts) - 1)) if len(records.starts) > 1 else st.just(set()))
    # What stays open may be closed by a quote in a corrected record behind it, in the mended file.
    corrections = {number: data.draw(RECORDS) for number in sorted(numbers | broken)}
    old, new = folder / "old.csv", folder / "new.csv"
    old.write_bytes(whole)
    new.write_bytes(mended(whole, corrections, PLAIN))
    segments = cut(old, block=data.draw(st.sampled_from([16, 40, 1 << 20])))
    starts = records.starts
    patched = [
        with_patch(segment, folder, [int(starts[i]) for i in here], [corrections[i] for i in here])
        if (here := [i for i in sorted(corrections) if segment.start <= starts[i] < segment.end])
        else segment
        for segment in segments
    ]
    rows = all_rows(patched)
    assert content(rows) == content(all_rows(cut(new)))
    assert [row.offset for row in rows] == starts[1:].tolist()


@pytest.mark.parametrize(
    ("encoding", "pack", "ending"),
    [
        ("utf-8", gzip.compress, ".csv.gz"), ("utf-16", bytes, ".csv"), ("utf-16-le", bz2.compress, ".csv.bz2"),
        ("latin-1", gzip.compress, ".csv.gz"),
    ],
)  # fmt: skip
def test_records_without_an_offset_are_known_by_their_row(
    encoding: str, pack: Callable[[bytes], bytes], ending: str, tmp_path: Path
) -> None:
    dialect = Dialect(encoding=encoding)
    path, other = tmp_path / f"old{ending}", tmp_path / f"new{ending}"
    path.write_bytes(pack('a,b\n1,é\nbad\n"two\nlines",3\n4\n'.encode(encoding)))
    other.write_bytes(pack('a,b\n1,é\n"fü,r",2\n"two\nlines",3\n4,\n'.encode(encoding)))
    (segment,) = cut(path, dialect)
    rows = all_rows([with_patch(segment, tmp_path, [1, 3], ['"fü,r",2', "4,"])], dialect)
    assert content(rows) == content(all_rows(cut(other, dialect), dialect))
    assert rows[1].cells == ("fü,r", "2")
    assert rows[1].raw == '"fü,r",2'


def test_a_single_byte_encoding_keeps_its_offsets(tmp_path: Path) -> None:
    dialect = Dialect(encoding="latin-1", delimiter=";")
    path = tmp_path / "old.csv"
    path.write_bytes("a;b\né;1\nbad\nü;3\n".encode("latin-1"))
    (segment,) = cut(path, dialect)
    rows = all_rows([with_patch(segment, tmp_path, [8], ["ö;2"])], dialect)
    assert [row.cells for row in rows] == [("é", "1"), ("ö", "2"), ("ü", "3")]
    assert [row.offset for row in rows] == [4, 8, 12]


def test_small_files_in_one_window_have_each_their_corrections(tmp_path: Path) -> None:
    segments = []
    for i in range(4):
        path = tmp_path / f"f{i}.csv"
        path.write_bytes(f"a,b\n{i},x\n{i}\n{i},z\n".encode())
        (segment,) = cut(path)
        segments.append(with_patch(segment, tmp_path, [8], [f"{i},mended"]) if i % 2 else segment)
    rows = all_rows(segments)
    assert [row.cells[1] if row.cells else None for row in rows] == [
        "x", None, "z", "x", "mended", "z", "x", None, "z", "x", "mended", "z",
    ]  # fmt: skip


def test_the_raw_text_of_a_corrected_row_is_the_corrected_one(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\n1,x\n2\n3,z\n")
    segment = with_patch(cut(path)[0], tmp_path, [8], ["2,y"])
    ((count, raw),) = raw_batches(segment, PLAIN, lambda segment: segment.columns)
    assert count == 3
    assert [item.to_list() for item in raw(np.arange(3))] == [["1,x", "2,y", "3,z"], [4, 8, 10]]


def test_a_place_where_no_record_begins_is_counted_as_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\n1,x\n2,y\n")
    segment = with_patch(cut(path)[0], tmp_path, [5, 8], ["9,9", "2,z"])
    (batch,) = read_segments([segment], PLAIN, lambda segment: segment.columns)
    assert batch.corrected == 1
    assert batch.cells.rows() == [("1", "x"), ("2", "z")]


def test_a_text_that_is_not_one_record_in_this_dialect_is_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\n1,x\n")
    segment = with_patch(cut(path)[0], tmp_path, [4], ['1,"two\nlines"'])
    (batch,) = read_segments([segment], Dialect(quote=""), lambda segment: segment.columns)
    assert (batch.corrected, batch.cells.rows()) == (0, [("1", "x")])


def test_a_correction_may_be_a_repeated_header(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(b"a,b\n1,x\n2\n")
    (row, header) = all_rows([with_patch(cut(path)[0], tmp_path, [8], ["a,b"])])
    assert (row.reason, header.reason) == ("", "repeated_header")


ORDERS = pa.table(
    {
        "id": pa.array(["a", None, "c", "d"]),
        "amount": pa.array([Decimal("1.50"), None, Decimal("3.25"), Decimal("4.00")], pa.decimal128(10, 2)),
        "day": pa.array([None, 1, 2, 3], pa.date32()),
        "number": pa.array([1, 2, None, 4], pa.int16()),
        "kind": pa.array(["x", "y", "x", None]).dictionary_encode(),
        "real": [0.1, None, float("nan"), 1e300],
        "flag": [True, False, None, True],
        "parts": [[1], None, [], [2, 3]],
    }
)


def test_a_typed_row_gets_the_values_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(ORDERS, path, row_group_size=2)
    (segment,) = scan_parquet(str(path), "f.parquet", 1 << 20)
    texts = [
        '{"id": "b", "amount": "2.25", "day": "2024-02-29", "number": 7, "kind": "z", "real": 0.25, "flag": true}',
        '{"id": null, "amount": 3.25, "day": "1970-01-03", "number": "", "real": NaN, "flag": null, "parts": []}',
    ]
    patched = with_patch(segment, tmp_path, [1, 2], texts)
    batches = list(read_segments([patched], PLAIN, lambda segment: segment.columns))
    rows = [row for batch in batches for row in batch.cells.to_dicts()]
    whole = ORDERS.to_pylist()
    assert str(rows[0]) == str(whole[0])
    assert str(rows[3]) == str(whole[3])
    expected = {"id": "b", "amount": Decimal("2.25"), "number": 7, "kind": "z", "real": 0.25, "flag": True}
    assert {name: rows[1][name] for name in expected} == expected
    assert str(rows[1]["day"]) == "2024-02-29"
    assert rows[1]["parts"] is None
    assert rows[2]["id"] is None
    assert {**rows[2], "id": "c", "real": 0} == {**whole[2], "real": 0}
    assert [batch.corrected for batch in batches] == [1, 1]
    assert [batch.raw(np.array([row]))[0].to_list() for batch, row in zip(batches, [1, 0], strict=True)] == [
        [text] for text in texts
    ]


def test_only_changed_values_count() -> None:
    old = '{"a": 1.10, "b": null, "c": "x", "d": [1, 2.0]}'
    assert changed_values(old, old) == {}
    assert changed_values(old, '{"d": [1, 2.0], "b": "y", "c": null}') == {"b": "y", "c": None}


@pytest.mark.parametrize(
    ("text", "kind"),
    [("12.555", pa.decimal128(10, 2)), ("x", pa.int64()), ("2024-02-30", pa.date32()), ("[1]", pa.list_(pa.int64()))],
)
def test_a_value_that_does_not_fit_its_column_is_refused(text: str, kind: pa.DataType) -> None:
    with pytest.raises(SettingsError, match="does not fit its column"):
        cast_values([text], kind, "c")


def test_damaged_corrections_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    patch = Patch(np.array([1], np.int64), ("x",))
    save_patch(patch, path)
    assert load_patch(str(path), patch.digest).texts == ("x",)
    with pytest.raises(ExchangeError, match="not those that were planned"):
        load_patch(str(path), "other")
    path.write_bytes(b"PAR1")
    with pytest.raises(ExchangeError, match="damaged or gone"):
        load_patch(str(path), patch.digest)


DIALECTS = [Dialect(), Dialect(";", "'"), Dialect("\t", ""), Dialect("whitespace"), Dialect(escape="\\"), Dialect("||")]


@given(st.lists(st.text(st.sampled_from(list("ab,;'\"\n\\ |\t")), max_size=5), min_size=1, max_size=4))
def test_fields_survive_being_written_as_a_record(fields: list[str]) -> None:
    for dialect in DIALECTS:
        try:
            text = join_record(fields, dialect)
        except SettingsError:
            assert dialect.quote_byte == b"" or dialect.escape or dialect.has_long_delimiter
            continue
        assert is_one_record(text, dialect)
        assert split_record(text, dialect, len(fields)) == fields


@pytest.mark.parametrize("text", ["", "\n", "a\nb", '"open', '"a"b,c', "a\rb"])
def test_what_is_not_one_record(text: str) -> None:
    assert not is_one_record(text, PLAIN)
