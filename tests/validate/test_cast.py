import itertools
import re
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.config import ColumnSettings
from daskae.errors import SettingsError
from daskae.schema import build_contract
from daskae.validate.cast import CastTable, cast_table, to_decimal

BASE: dict[str, str | ColumnSettings] = {"customer_id": "c", "order_date": "d", "amount": "a"}
LARGEST = 2**63 - 1


def cast(columns: dict[str, str | ColumnSettings], cells: dict[str, Any], scale: int = 4, **more: Any) -> CastTable:
    """Cast a table whose required columns are good unless given."""
    rows = max((len(values) for values in cells.values()), default=1)
    table = {"c": ["x"] * rows, "d": ["2024-01-01"] * rows, "a": ["1"] * rows} | cells
    frame = pl.DataFrame(table)
    return cast_table(frame, build_contract({**BASE, **columns}, frame.columns, scale=scale, **more))


def column(result: CastTable, name: str) -> list[Any]:
    return result.table[name].to_list()


def failures(result: CastTable) -> list[tuple[str, str, list[bool]]]:
    return [(item.reason, item.column, item.mask.to_list()) for item in result.failures]


def decimals(values: list[Any], scale: int = 4, dtype: Any = None) -> list[Decimal | str | None]:
    """Read values as decimals; ``"failed"`` where they are none."""
    result, failed = to_decimal(pl.Series(values, dtype=dtype), scale)
    assert result.dtype == pl.Decimal(38, scale)
    assert not (failed & result.is_not_null()).any()
    return ["failed" if bad else value for value, bad in zip(result, failed, strict=True)]


# ------------------------------------------------------------------------------------------------------------- money

GOOD_NUMBERS = {
    "1": "1", "+1": "1", "-1": "-1", "1.": "1", ".5": "0.5", "-.5": "-0.5", "007": "7", " 1.5 ": "1.5", "\t2\r\n": "2",
    "\u00a03": "3", "1e3": "1000", "1E-4": "0.0001", "1.5e+2": "150", "1.00001e1": "10.0001", "0e0": "0", "-0": "0",
    "1.2345": "1.2345", "1.23450000": "1.2345", "1." + "0" * 60: "1", "0" * 60 + "1": "1", "0." + "0" * 30: "0",
    "-0.0000": "0", "123456789012345.6789": "123456789012345.6789", "1.2345" + "0" * 40: "1.2345",
}  # fmt: skip
BAD_NUMBERS = [
    "1.23456",
    "0.00001",
    "-0.00001",
    "1e-5",
    "1e400",
    "1e-400",
    "inf",
    "-inf",
    "nan",
    "NaN",
    "Infinity",
    ".",
    "-",
    "+",
    "--1",
    "1.5.5",
    "1e",
    "e1",
    "e",
    "1,234.50",
    "1.234,50",
    "1 234",
    "1_000",
    "1_0e1",
    "$5",
    "5%",
    "(12)",
    "12-",
    "0x10",
    "1\0",
    "\u0661",
    "\u0663e0",
    "\uff11",
    "1.-5",
    "x",
    "None",
    "9" * 39,
    "1\u20032",
    "1.23450000000000000001",
    "1e5 1",
]


@pytest.mark.parametrize("text", GOOD_NUMBERS)
def test_texts_that_are_numbers(text: str) -> None:
    assert decimals([text, "7"]) == [Decimal(GOOD_NUMBERS[text]), Decimal(7)]


@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_texts_that_are_not(text: str) -> None:
    assert decimals([text, "7", None]) == ["failed", Decimal(7), None]


@pytest.mark.parametrize("text", ["", " ", "\t \u00a0"])
def test_blanks_are_nothing(text: str) -> None:
    assert decimals([text, "7", "1e2"]) == [None, Decimal(7), Decimal(100)]


@given(
    units=st.integers(-LARGEST, LARGEST),
    scale=st.integers(0, 9),
    zeros=st.integers(0, 12),
    plus=st.booleans(),
    form=st.sampled_from("fE"),
)
@settings(max_examples=150)
def test_the_text_of_any_decimal_reads_back_exactly(units: int, scale: int, zeros: int, plus: bool, form: str) -> None:
    exact = Decimal(f"{units}E-{scale}")
    text = f"{exact:f}" if form == "f" else f"{units}E-{scale}"
    if form == "f" and "." in text:
        text += "0" * zeros
    text = "+" + text if plus and units >= 0 else text
    assert decimals([text], scale) == [exact]


@pytest.mark.parametrize("scale", range(4))
def test_every_short_text_is_exact_or_refused(scale: int) -> None:
    texts = ["".join(letters) for size in range(1, 7) for letters in itertools.product("019.e-", repeat=size)]
    expected: list[Decimal | str | None] = []
    for text in texts:
        number = Decimal(text) if re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", text) else Decimal("nan")
        fits = number.is_finite() and abs(number.adjusted()) <= 38 and abs(number) < Decimal(10) ** (38 - scale)
        fits = fits and round(number, scale) == number
        expected.append(number if fits else "failed")
    assert decimals(texts, scale) == expected


@given(units=st.integers(-(10**15), 10**15), scale=st.integers(0, 6), more=st.integers(1, 12), digit=st.integers(1, 9))
@settings(max_examples=100)
def test_more_digits_are_refused(units: int, scale: int, more: int, digit: int) -> None:
    text = f"{Decimal(f'{units}E-{scale}'):f}"
    text += ("" if "." in text else ".") + "0" * (more - 1) + str(digit)
    assert decimals([text, text + "e0"], scale) == ["failed", "failed"]


@pytest.mark.parametrize("unit", [LARGEST, -LARGEST])
def test_units_of_64_bits_are_the_limit(unit: int) -> None:
    texts = [f"{Decimal(f'{value}E-4'):f}" for value in (unit, unit + (1 if unit > 0 else -1))]
    result = cast({}, {"a": [*texts, "1e30"]})
    assert column(result, "amount") == [Decimal(f"{unit}E-4"), None, None]
    assert failures(result) == [("unparsable_number", "amount", [False, True, True])]


def test_typed_numbers() -> None:
    assert decimals([1, 2**62, None]) == [Decimal(1), Decimal(2**62), None]
    assert decimals([2**64 - 1], 9, pl.UInt64) == [Decimal(2**64 - 1)]
    assert decimals([2**126], 9, pl.Int128) == ["failed"]
    assert decimals([Decimal("1.2345"), Decimal("1.2300"), None]) == [Decimal("1.2345"), Decimal("1.23"), None]
    wide = [Decimal("1.23456"), Decimal("1.23450"), None]
    assert decimals(wide, 4, pl.Decimal(38, 5)) == ["failed", Decimal("1.2345"), None]
    assert decimals([Decimal("1.5")], 2, pl.Decimal(10, 1)) == [Decimal("1.50")]
    assert decimals([Decimal(10**37)], 4, pl.Decimal(38, 0)) == ["failed"]


def test_floats_are_rounded() -> None:
    found = decimals([1.5, 1.23456, 0.1 + 0.2, -0.0, 1e-7, 123456789.12345678, float("inf"), float("nan"), 1e300, None])
    exact = [Decimal(text) for text in ("1.5", "1.2346", "0.3", "0", "0", "123456789.1235")]
    assert found == [*exact, "failed", "failed", "failed", None]
    assert decimals([1.25], 2, pl.Float32) == [Decimal("1.25")]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([True, False]),
        pl.Series(["1", "2"], dtype=pl.Categorical),
        pl.Series([b"1", b"2"]),
        pl.Series([date(2024, 1, 1)]),
        pl.Series([["1"]]),
    ],
    ids=["boolean", "categorical", "binary", "date", "list"],
)
def test_no_type_of_a_source_stops_the_run(values: pl.Series) -> None:
    result, failed = to_decimal(values, 4)
    assert len(result) == len(failed) == len(values)
    assert (result.is_not_null() | failed).all()


# ------------------------------------------------------------------------------------------------------- expressions


def amounts(expression: str, scale: int = 4, **cells: list[Any]) -> list[Decimal | None]:
    result = cast({"amount": expression}, cells, scale)
    found = column(result, "amount")
    bad = [value is None for value in found]
    assert failures(result) == ([("unparsable_number", "amount", bad)] if any(bad) else [])
    return found


def test_products_are_exact() -> None:
    found = amounts(
        "q * p", q=["3", "0.1", "-2", "1.23", "0.01", "x", ""], p=["0.1", "0.2", "1.5", "1.2345", "0.001", "1", "1"]
    )
    assert found == [Decimal("0.3"), Decimal("0.02"), Decimal(-3), None, None, None, None]


def test_one_row_that_overflows_is_one_rejected_row() -> None:
    many = ["2"] * 50
    found = amounts("q * q * q * p", q=[*many, "9" * 20, *many], p=["0.5"] * 101)
    assert found == [*[Decimal(4)] * 50, None, *[Decimal(4)] * 50]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a + 1", ["2", "3", "4"]),
        ("-a", ["-1", "-2", "-3"]),
        ("a * 1.5", ["1.5", "3", "4.5"]),
        ("a / 2", ["0.5", "1", "1.5"]),
        ("a / 0", [None, None, None]),
        ("6 / a", ["6", "3", "2"]),
        ("COALESCE(q, a)", ["1", "2", "5"]),
        ("CASE WHEN a > 2 THEN a * 2 ELSE 0 END", ["0", "0", "6"]),
        ("CASE WHEN a > 2 THEN a * 0.5 ELSE a END", ["1", "2", "1.5"]),
        ("CASE WHEN a > 2 THEN a END", [None, None, "3"]),
        ("ABS(a - 2)", ["1", "0", "1"]),
        ("a + NULL", [None, None, None]),
        ("1", ["1", "1", "1"]),
        ("2.5", ["2.5", "2.5", "2.5"]),
    ],
)
def test_expressions(expression: str, expected: list[str | None]) -> None:
    found = amounts(expression, a=["1", "2", "3"], q=["", "", "5"])
    assert found == [None if text is None else Decimal(text) for text in expected]


def test_a_third_is_not_exact() -> None:
    assert amounts("a / 3", a=["1", "3"]) == [None, Decimal(1)]


@pytest.mark.parametrize(
    "expression", ["SUM(a)", "a - AVG(a)", "MAX(a) - a", "a - LAG(a) OVER (ORDER BY a)", "COUNT(*)"]
)
def test_an_amount_may_not_depend_on_other_rows(expression: str) -> None:
    with pytest.raises(SettingsError, match=r"columns\.amount"):
        amounts(expression, a=["1", "2", "3"])


@pytest.mark.parametrize("expression", ["a > 1", "a || 'x'", "'abc'"])
def test_an_amount_that_is_no_number_is_no_crash(expression: str) -> None:
    found: list[Decimal | None] = [None, None]
    with suppress(SettingsError):  # refusing it before the run is as good
        found = amounts(expression, a=["1", "2"])
    assert found == [None, None]


def test_text_expressions() -> None:
    free: dict[str, str | ColumnSettings] = {
        "customer_id": "REPLACE(c, '.0', '')",
        "channel": ColumnSettings(expression="UPPER(k)"),
        "fixed": ColumnSettings(expression="'web'"),
    }
    result = cast(free, {"c": ["12.0", "7"], "k": ["a", None]})
    assert column(result, "customer_id") == ["12", "7"]
    assert column(result, "channel") == ["A", None]
    assert column(result, "fixed") == ["web", "web"]


# ------------------------------------------------------------------------------------------------------------- dates

GOOD_DATES = {
    "2024-02-29": datetime(2024, 2, 29),
    "2024-02-29 13:14:15": datetime(2024, 2, 29, 13, 14, 15),
    "2024-02-29T13:14:15": datetime(2024, 2, 29, 13, 14, 15),
    "2024-02-29 13:14": datetime(2024, 2, 29, 13, 14),
    "2024-02-29T13:14": datetime(2024, 2, 29, 13, 14),
    "2024-02-29 13:14:15.5": datetime(2024, 2, 29, 13, 14, 15, 500_000),
    "2024-02-29T13:14:15.123456": datetime(2024, 2, 29, 13, 14, 15, 123456),
    "2024-02-29T13:14:15.123456789": datetime(2024, 2, 29, 13, 14, 15, 123456),
    "2024-02-29T13:14:15Z": datetime(2024, 2, 29, 13, 14, 15),
    "2024-02-29T13:14:15.5z": datetime(2024, 2, 29, 13, 14, 15, 500_000),
    "2024-02-29T13:14:15+02:00": datetime(2024, 2, 29, 11, 14, 15),
    "2024-02-29 13:14:15-0530": datetime(2024, 2, 29, 18, 44, 15),
    "2024-02-29 23:30:00 -01": datetime(2024, 3, 1, 0, 30),
    " 2024-02-29 ": datetime(2024, 2, 29),
    "2024-02-29 13:14:15\n": datetime(2024, 2, 29, 13, 14, 15),
    "1969-12-31 23:59:59": datetime(1969, 12, 31, 23, 59, 59),
    "0001-01-01": datetime(1, 1, 1),
    "9999-12-31": datetime(9999, 12, 31),
}
BAD_DATES = [
    "2024-02-30",
    "2023-02-29",
    "2024-13-01",
    "2024-00-10",
    "2024-01-01 24:00:00",
    "2024-01-01 12:60",
    "01/02/2024",
    "20240101",
    "1704067200",
    "tomorrow",
    "2024-01-01T",
    "2024-W01-1",
    "2024-01-01 12:00 PM",
    "\uff12\uff10\uff12\uff14-01-01",
    "2024-01-01 x",
    "0000-01-01",
    "-0001-01-01",
    "+12345-01-01",
    "12345-01-01",
    "NaT",
]


@pytest.mark.parametrize("text", GOOD_DATES)
def test_dates_that_are_read(text: str) -> None:
    for others in ([], ["2024-01-01"], ["2024-01-01 00:00:00"]):
        result = cast({}, {"d": [text, *others]})
        assert column(result, "order_date")[0] == GOOD_DATES[text]
        assert failures(result) == []


@pytest.mark.parametrize("text", BAD_DATES)
def test_dates_that_are_not(text: str) -> None:
    result = cast({}, {"d": [text, "2024-01-01"]})
    assert failures(result) == [("unparsable_date", "order_date", [True, False])]
    assert result.table["order_date"].is_null().to_list() == [True, False]


def test_a_missing_date_is_a_failure() -> None:
    assert failures(cast({}, {"d": ["", None, "  ", "2024-01-01"]})) == [
        ("unparsable_date", "order_date", [True, True, True, False])
    ]


def with_formats(*formats: str) -> dict[str, str | ColumnSettings]:
    return {"order_date": ColumnSettings(column="d", format=list(formats))}


def test_formats_are_tried_in_their_order() -> None:
    texts = ["03/04/2024", "31/12/2024", "12/31/2024", "2024-05-06", "99/99/2024"]
    day_first = column(cast(with_formats("%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d"), {"d": texts}), "order_date")
    assert day_first == [
        datetime(2024, 4, 3),
        datetime(2024, 12, 31),
        datetime(2024, 12, 31),
        datetime(2024, 5, 6),
        None,
    ]
    month_first = column(cast(with_formats("%m/%d/%Y", "%d/%m/%Y"), {"d": texts}), "order_date")
    assert month_first[:3] == [datetime(2024, 3, 4), datetime(2024, 12, 31), datetime(2024, 12, 31)]


def test_a_declared_format_is_the_only_one() -> None:
    assert failures(cast(with_formats("%d.%m.%Y"), {"d": ["2024-01-01"]})) == [
        ("unparsable_date", "order_date", [True])
    ]


@pytest.mark.parametrize(
    ("time_format", "text", "expected"),
    [
        ("%d.%m.%Y %H:%M", "01.02.2024 03:04", datetime(2024, 2, 1, 3, 4)),
        ("%m/%d/%Y %I:%M %p", "02/01/2024 03:04 PM", datetime(2024, 2, 1, 15, 4)),
        ("%Y%m%d", "20240201", datetime(2024, 2, 1)),
        ("%Y%m%dT%H%M%S%z", "20240201T030405+0100", datetime(2024, 2, 1, 2, 4, 5)),
        ("%d-%b-%Y", "01-Feb-2024", datetime(2024, 2, 1)),
        ("%s", "1706756645", datetime(2024, 2, 1, 3, 4, 5)),
    ],
)
def test_formats(time_format: str, text: str, expected: datetime) -> None:
    assert column(cast(with_formats(time_format), {"d": [text]}), "order_date") == [expected]


def test_offsets_are_turned_into_the_declared_zone() -> None:
    texts = ["2024-07-01T12:00:00Z", "2024-01-01T12:00:00+05:30", "2024-01-01T12:00:00"]
    found = column(cast({}, {"d": texts}, timezone="America/New_York"), "order_date")
    assert found == [datetime(2024, 7, 1, 8), datetime(2024, 1, 1, 1, 30), datetime(2024, 1, 1, 12)]


def test_typed_dates() -> None:
    assert column(cast({}, {"d": [date(2024, 1, 2), None]}), "order_date") == [datetime(2024, 1, 2), None]
    zoned = pl.Series([datetime(2024, 7, 1, 12, tzinfo=UTC)], dtype=pl.Datetime("ns", "UTC"))
    assert column(cast({}, {"d": zoned}, timezone="Europe/Paris"), "order_date") == [datetime(2024, 7, 1, 14)]
    assert column(cast({}, {"d": pl.Series([datetime(2024, 7, 1)], dtype=pl.Datetime("ms"))}), "order_date") == [
        datetime(2024, 7, 1)
    ]
    assert failures(cast({}, {"d": [20240101]})) == [("unparsable_date", "order_date", [True])]


# ---------------------------------------------------------------------------------------------- customers, nulls, rest


def test_a_blank_customer_is_none() -> None:
    result = cast({}, {"c": ["x", "", "  ", "\u00a0\t", None, " x ", "None"]})
    assert column(result, "customer_id") == ["x", None, None, None, None, " x ", "None"]
    assert failures(result) == [("missing_customer_id", "customer_id", [False, True, True, True, True, False, False])]


def test_ids_are_texts() -> None:
    assert column(cast({}, {"c": [9007199254740993, 7]}), "customer_id") == ["9007199254740993", "7"]
    assert column(cast({}, {"c": ["007", "1.0"]}), "customer_id") == ["007", "1.0"]


def test_an_empty_order_id_is_none() -> None:
    result = cast({"order_id": "o", "status": "s"}, {"o": ["A1", "", None], "s": ["", "done", ""]})
    assert column(result, "order_id") == ["A1", None, None]
    assert column(result, "status") == [None, "done", None]


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical])
def test_declared_nulls(dtype: Any) -> None:
    cells = {"c": pl.Series(["x", "NA", "na", "?"], dtype=dtype), "a": ["NA", "1", "?", "2"]}
    result = cast({}, cells, null_values=["NA", "?"])
    assert column(result, "customer_id") == ["x", None, "na", None]
    assert failures(result) == [
        ("missing_customer_id", "customer_id", [False, True, False, True]),
        ("unparsable_number", "amount", [True, False, True, False]),
    ]


def test_bytes_that_are_no_text_reject_their_row() -> None:
    result = cast({}, {"c": pl.Series([b"x", b"\xff"])})
    assert column(result, "customer_id") == ["x", None]


def test_optional_numbers_may_be_empty_but_not_wrong() -> None:
    result = cast({"quantity": "q", "price": "p"}, {"q": ["1", "", "x"], "p": ["", "y", "z"]})
    assert column(result, "quantity") == [Decimal(1), None, None]
    assert failures(result) == [
        ("unparsable_number", "quantity", [False, False, True]),
        ("unparsable_number", "price", [False, True, True]),
    ]


def test_failures_come_in_the_order_they_count() -> None:
    free: dict[str, str | ColumnSettings] = {"n": ColumnSettings(column="n", dtype="boolean"), "quantity": "q"}
    result = cast(free, {"n": ["x"], "q": ["x"], "a": ["x"], "d": ["x"], "c": [""]})
    assert [(item.reason, item.column) for item in result.failures] == [
        ("missing_customer_id", "customer_id"), ("unparsable_date", "order_date"), ("unparsable_number", "amount"),
        ("unparsable_number", "quantity"), ("unparsable_n", "n"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        ("integer", "1", 1),
        ("integer", " -2 ", -2),
        ("integer", "+5", 5),
        ("integer", "", None),
        ("integer", " ", None),
        ("float", "1.5", 1.5),
        ("float", "1e3", 1000.0),
        ("float", "", None),
        ("boolean", "true", True),
        ("boolean", "T", True),
        ("boolean", "1", True),
        ("boolean", "YES", True),
        ("boolean", "False", False),
        ("boolean", " no ", False),
        ("boolean", "0", False),
        ("boolean", "", None),
        ("date", "2024-01-02", date(2024, 1, 2)),
        ("date", "2024-01-02 23:00:00", date(2024, 1, 2)),
        ("date", "", None),
        ("datetime", "2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5)),
        ("text", " a ", " a "),
        ("decimal", "1.5", Decimal("1.5")),
    ],
)
def test_free_columns(dtype: Any, text: str, expected: object) -> None:
    result = cast({"n": ColumnSettings(column="n", dtype=dtype)}, {"n": [text]})
    assert column(result, "n") == [expected]
    assert failures(result) == []


@pytest.mark.parametrize(
    ("dtype", "text", "reason"),
    [
        ("integer", "1.0", "unparsable_n"), ("integer", "x", "unparsable_n"), ("integer", str(2**63), "unparsable_n"),
        ("integer", "1_0", "unparsable_n"), ("float", "x", "unparsable_n"), ("float", "1,5", "unparsable_n"),
        ("float", "inf", "unparsable_n"), ("float", "NaN", "unparsable_n"),
        ("boolean", "2", "unparsable_n"), ("boolean", "on", "unparsable_n"), ("date", "x", "unparsable_date"),
        ("datetime", "2024-02-30", "unparsable_date"), ("decimal", "1,5", "unparsable_number"),
    ],
)  # fmt: skip
def test_free_columns_that_cannot_be_read(dtype: Any, text: str, reason: str) -> None:
    result = cast({"n": ColumnSettings(column="n", dtype=dtype)}, {"n": [text]})
    assert failures(result) == [(reason, "n", [True])]
    assert column(result, "n") == [None]


def test_a_fraction_is_no_integer() -> None:
    result = cast({"n": ColumnSettings(column="n", dtype="integer")}, {"n": [1.5, 2.0, None]})
    assert failures(result) == [("unparsable_n", "n", [True, False, False])]
    assert column(result, "n") == [None, 2, None]
    result = cast({"n": ColumnSettings(column="n", dtype="integer")}, {"n": [Decimal("1.25"), Decimal("2.00"), None]})
    assert (column(result, "n"), failures(result)) == ([None, 2, None], [("unparsable_n", "n", [True, False, False])])
