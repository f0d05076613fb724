"""Columns of every kind, clean and dirty, as CSV files."""

import csv
import math
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from hypothesis import strategies as st

DIRT = ("", " ", "NA", "-", "abc", "1e3", "1,5", "0,99", "007", "nan", "inf", "+4", "12.", ".5", "1e400", "²", "٣")
ODD = (*DIRT, "9" * 50, "0" * 45 + "7", "x" * 90, "ä", "“q”", 'say "hi"', "two\nlines", "2011-02-30", "1/2/10", "null")

_DAYS = st.dates(date(1990, 1, 1), date(2030, 12, 31))


def texts(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


def dates(*formats: str) -> st.SearchStrategy[str]:
    return st.builds(lambda day, form: day.strftime(form), _DAYS, st.sampled_from(formats))


IDS = st.integers(0, 30).map(str) | st.integers(0, 99).map("C-{:03d}".format)
MONEY = st.decimals("-50", "500", places=2).map(str)
DATES = st.sampled_from(
    [("%Y-%m-%d",), ("%Y-%m-%d %H:%M:%S",), ("%d/%m/%Y",), ("%m/%d/%y",), ("%d.%m.%Y",), ("%Y%m%d",), ("%d %B %Y",),
     ("%d/%m/%Y", "%Y-%m-%d"), ("%m/%d/%y", "%m/%d/%Y"), ("%Y-%m-%dT%H:%M:%SZ",), ("%m/%d/%Y %I:%M %p",)]
).flatmap(lambda formats: st.just(dates(*formats)))  # fmt: skip
FREE = st.sampled_from(
    [
        st.integers(-5, 2000).map(str), MONEY, IDS, texts("web", "store"), texts("yes", "no"), texts("true", "f", "0"),
        st.from_regex(r"[a-z]{1,3}@[a-z]{2}\.(com|de)", fullmatch=True),
        st.from_regex(r"[A-Z]{2}-[0-9]{4}", fullmatch=True),
        st.floats(allow_nan=False).map(repr), dates("%Y-%m-%d"), dates("%d/%m/%Y"), texts(*ODD), texts("", "  ", "x"),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=6), texts(""),
        st.integers(0, 10**20).map(str), st.integers(0, 9999).map("{:05d}".format), texts("^a.*$", "*", "[a]", "a|b"),
    ]
)  # fmt: skip


@st.composite
def columns(draw: st.DrawFn, rows: int, values: st.SearchStrategy[str], dirt: float) -> list[str]:
    """Draw a column; about a share of `dirt` of its cells is something else."""
    made = draw(st.lists(values, min_size=rows, max_size=rows))
    for place in draw(st.lists(st.integers(0, rows - 1), max_size=int(dirt * rows))):
        made[place] = draw(st.sampled_from(ODD))
    return made


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[str]]:
    """Draw a table of orders with some free columns."""
    rows = draw(st.integers(1, 40))
    table = {
        draw(st.sampled_from(["order_id", "InvoiceNo", "Order Number"])): draw(columns(rows, IDS, 0.2)),
        draw(st.sampled_from(["customer_id", "CustomerID", "client id"])): draw(columns(rows, IDS, 0.3)),
        draw(st.sampled_from(["order_date", "InvoiceDate", "when"])): draw(
            columns(rows, draw(draw(st.just(DATES))), 0.09)
        ),
    }
    if draw(st.booleans()):
        table["amount"] = draw(columns(rows, MONEY, 0.09))
    else:
        table["Quantity"] = draw(columns(rows, st.integers(-3, 20).map(str), 0.09))
        table[draw(st.sampled_from(["UnitPrice", "unit price", "select"]))] = draw(columns(rows, MONEY, 0.09))
    names = [
        "status",
        "channel",
        "price",
        "e-mail",
        "item code",
        "_load_id",
        'note"s',
        "Größe",
        "currency",
        "part",
        "seq",
    ]
    for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=4)):
        table[name] = draw(columns(rows, draw(FREE), draw(st.sampled_from([0, 0.05, 0.5]))))
    return table


def write_csv(path: Path, table: dict[str, list[str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(table)
        # A row of nothing but empty cells would be a blank line, which is no row.
        writer.writerows(zip(*table.values(), strict=True))
    return path


def frame(table: dict[str, Sequence[str | None]]) -> pl.DataFrame:
    return pl.DataFrame(table, schema=dict.fromkeys(table, pl.String))


_MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
TYPED: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), st.integers(-5, 10**12)),
    (pa.uint8(), st.integers(0, 255)),
    (pa.float64(), st.floats(-100, 100) | st.sampled_from([math.nan, math.inf, 1e300])),
    (pa.decimal128(12, 2), st.decimals("-99", "99", places=2)),
    (pa.decimal128(20, 8), st.decimals("0", "9", places=8)),
    (pa.bool_(), st.booleans()),
    (pa.date32(), st.dates(date(1990, 1, 1), date(2030, 1, 1))),
    (pa.timestamp("us"), _MOMENTS),
    (pa.timestamp("ns", "Europe/Berlin"), _MOMENTS),
    (pa.string(), st.sampled_from(ODD)),
    (pa.binary(), st.binary(max_size=3)),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b"])),
    (pa.list_(pa.int64()), st.lists(st.integers(0, 3), max_size=2)),
]


@st.composite
def typed_tables(draw: st.DrawFn) -> pa.Table:
    """Draw a table of orders whose columns have types, as Parquet files have."""
    rows = draw(st.integers(1, 30))
    made: dict[str, pa.Array] = {}
    kinds = {"customer_id": [0, 9], "order_date": [6, 7, 8], "amount": [0, 2, 3, 4], "status": range(13)}
    for name, indices in {**kinds, "x": range(13)}.items():
        dtype, values = TYPED[draw(st.sampled_from(indices))]
        cells = draw(st.lists(values | st.none() if draw(st.booleans()) else values, min_size=rows, max_size=rows))
        made[name] = pa.array(cells, dtype)
    return pa.table(made)
