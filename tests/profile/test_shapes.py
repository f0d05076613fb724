import re
import string
from datetime import datetime

import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from daskae.profile.shapes import (
    ISO_DAY,
    ISO_TIME,
    LONG,
    LONGEST,
    NUMBER,
    date_formats,
    decimals_of,
    pattern_of,
    rival_formats,
    shapes_of,
)  # fmt: skip


def shape(text: str) -> str:
    return str(shapes_of(pl.Series([text]))[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A12-b3", "A99-a9"),
        ("", ""),
        ("Größe 1", "Aaößa 9"),
        ("٣", "٣"),
        ("x" * LONGEST, "a" * LONGEST),
        ("x" * 41, LONG),
    ],
)
def test_a_shape(text: str, expected: str) -> None:
    assert shape(text) == expected


@given(st.lists(st.text(max_size=50)))
def test_shapes_are_those_of_each_text(texts: list[str]) -> None:
    def naive(text: str) -> str:
        if len(text.encode()) > LONGEST:
            return LONG
        marks = {**dict.fromkeys(string.digits, "9"), **dict.fromkeys(string.ascii_uppercase, "A")}
        return "".join({**marks, **dict.fromkeys(string.ascii_lowercase, "a")}.get(c, c) for c in text)

    found = shapes_of(pl.Series("texts", texts, dtype=pl.String))
    assert found.to_list() == [naive(text) for text in texts]
    assert shapes_of(pl.Series("texts", ["", *texts], dtype=pl.String).slice(1)).to_list() == found.to_list()


@given(st.text(max_size=20))
def test_the_pattern_of_a_shape_fits_its_texts(text: str) -> None:
    assume(shape(text) != LONG)
    pattern = f"^{pattern_of(shape(text))}$"
    assert pl.Series([text]).str.contains(pattern)[0]
    assert not pl.Series([f"{text}!!"]).str.contains(pattern)[0]


def test_a_pattern_is_short() -> None:
    assert pattern_of("AA-9999.a") == r"[A-Z]{2}-[0-9]{4}\.[a-z]"


@given(st.text(alphabet=" +-.0123456789eE_,xX\u00a0naif", max_size=8) | st.text(max_size=5))
def test_what_is_read_as_a_number_has_the_shape_of_one(text: str) -> None:
    number = pl.Series([text]).str.strip_chars().cast(pl.Float64, strict=False)[0]
    looks = bool(pl.Series([shape(text)]).str.contains(NUMBER)[0])
    if number is not None and "n" not in text.lower():
        assert looks
    if looks and re.fullmatch(r"\s*[+-]?[\d.]+\s*", text):
        assert number is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2011-12-01", (ISO_DAY,)),
        ("2011-12-01T08:26:00Z", (ISO_TIME,)),
        ("2011-12-01 08:26:00.5+01:00", (ISO_TIME,)),
        ("1/2/2011", ("%d/%m/%Y", "%m/%d/%Y")),
        ("12/1/10 8:26", ("%d/%m/%y %H:%M", "%m/%d/%y %H:%M")),
        ("01.02.2011", ("%d.%m.%Y",)),
        ("1-Dec-2011", ("%d-%b-%Y",)),
        ("December 1, 2011", ("%B %d, %Y",)),
        ("12/1/2010 8:26 PM", ("%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p")),
        ("20111201", ("%Y%m%d",)),
        ("201112", ()),
        ("17850.0", ()),
    ],
)
def test_formats_of_a_date(text: str, expected: tuple[str, ...]) -> None:
    assert date_formats(shape(text)) == expected
    for date_format in expected:
        assert rival_formats(date_format) == expected


@given(st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)))
def test_each_format_is_found_by_what_it_writes(moment: datetime) -> None:
    for date_format in (
        "%d/%m/%Y",
        "%m/%d/%y %H:%M",
        "%Y/%m/%d %H:%M:%S",
        "%d %B %Y",
        "%B %d, %Y",
        "%d-%m-%Y %I:%M %p",
    ):
        assert date_format in date_formats(shape(moment.strftime(date_format)))


@pytest.mark.parametrize(("form", "digits"), [("9", 0), ("9.99", 2), (".9", 1), ("9.", 0), ("9.999a-9", 3)])
def test_decimals(form: str, digits: int) -> None:
    assert decimals_of(form) == digits
