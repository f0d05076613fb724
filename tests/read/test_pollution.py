"""Every kind of dirt that CSV files are known for: the exact cells, or the exact reason, and nothing lost."""

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from daskae.config import load_settings
from daskae.errors import InputError, SettingsError
from daskae.read.dialect import Dialect
from daskae.run.inputs import dialect_of

from .reading import PLAIN, Row, cells, cut, read, read_bytes, reasons

QUOTING, COUNT, AGAIN = "malformed_quoting", "wrong_field_count", "repeated_header"
A = ("1", "tea", "2.50")
B = ("2", "milk", "1.05")


@dataclass(frozen=True)
class Case:
    """A file with a lead (what comes before its first row) and a body."""

    lead: str
    body: str
    good: list[tuple[str, ...]]
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """Reason and raw text of each rejected row."""
    dialect: Dialect = PLAIN


HEAD = "id,name,price\n"
CASES = {
    # Delimiters
    "semicolons": Case("id;name;price\n", "1;tea;2.50\n2;milk;1.05\n", [A, B], dialect=Dialect(";")),
    "tabs": Case("id\tname\tprice\n", "1\ttea\t2.50\n", [A], dialect=Dialect("\t")),
    "single blanks": Case("id name price\n", '1 tea 2.50\n2 "soy milk" 3\n3 oat milk 3\n',
        [A, ("2", "soy milk", "3")], [(COUNT, "3 oat milk 3")], Dialect(" ")),
    "runs of blanks": Case("id  name  price\n", "1\ttea   2.50 \n  2 milk 1.05\n", [A, B],
        dialect=Dialect("whitespace")),
    "control characters": Case("id\x1fname\x1fprice\n", "1\x1ftea\x1f2.50\n", [A], dialect=Dialect("\x1f")),
    "comma and blank": Case("id, name, price\n", '1, "tea, green", 2.50\n2,milk, 1.05\n3, , \n',
        [("1", "tea, green", "2.50"), ("3", "", "")], [(COUNT, "2,milk, 1.05")], Dialect(", ")),
    "two bars": Case("id||name||price\n", "1||te|a||2.50\n2||milk|1.05\n",
        [("1", "te|a", "2.50")], [(COUNT, "2||milk|1.05")], Dialect("||")),
    "one row with other delimiters": Case(HEAD, "1,tea,2.50\n2;milk;1.05\n", [A], [(COUNT, "2;milk;1.05")]),
    "the wrong delimiter throughout": Case("id;name;price\n", "1;tea;2,50\n2;milk;1,05\n", [],
        [(COUNT, "1;tea;2,50"), (COUNT, "2;milk;1,05")]),
    # Quotes and escapes
    "apostrophes": Case("id,name,price\n", "1,'tea','2.50'\n2,'it''s, yes',3\n", [A, ("2", "it's, yes", "3")],
        dialect=Dialect(quote="'")),
    "apostrophes not doubled": Case(HEAD, "1,'won't, no',2\n2,'milk',1.05\n", [B], [(QUOTING, "1,'won't, no',2")],
        Dialect(quote="'")),
    "no quoting at all": Case(HEAD, '1,"tea,2.50\n2,5" pipe,3\n', [("1", '"tea', "2.50"), ("2", '5" pipe', "3")],
        dialect=Dialect(quote="")),
    "backslashes": Case(HEAD, '1,"5\\" pipe",3\n2,a\\,b,4\n', [("1", '5" pipe', "3"), ("2", "a,b", "4")],
        dialect=Dialect(escape="\\")),
    "backslashes without the setting": Case(HEAD, '1,"5\\" pipe",3\n2,milk,1.05\n', [B],
        [(QUOTING, '1,"5\\" pipe",3')]),
    "a backslash that escapes nothing": Case(HEAD, "1,C:\\tea,2\n", [("1", "C:\\tea", "2")]),
    "a quote more at a field's start": Case(HEAD, '1,""tea",2.50\n2,milk,1.05\n', [B], [(QUOTING, '1,""tea",2.50')]),
    "a quote more at a field's end": Case(HEAD, '1,"tea"",2.50\n2,milk,1.05\n', [B], [(QUOTING, '1,"tea"",2.50')]),
    "a quote inside quotes": Case(HEAD, '1,"5" pipe",3\n2,milk,1.05\n', [B], [(QUOTING, '1,"5" pipe",3')]),
    "a quote inside a plain field": Case(HEAD, '1,5" pipe,3\n', [("1", '5" pipe', "3")]),
    "a quote never closed": Case(HEAD, '1,"tea,2.50\n2,milk,1.05\n', [B], [(QUOTING, '1,"tea,2.50')]),
    "a quote never closed before a quoted field": Case(HEAD, '1,"tea,2.50\n2,"milk",1.05\n', [B],
        [(QUOTING, '1,"tea,2.50')]),
    "text behind a quoted field": Case(HEAD, '1,"tea" hot,2.50\n2,milk,1.05\n', [B], [(QUOTING, '1,"tea" hot,2.50')]),
    "blanks around quotes": Case(HEAD, '1, "tea",2\n2,"milk" ,3\n', [("1", ' "tea"', "2")], [(QUOTING, '2,"milk" ,3')]),
    "delimiters and line ends in quotes": Case(HEAD, '1,"a,b\nc\r\nd",2\n', [("1", "a,b\nc\r\nd", "2")]),
    "curly quotes are letters": Case(HEAD, "1,“tea”,2\n", [("1", "“tea”", "2")]),
    # Header
    "no header": Case("", "1,tea,2.50\n2,milk,1.05\n", [A, B], dialect=Dialect(header=("id", "name", "price"))),
    "a header of two lines": Case(HEAD, "id,name,price\n1,tea,2.50\n", [A], [(AGAIN, "id,name,price")]),
    "a header of two lines, both left out": Case("number,,gross\nid,name,price\n", "1,tea,2.50\n", [A],
        dialect=Dialect(header=("id", "name", "price"), skip_rows=2)),
    "quoted header": Case('"id","na\nme","price"\r\n', "1,tea,2.50\r\n", [A]),
    "header with an empty name": Case("id,,price\n", "1,tea,2.50\n", [A]),
    "header with a name too few": Case("id,name\n", "1,tea,2.50\n2,milk\n", [("2", "milk")], [(COUNT, "1,tea,2.50")]),
    "header with a name too many": Case("id,name,price,\n", "1,tea,2.50\n2,milk,1.05,\n", [(*B, "")],
        [(COUNT, "1,tea,2.50")]),
    "header only": Case(HEAD, "", []),
    "header only, without a line end": Case("id,name,price", "", []),
    # Lines around and between tables
    "preamble": Case('Shop "North\n\nid,name,price\n', "1,tea,2.50\n", [A], dialect=Dialect(skip_rows=1)),
    "preamble with its blank line": Case("Shop,,\r\n,,\r\nid,name,price\r\n", "1,tea,2.50\r\n", [A],
        dialect=Dialect(skip_rows=2)),
    "footnotes": Case(HEAD, "1,tea,2.50\n\nTotal: 2.50\n* net\n", [A], [(COUNT, "Total: 2.50"), (COUNT, "* net")]),
    "a second table with fewer columns": Case(HEAD, "1,tea,2.50\nid,name\n1,North\n", [A],
        [(COUNT, "id,name"), (COUNT, "1,North")]),
    "a second table with more columns": Case(HEAD, "1,tea,2.50\n\nid,a,b,c\n1,2,3,4\n", [A],
        [(COUNT, "id,a,b,c"), (COUNT, "1,2,3,4")]),
    "the same table twice": Case(HEAD, "1,tea,2.50\nid,name,price\n2,milk,1.05\n", [A, B], [(AGAIN, "id,name,price")]),
    "empty lines everywhere": Case("\n\r\n" + HEAD, "\n1,tea,2.50\n\n\n2,milk,1.05\n\n\n", [A, B]),
    "lines of blanks": Case(HEAD, "1,tea,2.50\n   \n\t\n", [A], [(COUNT, "   "), (COUNT, "\t")]),
    "lines of delimiters": Case(HEAD, "1,tea,2.50\n,,\n", [A, ("", "", "")]),
    # Line ends
    "no final line end": Case(HEAD, "1,tea,2.50\n2,milk,1.05", [A, B]),
    "two final line ends": Case(HEAD, "1,tea,2.50\n\n", [A]),
    "CRLF": Case("id,name,price\r\n", "1,tea,2.50\r\n2,milk,1.05\r\n", [A, B]),
    "CR": Case("id,name,price\r", "1,tea,2.50\r2,milk,1.05\r", [A, B]),
    "all of them": Case("id,name,price\r\n", "1,tea,2.50\n2,milk,1.05\r1,tea,2.50\r\n\r2,milk,1.05", [A, B, A, B]),
    "CR CR LF": Case("id,name,price\r\r\n", "1,tea,2.50\r\r\n2,milk,1.05\r\r\n", [A, B]),
    "other line ends of Unicode are letters": Case(HEAD, "1,a\u2028b\x0bc\x0cd\x85,2\n",
        [("1", "a\u2028b\x0bc\x0cd\x85", "2")]),
    # Fields
    "a field too few": Case(HEAD, "1,tea\n2,milk,1.05\n", [B], [(COUNT, "1,tea")]),
    "a field too many": Case(HEAD, "1,tea,green,2.50\n2,milk,1.05\n", [B], [(COUNT, "1,tea,green,2.50")]),
    "a delimiter at the end of one row": Case(HEAD, "1,tea,2.50,\n2,milk,1.05\n", [B], [(COUNT, "1,tea,2.50,")]),
    "decimal commas": Case(HEAD, '1,tea,2,50\n2,milk,"1,05"\n', [("2", "milk", "1,05")], [(COUNT, "1,tea,2,50")]),
    "null bytes": Case(HEAD, "1,te\0a,\0\n\0,,\n", [("1", "te\0a", "\0"), ("\0", "", "")]),
    "end-of-file characters": Case(HEAD, "1,\x1a,2\n\x1a", [("1", "\x1a", "2")], [(COUNT, "\x1a")]),
    "a long field": Case(HEAD, f"1,{'x' * 5000},2\n" + '2,"' + "y\n" * 900 + '",3\n',
        [("1", "x" * 5000, "2"), ("2", "y\n" * 900, "3")]),
    "records longer than the bound": Case(HEAD, f'1,{"x" * 60},2\n2,"{"y" * 30}\n{"z" * 30}",3\n2,milk,1.05\n', [B],
        [(QUOTING, f"1,{'x' * 60},2"), (QUOTING, f'2,"{"y" * 30}'), (COUNT, f'{"z" * 30}",3')],
        Dialect(max_record_bytes=50)),
    # Encodings
    "byte order mark": Case("\ufeff" + HEAD, "1,tea,2.50\n", [A]),
    "byte order mark and quoted header": Case('\ufeff"id","name","price"\n', "1,tea,2.50\n", [A]),
    "byte order mark and preamble": Case("\ufeffShop\nid,name,price\n", "1,tea,2.50\n", [A],
        dialect=Dialect(skip_rows=1)),
    "latin-1": Case(HEAD, "1,café,2\n", [("1", "café", "2")], dialect=Dialect(encoding="latin-1")),
    "utf-16": Case(HEAD, '1,"caf\né",2\n', [("1", "caf\né", "2")], dialect=Dialect(encoding="utf-16")),
    "utf-16 with a preamble": Case("Ladén\r\n\r\nid,name,price\r\n", "1,é,2\r\n", [("1", "é", "2")],
        dialect=Dialect(encoding="utf-16", skip_rows=1)),
    "shift-jis": Case(HEAD, "1,ソ表,2\n", [("1", "ソ表", "2")], dialect=Dialect(encoding="shift_jis")),
    "emoji and combining letters": Case(HEAD, "1,🫖e\u0301,2\n", [("1", "🫖e\u0301", "2")]),
}  # fmt: skip


def lines(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")


@pytest.mark.parametrize("name", CASES)
def test_dirt(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    data = (case.lead + case.body).encode(case.dialect.encoding)
    (tmp_path / "a.csv").write_bytes(data)
    seen: list[list[Row]] = []
    for block, window in ((1 << 20, 1 << 20), (1, 3), (7, 1 << 20), (1 << 20, 16)):
        rows = read(cut(tmp_path / "a.csv", case.dialect, block), case.dialect, window=window)
        assert cells(rows) == case.good
        assert [(row.reason, row.raw) for row in rows if row.reason] == case.rejected
        assert len(rows) == len(case.good) + len(case.rejected)
        assert "".join(lines(row.raw) for row in rows) == lines(case.body), "every character is in one row"
        seen.append([Row(0, row.cells, row.reason, row.message, row.raw, row.offset) for row in rows])
    assert all(rows == seen[0] for rows in seen)


@pytest.mark.parametrize("name", ["preamble", "quoted header", "a quote inside quotes", "comma and blank", "CR"])
def test_the_same_compressed(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    data = gzip.compress((case.lead + case.body).encode())
    rows = read_bytes(tmp_path, data, case.dialect, name="a.csv.gz")
    assert cells(rows) == case.good
    assert [(row.reason, row.raw) for row in rows if row.reason] == case.rejected


@pytest.mark.parametrize(
    ("encoding", "bad"), [("utf-8", b"2,caf\xe9,1\n"), ("ascii", b"2,\xff,1\n"), ("utf-8", b'2,"\xc3\n\x28",1\n')]
)
def test_bytes_that_are_no_text_cost_one_row(tmp_path: Path, encoding: str, bad: bytes) -> None:
    rows = read_bytes(tmp_path, HEAD.encode() + b"1,tea,2.50\n" + bad + b"2,milk,1.05\n", Dialect(encoding=encoding))
    assert cells(rows) == [A, B]
    assert reasons(rows) == ["", "invalid_encoding", ""]
    assert rows[1].raw == bad.decode("utf-8", "backslashreplace").rstrip("\n")


@pytest.mark.parametrize(
    ("data", "dialect", "text"),
    [
        (b"", PLAIN, "an input file is empty"),
        (b"\n\r\n", PLAIN, "an input file holds no header"),
        (b"   \n \t \n", PLAIN, "the header line is not readable"),
        (b"\xef\xbb\xbf", PLAIN, "an input file holds no header"),
        (b"id,id,price\n1,2,3\n", PLAIN, "two columns have the same name"),
        (b"id,Name, id\n1,2,3\n", PLAIN, "input.header, and leave this line out with input.skip_rows"),
        (",,\n1,2,3\n".encode("utf-16"), PLAIN, "the header line is not"),
        ("id,name\n".encode("utf-16-le"), PLAIN, "check input.encoding"),
        (b"caf\xe9,b\n1,2\n", PLAIN, "set input.encoding"),
        (b"one line\n", Dialect(skip_rows=2), "an input file ends before its header"),
        (b"one line", Dialect(skip_rows=1), "an input file ends before its header"),
        (b"one line\n\n", Dialect(skip_rows=1), "an input file holds no header"),
    ],
)
def test_files_that_cannot_be_read_at_all(tmp_path: Path, data: bytes, dialect: Dialect, text: str) -> None:
    with pytest.raises(InputError, match=text):
        read_bytes(tmp_path, data, dialect)
    if data:
        with pytest.raises(InputError, match=text):
            read_bytes(tmp_path, gzip.compress(data), dialect, name="a.csv.gz")


def test_a_header_with_equal_names_read_under_names_of_ones_own(tmp_path: Path) -> None:
    rows = read_bytes(tmp_path, b"id,x,x\n1,tea,2.50\n", Dialect(header=("id", "name", "price"), skip_rows=1))
    assert cells(rows) == [A]


def test_settings_say_how_a_source_is_written() -> None:
    given = {"delimiter": "|", "quote": "'", "escape": "\\", "skip_rows": 2, "header": ["a", "b"], "encoding": "cp1252"}
    dialect = dialect_of(load_settings({"input": given}, None))
    assert dialect == Dialect("|", "'", "cp1252", ("a", "b"), escape="\\", skip_rows=2)


@pytest.mark.parametrize("header", [(), ("a", "a"), ("a", "")])
def test_names_that_cannot_be(header: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="names of columns"):
        Dialect(header=header)


@pytest.mark.parametrize("body", [b"\n\n", b"\r\n"])
def test_a_file_of_blank_lines_under_given_names_has_no_rows(tmp_path: Path, body: bytes) -> None:
    assert read_bytes(tmp_path, body, Dialect(header=("id", "name"))) == []
