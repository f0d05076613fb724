"""Escapes and delimiters of several characters, held against rules written once more without any cleverness."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import daskae.read.records as records
from daskae.errors import InputError, SettingsError
from daskae.read.dialect import Dialect
from daskae.read.marks import with_short_delimiter
from daskae.read.record_text import join_record, split_record
from daskae.read.records import first_fields

from .reading import Row, cells, cut, read, read_bytes, reasons

ESCAPED = Dialect(escape="\\")
LONG = Dialect("||")
DIALECTS = {
    "escape": ESCAPED,
    "escape without quotes": Dialect(escape="\\", quote=""),
    "escape in another encoding": Dialect(escape="\\", encoding="cp1252"),
    "escape that may be half a character": Dialect(escape="\\", encoding="shift_jis"),
    "long delimiter": LONG,
    "long delimiter without quotes": Dialect("||", quote=""),
    "long delimiter in another encoding": Dialect("||", encoding="latin-1"),
}
LETTERS = st.sampled_from(
    [b"a", b"|", b"||", b",", b"\n", b"\r\n", b"\r", b'"', b'""', b"\\", b'\\"', b"\xff", b"\xfe"]
)
FIELDS = st.sampled_from(
    [b"1", b"", b'"a||b,c"', b'"a\\"b"', b'"a\nb"', b"a\\\nb", b"\\\\", b'"\\\\"', b"a|b", b"\\,", b'\\"a', b'"a""b"']
)
DELIMITERS = st.sampled_from([b",", b"||", b"|", b"|||", b"\\,"])
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\\\n", b"\n\n"])
REGULAR = st.lists(st.tuples(FIELDS, DELIMITERS, FIELDS, ENDS).map(b"".join), max_size=8).map(b"".join)
WILD = st.lists(LETTERS, max_size=24).map(b"".join)
WAYS = st.sampled_from([10**9, 0, records._MANY])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marks")


def naive_rows(data: bytes, start: int, dialect: Dialect) -> list[Row]:
    """Read complete bytes of two columns from a place on, character by character."""
    rows = []
    while start < len(data):
        end, fields, whole = _match(data, start, dialect)
        if data[start:end].strip(b"\r\n") or not whole:
            rows.append(_row(data, start, end, fields if whole else None, dialect))
        start = end
    return rows


def _row(data: bytes, start: int, end: int, fields: list[bytes] | None, dialect: Dialect) -> Row:
    raw = data[start:end].decode(dialect.encoding, "backslashreplace").rstrip("\r\n")
    try:
        texts = tuple(field.decode(dialect.encoding) for field in fields or [])
        data[start:end].decode(dialect.encoding)
    except UnicodeDecodeError:
        return Row(0, None, "invalid_encoding" if fields is not None else "malformed_quoting", "", raw, start)
    if fields is None:
        return Row(0, None, "malformed_quoting", "", raw, start)
    if len(texts) != 2:
        return Row(0, None, "wrong_field_count", "", raw, start)
    return Row(0, texts, "", "", raw, start)


def _match(data: bytes, start: int, dialect: Dialect) -> tuple[int, list[bytes], bool]:
    """End, fields, and whether they are well-formed, of the record at ``start``."""
    quote, escape, delimiter = dialect.quote.encode(), dialect.escape.encode(), dialect.delimiter.encode()
    fields, field, state, i = [], b"", "start", start
    while i < len(data):
        byte = data[i : i + 1]
        if byte == escape and state != "after":
            if i + 1 == len(data) and state != "quoted":
                return len(data), [], False
            field += data[i + 1 : i + 2]
            i, state = i + 2, "quoted" if state == "quoted" else "plain"
        elif state == "quoted":
            state, field, i = ("after", field, i + 1) if byte == quote else (state, field + byte, i + 1)
        elif data.startswith(delimiter, i):
            fields.append(field)
            field, state, i = b"", "start", i + len(delimiter)
        elif byte in (b"\n", b"\r"):
            return i + 1 + (data[i : i + 2] == b"\r\n"), [*fields, field], True
        elif state == "after":
            if byte != quote:
                return _line_end(data, start, escape), [], False
            field, state, i = field + quote, "quoted", i + 1
        elif state == "start" and byte == quote:
            state, i = "quoted", i + 1
        else:
            field, state, i = field + byte, "plain", i + 1
    if state == "quoted":
        return _line_end(data, start, escape), [], False
    return len(data), [*fields, field], True


def _line_end(data: bytes, i: int, escape: bytes) -> int:
    while i < len(data):
        byte = data[i : i + 1]
        if byte in (b"\n", b"\r"):
            return i + 1 + (data[i : i + 2] == b"\r\n")
        i += 2 if byte == escape else 1
    return len(data)


def plain(rows: list[Row], offsets: bool = True) -> list[Row]:
    return [replace(row, segment=0, message="", offset=row.offset if offsets else None) for row in rows]


@given(data=WILD | REGULAR, block=st.integers(1, 60), window=st.sampled_from([1, 2, 3, 7, 1 << 20]), many=WAYS)
@settings(max_examples=40)
@pytest.mark.parametrize("name", DIALECTS)
def test_any_bytes_in_any_blocks(folder: Path, name: str, data: bytes, block: int, window: int, many: int) -> None:
    dialect = replace(DIALECTS[name], header=("a", "b"))
    if dialect.is_wide:
        data = data.replace(b"\xff", b"\x83\\").replace(b"\xfe", b"\x83|")
    (folder / "any.csv").write_bytes(data or b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_MANY", many)
        rows = plain(read(cut(folder / "any.csv", dialect, block), dialect, window=window), offsets=not dialect.is_wide)
    if dialect.is_wide:
        text = data.decode(dialect.encoding).encode()
        assert rows == plain(naive_rows(text, 0, replace(dialect, encoding="utf-8")), offsets=False)
    else:
        assert rows == naive_rows(data, 0, dialect)


@given(data=WILD | REGULAR, block=st.integers(1, 60), window=st.sampled_from([1, 5, 1 << 20]), limit=st.integers(3, 14))
@settings(max_examples=40)
@pytest.mark.parametrize("name", ["escape", "long delimiter"])
def test_a_small_bound_in_any_blocks(folder: Path, name: str, data: bytes, block: int, window: int, limit: int) -> None:
    dialect = replace(DIALECTS[name], header=("a", "b"), max_record_bytes=limit)
    (folder / "bound.csv").write_bytes(data or b"\n")
    whole = read(cut(folder / "bound.csv", dialect), dialect)
    assert plain(read(cut(folder / "bound.csv", dialect, block), dialect, window=window)) == plain(whole)


@given(bodies=st.lists(REGULAR, min_size=1, max_size=5), window=st.sampled_from([30, 1 << 20]))
@settings(max_examples=40)
@pytest.mark.parametrize("name", ["escape", "long delimiter"])
def test_small_files_packed_together(folder: Path, name: str, bodies: list[bytes], window: int) -> None:
    dialect = replace(DIALECTS[name], header=("a", "b"))
    segments, expected = [], []
    for i, body in enumerate(bodies):
        path = folder / f"small-{i}.csv"
        path.write_bytes(body + b"1")
        segments += cut(path, dialect)
        expected += [replace(row, segment=i) for row in naive_rows(body + b"1", 0, dialect)]
    assert [replace(row, message="") for row in read(segments, dialect, window=window)] == expected


def test_a_backslash_before_what_would_be_a_mark(tmp_path: Path) -> None:
    data = b'id,note\n1,"5\\" nail"\n2,a\\,b\n3,C:\\\\x\n4,two\\\nlines\n5,"doubled "" too"\n6,\\N\n'
    rows = read_bytes(tmp_path, data, ESCAPED)
    assert reasons(rows) == [""] * 6
    assert [row[1] for row in cells(rows)] == ['5" nail', "a,b", "C:\\x", "two\nlines", 'doubled " too', "N"]


def test_an_escape_at_the_very_end_is_a_rejected_row(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, b"id,n\n1,a\n2,b\\", ESCAPED)
    assert [(row.reason, row.message, row.raw) for row in rows[1:]] == [
        ("malformed_quoting", "an escape is the last character of the input", "2,b\\")
    ]


def test_escaped_quotes_without_the_setting_are_rejected_and_kept(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, b'id,n\n1,"5\\" nail"\n2,"b"\n')
    assert reasons(rows) == ["malformed_quoting", ""]
    assert rows[0].raw == '1,"5\\" nail"'


@pytest.mark.parametrize("delimiter", ["||", ", ", "::", "~|~", "\t\t", "  "])
def test_long_delimiters_part_fields_and_their_halves_do_not(tmp_path: Path, delimiter: str) -> None:
    lines = [("id", "note", "n"), ("1", f'"a{delimiter}b"', ""), ("2", f"x{delimiter[0]}y", "z"), ("3", '"q""r"', "5")]
    data = "\n".join(delimiter.join(line) for line in lines).encode()
    assert cells(read_bytes(tmp_path, data, Dialect(delimiter))) == [
        ("1", f"a{delimiter}b", ""), ("2", f"x{delimiter[0]}y", "z"), ("3", 'q"r', "5"),
    ]  # fmt: skip


def test_a_long_delimiter_among_control_characters(tmp_path: Path) -> None:
    control = "".join(map(chr, [*range(10), 11, 12, *range(14, 32)]))
    rows = read_bytes(tmp_path, f'a||b\n"{control}||"||2\n'.encode(), LONG)
    assert cells(rows) == [(control + "||", "2")]


def test_no_character_left_to_stand_for_a_long_delimiter() -> None:
    with pytest.raises(InputError, match="use a delimiter of one character"):
        with_short_delimiter(bytes(range(128)), LONG)


def test_headers_with_escapes_and_long_delimiters() -> None:
    assert first_fields(b'a\\,b,"c\\"d"\n', ESCAPED) == ["a,b", 'c"d']
    assert first_fields('a||"b||ü"||c|\n'.encode(), LONG) == ["a", "b||ü", "c|"]


@given(fields=st.lists(st.text(st.sampled_from('a|,\\"\n\r'), max_size=6), min_size=2, max_size=3))
@pytest.mark.parametrize("dialect", [ESCAPED, LONG, Dialect()], ids=["escape", "long delimiter", "plain"])
def test_what_is_written_is_read_again(dialect: Dialect, fields: list[str]) -> None:
    assert split_record(join_record(fields, dialect), dialect, len(fields)) == fields


def test_compressed_sources(tmp_path: Path) -> None:
    data = gzip.compress(b'note,"pre\nid||n\n1||"a||b"\n')
    rows = read_bytes(tmp_path, data, replace(LONG, skip_rows=1), name="a.csv.gz")
    assert cells(rows) == [("1", "a||b")]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"escape": "ab"}, "the escape must be one ASCII character"),
        ({"escape": '"'}, "a doubled quote needs no escape"),
        ({"escape": ","}, "the escape must be one ASCII character"),
        ({"escape": "\n"}, "the escape must be one ASCII character"),
        ({"escape": "\\", "delimiter": "||"}, "an escape needs a delimiter of one character"),
        ({"escape": "\\", "delimiter": "whitespace"}, "an escape needs a delimiter of one character"),
        ({"delimiter": "\\t"}, "the delimiter must be"),
        ({"delimiter": "tab"}, "the delimiter must be"),
        ({"delimiter": ",\n"}, "the delimiter must be"),
        ({"delimiter": '",'}, "the quote must be"),
        ({"delimiter": "|" * 9}, "the delimiter must be"),
    ],
)
def test_marks_that_cannot_be(wrong: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        Dialect(**wrong)  # type: ignore[arg-type]
