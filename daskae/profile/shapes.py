"""The shape of a text: its digits as ``9``, its ASCII letters as ``A`` and ``a``, everything else as it is.

Few shapes stand for many values, so whatever depends on the form alone (may this be a number, which formats may this
date have) is decided once a shape and not once a value.
"""

import re
from functools import lru_cache

import polars as pl
import pyarrow as pa

LONGEST = 40
"""Bytes; a longer text has the shape LONG, as its form says nothing."""
LONG = "…"

NUMBER = r"^\s*[+-]?(9+\.?9*|\.9+)([aA][+-]?9+)?\s*$"
"""Shapes of everything that is read as a number, and of little else."""
DATE = r"^[\s9aA:/.,+-]{6,}$"
"""Shapes that may be those of dates."""

_TABLE = bytes(
    ord("9") if chr(i).isdigit() and i < 128 else ord("A") if 65 <= i <= 90 else ord("a") if 97 <= i <= 122 else i
    for i in range(256)
)


def shapes_of(texts: pl.Series) -> pl.Series:
    """Return the shape of each text; there must be no nulls."""
    arrow = texts.rechunk().to_arrow()
    if not len(arrow):
        return pl.Series(texts.name, [], dtype=pl.String)
    data = (arrow.buffers()[2] or pa.py_buffer(b"")).to_pybytes().translate(_TABLE)
    drawn = pa.LargeStringArray.from_buffers(len(arrow), arrow.buffers()[1], pa.py_buffer(data), None, 0, arrow.offset)
    shapes = pl.Series(texts.name, pl.from_arrow(drawn))
    frame = pl.DataFrame({"shape": shapes, "long": texts.str.len_bytes() > LONGEST})
    if not frame["long"].any():
        return shapes
    return frame.select(pl.when("long").then(pl.lit(LONG)).otherwise("shape").alias(texts.name)).to_series()


def decimals_of(shape: str) -> int:
    """Return how many digits after the point a number of this shape has, the exponent apart."""
    found = re.search(r"\.(9*)", shape)
    return len(found.group(1)) if found else 0


def pattern_of(shape: str) -> str:
    """Return the regular expression of all texts of a shape."""
    pieces = []
    for run in re.finditer(r"(.)\1*", shape, re.DOTALL):
        mark, times = run.group(1), len(run.group())
        piece = _CLASSES.get(mark) or ("\\" + mark if mark in r"\.+*?()|[]{}^$" else mark)
        pieces.append(piece if times == 1 else f"{piece}{{{times}}}")
    return "".join(pieces)


_CLASSES = {"9": "[0-9]", "A": "[A-Z]", "a": "[a-z]"}

_DAYS = (
    (r"9{1,2}/9{1,2}/9{4}", ("%d/%m/%Y", "%m/%d/%Y")),
    (r"9{1,2}/9{1,2}/9{2}", ("%d/%m/%y", "%m/%d/%y")),
    (r"9{1,2}\.9{1,2}\.9{4}", ("%d.%m.%Y",)),
    (r"9{1,2}\.9{1,2}\.9{2}", ("%d.%m.%y",)),
    (r"9{1,2}-9{1,2}-9{4}", ("%d-%m-%Y", "%m-%d-%Y")),
    (r"9{4}/9{1,2}/9{1,2}", ("%Y/%m/%d",)),
    (r"9{4}\.9{1,2}\.9{1,2}", ("%Y.%m.%d",)),
    (r"9{8}", ("%Y%m%d",)),
    (r"9{1,2}-[Aa]{3}-9{4}", ("%d-%b-%Y",)),
    (r"9{1,2}-[Aa]{3}-9{2}", ("%d-%b-%y",)),
    (r"9{1,2} [Aa]{3,9} 9{4}", ("%d %B %Y",)),
    (r"[Aa]{3,9} 9{1,2}, 9{4}", ("%B %d, %Y",)),
)
_TIMES = (
    ("", ""),
    (" 9{1,2}:99", " %H:%M"),
    (" 9{1,2}:99:99", " %H:%M:%S"),
    (" 9{1,2}:99 ?[Aa]{2}", " %I:%M %p"),
    (" 9{1,2}:99:99 ?[Aa]{2}", " %I:%M:%S %p"),
)
ISO_DAY, ISO_TIME = "%Y-%m-%d", "ISO 8601"
"""The first is a format; the second stands for all the forms of a time that are read without one."""
_FORMS = (
    (re.compile(r"\s*9{4}-9{1,2}-9{1,2}\s*"), (ISO_DAY,)),
    (re.compile(r"\s*9{4}-9{1,2}-9{1,2}[ A]99?:99(:99(\.9+)?)?([Aa]|[+-]99:?99)?\s*"), (ISO_TIME,)),
    *(
        (re.compile(rf"\s*{day}{time}\s*"), tuple(date_format + time_format for date_format in formats))
        for day, formats in _DAYS
        for time, time_format in _TIMES
    ),
)


@lru_cache(maxsize=4096)
def date_formats(shape: str) -> tuple[str, ...]:
    """Return the formats that a date of this shape may have; more than one where day and month look alike."""
    return next((formats for form, formats in _FORMS if form.fullmatch(shape)), ())


@lru_cache(maxsize=256)
def rival_formats(date_format: str) -> tuple[str, ...]:
    """Return all formats that texts of the same shapes may have, this one included."""
    return next(formats for _, formats in _FORMS if date_format in formats)
