"""Law 2: every row read is accepted or in the quarantine, once, with its place, its raw text and all its reasons.

What a row is and why it is rejected is decided here a second time, byte by byte in plain Python.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import EXACT_DUPLICATE, HEADER, POSITIVE_QUANTITY, REPEATED_ORDER, Run, orders_csv, run

from .orders import BAD_AMOUNTS, BAD_DATES, BAD_QUANTITIES, FIELDS, LOW_QUANTITIES, headers, records, whole_runs

BOM = b"\xef\xbb\xbf"
RULES = [POSITIVE_QUANTITY, EXACT_DUPLICATE, REPEATED_ORDER]


@dataclass(frozen=True)
class Row:
    """One data line as it stands in a file."""

    file: str
    number: int
    offset: int
    raw: bytes
    fields: tuple[bytes, ...]


def split(data: bytes) -> Iterator[tuple[int, bytes, tuple[bytes, ...]]]:
    """Yield (offset, raw bytes, fields) of every well-formed record that is not blank."""
    position = len(BOM) if data.startswith(BOM) else 0
    while position < len(data):
        start, fields = position, []
        while True:
            value, position = _field(data, position)
            fields.append(value)
            if data[position : position + 1] != b",":
                break
            position += 1
        if position > start:
            yield start, data[start:position], tuple(fields)
        position += 2 if data[position : position + 2] == b"\r\n" else 1


def _field(data: bytes, position: int) -> tuple[bytes, int]:
    """Return the value of the field at a position, and where it ends."""
    if data[position : position + 1] == b'"':
        end = position + 1
        while data[end : end + 2] == b'""' or data[end : end + 1] != b'"':
            end += 2 if data[end : end + 2] == b'""' else 1
        return data[position + 1 : end].replace(b'""', b'"'), end + 1
    end = position
    while end < len(data) and data[end] not in b",\r\n":
        end += 1
    return data[position:end], end


def rows_of(files: dict[str, bytes]) -> list[Row]:
    """All data lines of some files, in path order."""
    rows = []
    for name in sorted(files):
        _, *found = split(files[name])
        rows += [Row(name, number, *record) for number, record in enumerate(found, 1)]
    return rows


def early_reasons(row: Row) -> list[str]:
    """Why a row is rejected, looked at alone."""
    try:
        fields = [field.decode() for field in row.fields]
    except UnicodeDecodeError:
        return ["invalid_encoding"]
    if len(fields) != FIELDS:
        return ["wrong_field_count"]
    if tuple(fields) == HEADER:
        return ["repeated_header"]
    _, customer, date, amount, quantity, _ = fields
    number = amount in BAD_AMOUNTS or quantity in BAD_QUANTITIES
    found = {
        "missing_customer_id": not customer.strip(),
        "unparsable_date": date in BAD_DATES,
        "unparsable_number": number,
        "non_positive_quantity": quantity in LOW_QUANTITIES,
    }
    return [reason for reason, broken in found.items() if broken]


def reasons_of(rows: list[Row]) -> list[list[str]]:
    """Why each row is rejected, looked at together; empty for accepted rows."""
    lines: set[tuple[bytes, ...]] = set()
    orders: set[bytes] = set()
    result = []
    for row in rows:
        reasons = early_reasons(row)
        if not reasons:
            order = row.fields[0]
            late = {"exact_duplicate": row.fields in lines, "repeated_order": order in orders and order != b""}
            reasons = [reason for reason, broken in late.items() if broken]
            lines.add(row.fields)
            orders.add(order)
        result.append(reasons)
    return result


def assert_conserved(found: Run, files: dict[str, bytes]) -> None:
    """Compare a run with what the rows themselves say."""
    rows = rows_of(files)
    reasons = reasons_of(rows)
    rejected = [(row, why) for row, why in zip(rows, reasons, strict=True) if why]
    counts = found.summary.rows
    assert (counts.read, counts.accepted, counts.rejected) == (len(rows), len(rows) - len(rejected), len(rejected))
    assert found.counts == dict(Counter(why[0] for _, why in rejected))
    shown = [(q["file"], q["row_number"], q["reason"], q["reasons"]) for q in found.quarantine]
    assert shown == [(row.file, row.number, why[0], why) for row, why in rejected]
    for quarantined, (row, _) in zip(found.quarantine, rejected, strict=True):
        assert quarantined["byte_offset"] == row.offset
        assert quarantined["raw"] == row.raw.decode("utf-8", "backslashreplace")
        assert files[row.file][row.offset :].startswith(row.raw)


def assert_each_file_adds_up(found: Run, files: dict[str, bytes]) -> None:
    """In every file, no row is rejected twice, and none is beyond the file's last."""
    read = Counter(row.file for row in rows_of(files))
    places = [(row["file"], row["row_number"]) for row in found.quarantine]
    assert len(places) == len(set(places))
    assert all(1 <= number <= read[file] for file, number in places)


@st.composite
def folders(draw: st.DrawFn) -> dict[str, bytes]:
    """One to three files."""
    count = draw(st.integers(1, 3))
    return {f"orders-{i}.csv": draw(headers()) + b"".join(draw(records())) for i in range(count)}


@given(files=folders(), block=st.sampled_from([64, 150, 1000, 1 << 20]))
@whole_runs(8)
def test_every_row_is_accepted_or_kept(files: dict[str, bytes], block: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "in"
        folder.mkdir()
        for file, data in files.items():
            (folder / file).write_bytes(data)
        found = run(folder, Path(name), rules=RULES, block_size=block)
        assert_conserved(found, files)
        assert_each_file_adds_up(found, files)


def test_rows_without_an_order_id_do_not_repeat_each_other(tmp_path: Path) -> None:
    data = b"".join([",".join(HEADER).encode(), b"\n,C1,2023-01-31,5,1,a", b"\n,C1,2023-01-31,6,1,b\n"])
    path = tmp_path / "orders.csv"
    path.write_bytes(data)
    assert_conserved(run(path, tmp_path, rules=RULES), {path.name: data})


@pytest.mark.parametrize("names", [("gz", "gzip"), ("zst", "zstd"), ("bz2", "bz2")])
def test_compressed_files_keep_the_same_rows(names: tuple[str, str], tmp_path: Path) -> None:
    ending, codec = names
    data = orders_csv(60) + orders_csv(5)
    plain = tmp_path / "orders.csv"
    packed = tmp_path / f"orders.csv.{ending}"
    plain.write_bytes(data)
    with pa.CompressedOutputStream(str(packed), codec) as sink:
        sink.write(data)
    runs = [run(path, tmp_path / path.name.replace(".", "-"), rules=RULES) for path in (plain, packed)]

    def shown(found: Run) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k not in ("file", "byte_offset")} for row in found.quarantine]

    assert_conserved(runs[0], {plain.name: data})
    assert shown(runs[1]) == shown(runs[0])
    # A place in the decompressed bytes is no place in the file.
    assert {row["byte_offset"] for row in runs[1].quarantine} == {None}
    assert runs[1].summary.rows == runs[0].summary.rows
