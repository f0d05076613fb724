import bz2
import gzip
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.errors import InputError, SettingsError
from daskae.read.csv import raw_batches
from daskae.read.dialect import Dialect
from daskae.read.raw import read_records

from .naive import data_records
from .reading import PLAIN, Row, cells, cut, read, read_bytes, reasons

HEADER = (b"id", b"n")
LINES = st.sampled_from(
    [
        b"1,2",
        b"",
        b'"a\nb",3',
        b'"a\r\nb",3',
        b"x",
        b"a,b,c",
        b'"un',
        b'2,"un',
        b"\xff,1",
        b'"\xff\n",1',
        b'st"r,2',
        b'"a"b,2',
        b"id,n",
        b'"id","n"',
        b'"",""',
        b",",
        b'"q""q",\xc3\xa9',
        b"id,n,",
        b"\0,\x1a",
        b" ,\t",
        b'"1,2',
        b'3,4"',
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n"])
DIRTY = st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=14).map(b"".join)
TAILS = st.sampled_from([b"", b"7,8", b'7,"8', b"7"])
HEADERS = st.sampled_from([b"id,n\n", b"id,n\r\n", b"id,n\r", b'"id",n\n', b"\xef\xbb\xbfid,n\n"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("csv")


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def expected_rows(data: bytes, limit: int = 1 << 24) -> list[Row]:
    """What the rules say about a file of two columns, found without the reader."""
    bom = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    rows = []
    for item in data_records(data[bom:], limit)[1:]:
        piece = data[bom + item.start : bom + item.end]
        given_cells: tuple[str, ...] | None = None
        reason = message = ""
        if item.malformed:
            reason, message = "malformed_quoting", "a quoted field is not closed, or is followed by other text"
        elif not is_text(piece):
            reason, message = "invalid_encoding", "the bytes are not valid in the declared encoding"
        elif len(item.fields) != 2:
            reason, message = "wrong_field_count", f"2 fields expected, {len(item.fields)} found"
        else:
            given_cells = tuple(field.decode() for field in item.fields)
            reason = "repeated_header" if item.fields == HEADER else ""
        raw = piece.decode("utf-8", "backslashreplace").rstrip("\r\n")
        rows.append(Row(0, given_cells, reason, message, raw, bom + item.start))
    return rows


def without_segments(rows: list[Row]) -> list[Row]:
    return [replace(row, segment=0) for row in rows]


@given(
    header=HEADERS, body=DIRTY, tail=TAILS, block=st.integers(1, 80), window=st.sampled_from([1, 2, 3, 7, 16, 1 << 20])
)
@settings(max_examples=200)
def test_dirty_bytes_in_any_blocks(
    folder: Path, header: bytes, body: bytes, tail: bytes, block: int, window: int
) -> None:
    data = header + body + tail
    (folder / "any.csv").write_bytes(data)
    segments = cut(folder / "any.csv", block=block)
    assert [segment.start for segment in segments[1:]] == [segment.end for segment in segments[:-1]]
    assert without_segments(read(segments, window=window)) == expected_rows(data)


@given(body=DIRTY, block=st.integers(1, 80), limit=st.integers(10, 16), window=st.sampled_from([5, 1 << 20]))
@settings(max_examples=100)
def test_dirty_bytes_under_a_small_bound(folder: Path, body: bytes, block: int, limit: int, window: int) -> None:
    data, dialect = b"id,n\n" + body, Dialect(max_record_bytes=limit)
    (folder / "bound.csv").write_bytes(data)
    rows = read(cut(folder / "bound.csv", dialect, block), dialect, window=window)
    assert without_segments(rows) == expected_rows(data, limit)


@given(body=DIRTY, column=st.sampled_from(["id", "n"]))
@settings(max_examples=60)
def test_fewer_columns_change_no_row(folder: Path, body: bytes, column: str) -> None:
    data = b"id,n\n" + body
    (folder / "few.csv").write_bytes(data)
    place = ("id", "n").index(column)
    expected = [row if row.cells is None else replace(row, cells=(row.cells[place],)) for row in expected_rows(data)]
    assert read(cut(folder / "few.csv"), columns=[column]) == expected


@given(bodies=st.lists(DIRTY, min_size=1, max_size=5), window=st.sampled_from([30, 100, 1 << 20]))
@settings(max_examples=100)
def test_many_small_files_packed_together(folder: Path, bodies: list[bytes], window: int) -> None:
    segments, expected = [], []
    for i, body in enumerate(bodies):
        path = folder / f"small-{i}.csv"
        path.write_bytes(b"id,n\n" + body)
        segments += cut(path)
        expected += [replace(row, segment=i) for row in expected_rows(b"id,n\n" + body)]
    assert read(segments, window=window) == expected


FIXED = {
    "quotes": b'\xef\xbb\xbfid,n\r\n1,"a\r\nb"\n\n2,"""\n"""\r3,"open\n4,x\n"5",y\r\n6,"z"z\n7',
    "encoding": b"id,n\n1,\xff\n2,\xc3\xa9\n3,x\n\xc3,1\n",
    "lines": b"id,n\n" + b"".join(b"%d,%s\n" % (i, b"x" * (i % 7)) for i in range(20)),
    "header only": b"id,n\n",
    "header without a line end": b"id,n",
    "mark only before the header": b"\xef\xbb\xbfid,n",
}


@pytest.mark.parametrize("name", FIXED)
def test_every_block_size_from_one_byte_to_the_whole_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_bytes(FIXED[name])
    for block in range(1, len(FIXED[name]) + 1):
        rows = without_segments(read(cut(tmp_path / "a.csv", block=block)))
        assert rows == expected_rows(FIXED[name]), block


def test_the_raw_text_of_rows_without_parsing(tmp_path: Path) -> None:
    data = FIXED["quotes"]
    (tmp_path / "a.csv").write_bytes(data)
    (segment,) = cut(tmp_path / "a.csv")
    expected = expected_rows(data)
    found = []
    for count, raw in raw_batches(segment, PLAIN, 16):
        texts, offsets = raw(pa.array(range(count), pa.int64()).to_numpy())
        found += list(zip(texts, offsets, strict=True))
    assert found == [(row.raw, row.offset) for row in expected]
    starts = [row.offset for row in expected if row.offset is not None]
    texts, places = read_records(segment, PLAIN, starts, [*starts[1:], len(data)])
    assert list(zip(texts, places, strict=True)) == found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"id,n\r\n1,a\r\n2,b\r\n", [("1", "a"), ("2", "b")]),
        (b"id,n\r1,a\r2,b", [("1", "a"), ("2", "b")]),
        (b"id,n\n1,a\r\n2,b\r3,c", [("1", "a"), ("2", "b"), ("3", "c")]),
        (b"id,n\n\n\n1,a\n\n\n2,b\n\n", [("1", "a"), ("2", "b")]),
        (b"\xef\xbb\xbfid,n\n1,a\n", [("1", "a")]),
        (b'"id","n"\n1,a\n', [("1", "a")]),
        (b"id,n\n1,a\0b\n\0,\x1a\n", [("1", "a\0b"), ("\0", "\x1a")]),
        (b"id,n\nNA,null\n007,9007199254740993\n", [("NA", "null"), ("007", "9007199254740993")]),
        (b"id,n", []),
    ],
)
def test_ordinary_shapes(tmp_path: Path, data: bytes, expected: list[tuple[str, ...]]) -> None:
    rows = read_bytes(tmp_path, data)
    assert cells(rows) == expected
    assert set(reasons(rows)) <= {""}


def test_one_column_keeps_quoted_empty_fields_and_skips_blank_lines(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, b'id\n1\n\n""\r\n \n2')
    assert [(row.cells, row.offset) for row in rows] == [(("1",), 3), (("",), 6), ((" ",), 10), (("2",), 12)]


def test_the_header_line_again(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, b'id,n\n1,a\nid,n\n"id","n"\nid,m\n2,b\n')
    assert reasons(rows) == ["", "repeated_header", "repeated_header", "", ""]
    assert cells(rows) == [("1", "a"), ("id", "m"), ("2", "b")]


@pytest.mark.parametrize("header", [b"id, n", b" id,n", b'id,"n "'])
def test_a_repeated_header_with_blanks_in_its_names(tmp_path: Path, header: bytes) -> None:
    rows = read_bytes(tmp_path, header + b"\n1,a\n" + header + b"\n")
    assert reasons(rows) == ["", "repeated_header"]


def test_a_header_again_behind_a_byte_order_mark(tmp_path: Path) -> None:
    one = b"\xef\xbb\xbfid,n\n1,a\n"
    assert reasons(read_bytes(tmp_path, one + one)) == ["", "repeated_header", ""]


def test_a_blank_line_before_the_header_is_skipped(tmp_path: Path) -> None:
    assert cells(read_bytes(tmp_path, b"\r\n\nid,n\n1,a\n")) == [("1", "a")]


def test_names_given_in_the_settings(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, b"1,a\nx,y\n", Dialect(header=("x", "y")))
    assert cells(rows) == [("1", "a"), ("x", "y")]


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        ("latin-1", b"id,n\n1,caf\xe9\n2,\x80\n", [("1", "café"), ("2", "\x80")]),
        ("cp1252", b"id,n\n1,caf\xe9\n2,\x80\n", [("1", "café"), ("2", "€")]),
        ("UTF8", "id,n\n1,é\n".encode(), [("1", "é")]),
        ("utf-8-sig", "id,n\n1,é\n".encode("utf-8-sig"), [("1", "é")]),
        ("utf-16", "id,n\n1,é\n".encode("utf-16"), [("1", "é")]),
        ("utf-16", b"\xfe\xff" + "id,n\r\n1,é\r\n".encode("utf-16-be"), [("1", "é")]),
        ("utf16", "id,n\n1,é\n".encode("utf-16"), [("1", "é")]),
        ("utf-16-le", "id,n\n1,ਊ\n".encode("utf-16-le"), [("1", "ਊ")]),
        ("utf-32", "id,n\n1,é\n".encode("utf-32"), [("1", "é")]),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, data: bytes, expected: list[tuple[str, ...]]) -> None:
    for block in (1, 1 << 20):
        rows = read_bytes(tmp_path, data, Dialect(encoding=encoding), block)
        assert cells(rows) == expected


def test_a_byte_order_mark_that_the_encoding_does_not_name(tmp_path: Path) -> None:
    data = "\ufeffid,n\n1,a\n".encode("utf-16-le")
    (tmp_path / "a.csv").write_bytes(data)
    (segment,) = cut(tmp_path / "a.csv", Dialect(encoding="utf-16-le"))
    assert segment.columns == ("id", "n")


def test_bytes_that_the_encoding_has_not_reject_their_row_alone(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, b'id,n\n1,\x81\n2,\xe9\n"3","a\n\x9d"\n4,x\n', Dialect(encoding="cp1252"))
    assert reasons(rows) == ["invalid_encoding", "", "invalid_encoding", ""]
    assert [row.raw for row in rows] == ["1,\\x81", "2,é", '"3","a\n\\x9d"', "4,x"]
    assert [row.offset for row in rows] == [5, 9, 13, 23]


def test_half_a_character_in_utf_16_rejects_its_row(tmp_path: Path) -> None:
    data = "id,n\n1,a\n".encode("utf-16-le") + b"\x00\xd8" + ",2\n3,b\n".encode("utf-16-le")
    rows = read_bytes(tmp_path, data, Dialect(encoding="utf-16-le"))
    assert reasons(rows) == ["", "invalid_encoding", ""]
    assert cells(rows) == [("1", "a"), ("3", "b")]


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
LONG = b"id,n\n" + b"".join(b'%d,"%x\n"\n' % (i, i * 2654435761 % 2**32) for i in range(4000))


@pytest.mark.parametrize("ending", PACK)
def test_compressed_files(tmp_path: Path, ending: str) -> None:
    plain = read_bytes(tmp_path, LONG)
    packed = read_bytes(tmp_path, PACK[ending](LONG), name=f"a.csv.{ending}")
    assert packed == [replace(row, offset=None) for row in plain]
    path = tmp_path / f"a.csv.{ending}"
    assert read(cut(path), window=1000) == packed


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("missing", [1, 9, 1000])
def test_a_compressed_file_that_is_cut_short(tmp_path: Path, ending: str, missing: int) -> None:
    path = tmp_path / f"a.csv.{ending}"
    path.write_bytes(PACK[ending](LONG)[:-missing])
    with pytest.raises(InputError, match=rf"(?s)where: .*a\.csv\.{ending}"):
        read(cut(path))


@pytest.mark.parametrize("ending", PACK)
def test_a_file_that_is_not_compressed_as_its_name_says(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.csv.{ending}").write_bytes(b"id,n\n1,a\n")
    with pytest.raises(InputError, match=rf"(?s)cannot be read.*a\.csv\.{ending}"):
        cut(tmp_path / f"a.csv.{ending}")


def test_gzip_members_one_after_the_other(tmp_path: Path) -> None:
    data = gzip.compress(b"id,n\n1,a\n") + gzip.compress(b"2,b\n")
    assert cells(read_bytes(tmp_path, data, name="a.csv.gz")) == [("1", "a"), ("2", "b")]


def test_a_file_cut_after_it_was_planned(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,n\n1,a\n2,b\n")
    segments = cut(path)
    path.write_bytes(b"id,n\n1,a\n")
    with pytest.raises(InputError, match="shorter than it was when planned"):
        read(segments)


@pytest.mark.parametrize("block", [7, 64, 1 << 20])
def test_a_field_beyond_the_bound(tmp_path: Path, block: int) -> None:
    data = b"id,n\n1,a\n2," + b"x" * 500 + b'\n3,b\n4,"' + b"y\n" * 120 + b'"\n5,c\n'
    rows = read_bytes(tmp_path, data, Dialect(max_record_bytes=100), block)
    assert [row.cells for row in rows if row.reason == ""][:2] == [("1", "a"), ("3", "b")]
    assert cells(rows)[-1] == ("5", "c")
    assert [row.reason for row in rows if len(row.raw) > 400] == ["malformed_quoting"]
    assert without_segments(rows) == expected_rows(data, 100)


@pytest.mark.parametrize("block", [5, 11, 1 << 20])
def test_an_unclosed_quote_costs_its_line_only(tmp_path: Path, block: int) -> None:
    rows = read_bytes(tmp_path, b'id,n\n1,"open\n2,b\n3,c\n', block=block)
    assert [(row.raw, row.reason) for row in rows] == [('1,"open', "malformed_quoting"), ("2,b", ""), ("3,c", "")]


def test_a_wrong_number_of_fields_is_said(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, b"id,n\n1\n1,2,3\n1,2,\n1,2\n")
    assert [row.message for row in rows] == [
        "2 fields expected, 1 found", "2 fields expected, 3 found", "2 fields expected, 3 found", ""
    ]  # fmt: skip


@pytest.mark.parametrize("delimiter", [";", "|", "\t", ":", " "])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    mark = delimiter.encode()
    data = b'id,n\n1,"a,b"\n2,c"d\n'.replace(b",", mark)
    assert cells(read_bytes(tmp_path, data, Dialect(delimiter))) == [("1", f"a{delimiter}b"), ("2", 'c"d')]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_runs_of_blanks(tmp_path: Path, end: bytes) -> None:
    data = end.join([b"  id  n", b" 1 \t a ", b"", b"   ", b'2   "b', b"3", b"4 c d"])
    rows = read_bytes(tmp_path, data, Dialect("whitespace"))
    assert cells(rows) == [("1", "a"), ("2", '"b')]
    assert reasons(rows) == ["", "", "wrong_field_count", "wrong_field_count"]
    assert [row.raw.strip() for row in rows] == ["1 \t a", '2   "b', "3", "4 c d"]


@pytest.mark.parametrize("blank", [b" " * 200, b"\x0c", b"\x0b"])
def test_odd_blank_lines_do_not_shift_the_rows_after_them(tmp_path: Path, blank: bytes) -> None:
    data = b"id n\n1 a\n" + blank + b"\n2 b\nx y z\n"
    rows = read_bytes(tmp_path, data, Dialect("whitespace"))
    assert [row.raw for row in rows if row.message.endswith("3 found")] == ["x y z"]
    assert cells(rows) == [("1", "a"), ("2", "b")]


def test_other_quotes_and_no_quotes(tmp_path: Path) -> None:
    data = b"id,n\n1,'a\n''b'\n2,\"c\n"
    assert cells(read_bytes(tmp_path, data, Dialect(quote="'"))) == [("1", "a\n'b"), ("2", '"c')]
    rows = read_bytes(tmp_path, data, Dialect(quote=""))
    assert [row.cells for row in rows] == [("1", "'a"), None, ("2", '"c')]


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)two columns have the same name.*'n' at positions 2 and 4"):
        read_bytes(tmp_path, b"id,n,x,n\n1,2,3,4\n")


def test_a_column_without_a_name_gets_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,,n,\n1,2,3,4\n")
    segments = cut(tmp_path / "a.csv")
    assert segments[0].columns == ("id", "_column2", "n", "_column4")
    assert cells(read(segments, columns=["_column4", "id"])) == [("4", "1")]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "an input file is empty"),
        (b",,\n1,2,3\n", "the header line is not readable"),
        (b"i\0d,n\n1,2\n", "the header line is not readable"),
        (b"caf\xe9,n\n1,2\n", "the header line is not valid in the declared encoding"),
        ("id,n\n1,a\n".encode("utf-16"), "the header line is not (valid|readable)"),
    ],
)
def test_unusable_headers(tmp_path: Path, data: bytes, text: str) -> None:
    with pytest.raises(InputError, match=rf"(?s){text}.*a\.csv"):
        read_bytes(tmp_path, data)


def test_an_empty_file_in_a_compressed_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 bytes after decompression"):
        read_bytes(tmp_path, gzip.compress(b""), name="a.csv.gz")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"delimiter": ""}, "delimiter must be one ASCII character"),
        ({"delimiter": "ab"}, "delimiter must be one ASCII character"),
        ({"delimiter": "§"}, "delimiter must be one ASCII character"),
        ({"delimiter": "\n"}, "delimiter"),
        ({"delimiter": "\r"}, "delimiter"),
        ({"quote": "''"}, "quote must be one ASCII character"),
        ({"quote": ","}, "quote must be one ASCII character"),
        ({"quote": "\n"}, "quote"),
        ({"encoding": "klingon"}, "unknown encoding"),
        ({"encoding": "hex"}, "encoding"),
    ],
)
def test_dialects_that_cannot_be(wrong: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        Dialect(**wrong)  # type: ignore[arg-type]
