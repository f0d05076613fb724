from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskae.units import (
    format_bytes,
    format_count,
    format_decimal,
    format_seconds,
    parse_bytes,
    parse_seconds,
    units_to_decimal,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1048576", 1048576),
        (1048576, 1048576),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        (" 2GB ", 2 * 10**9),
        ("2gb", 2 * 10**9),
        ("1.5KiB", 1536),
        ("0.1kb", 100),
        ("7B", 7),
        ("3TiB", 3 << 40),
        ("1TB", 10**12),
        ("1.29", 1),
        ("9007199254740993B", 9007199254740993),
    ],
)
def test_sizes(text: str | int, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "MiB", "64 M", "64MiBs", "-1MB", "1e6", "1,5GB", "1.GB", ".5GB", "1 2 MB", "inf"])
def test_texts_that_are_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size; write it like 64MiB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["0", 0, -5, "0.4", "0 GiB", "0.9B"])
def test_sizes_are_positive(text: str | int) -> None:
    with pytest.raises(ValueError, match="a size must be positive"):
        parse_bytes(text)


@pytest.mark.parametrize("value", [1.5, True, None, [1], b"1MB"])
def test_other_types_are_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_bytes(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (64 << 20, "64.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        ((1 << 30) - 1, "1.0 GiB"),
    ],
)
def test_bytes_as_people_read_them(value: float, text: str) -> None:
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00 s"),
        (0.424, "0.42 s"),
        (9.99, "9.99 s"),
        (9.999, "10.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (60, "1 min 00 s"),
        (245.4, "4 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (360000, "100 h 00 min"),
    ],
)
def test_durations(value: float, text: str) -> None:
    assert format_seconds(value) == text


def test_counts() -> None:
    assert (format_count(0), format_count(1234567), format_count(-1000)) == ("0", "1,234,567", "-1,000")


@given(st.integers(-(10**40), 10**40), st.integers(0, 9))
def test_units_are_exact(units: int, scale: int) -> None:
    value = units_to_decimal(units, scale)
    assert value == Decimal(f"{units}E-{scale}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("8911407.9040", "8911407.904"),
        ("100", "100"),
        ("100.00", "100"),
        ("0.0000", "0"),
        ("1E+3", "1000"),
        ("-1.50", "-1.5"),
        ("0.00000001", "0.00000001"),
        ("-0.00", "0"),
    ],
)
def test_decimals_as_people_read_them(value: str, text: str) -> None:
    assert format_decimal(Decimal(value)) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0),
        (0, 0.0),
        ("90", 90.0),
        ("5 minutes", 300.0),
        ("5min", 300.0),
        ("2h", 7200.0),
        ("1.5 hours", 5400.0),
        ("250ms", 0.25),
        ("1 day", 86_400.0),
        ("01:30:00", 5400.0),
        ("1-02:03:04", 93_784.0),
    ],
)
def test_durations_are_read(text: str | float, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 fortnights", "-1s", -1, True, "1:2", "1e3s"])
def test_texts_that_are_no_duration(text: str | float) -> None:
    with pytest.raises(ValueError, match="is not a duration; write it like 90s"):
        parse_seconds(text)
