from typing import Any

import pytest

from daskae.config import ColumnSettings
from daskae.errors import SettingsError
from daskae.schema import CONTRACT_TYPES, ISO_FORMATS, build_contract, sql_expression

AVAILABLE = ("c", "d", "a", "q", "unit price", "order_id")
BASE: dict[str, str | ColumnSettings] = {"customer_id": "c", "order_date": "d", "amount": "a"}


def test_columns_named_as_the_contract_just_work() -> None:
    names = ("order_id", "customer_id", "order_date", "order_amount", "status", "other")
    contract = build_contract({}, names, scale=4)
    assert contract.names == ("order_id", "customer_id", "order_date", "amount", "status")
    assert contract.sources == ("order_id", "customer_id", "order_date", "order_amount", "status")
    both = build_contract({}, ("customer_id", "order_date", "order_amount", "amount"), scale=4)
    assert both.columns[-1].source == "amount"


def test_what_each_column_is() -> None:
    free = ColumnSettings(column="q", dtype="integer")
    contract = build_contract(
        {**BASE, "channel": "UPPER(c)", "n": free, "order_id": "order_id", "price": '"unit price" * 1'},
        AVAILABLE,
        scale=2,
        null_values=["NA"],
        timezone="Europe/Paris",
    )
    assert contract.names == ("order_id", "customer_id", "order_date", "amount", "price", "channel", "n")
    assert [column.dtype for column in contract.columns] == [
        "text", "text", "datetime", "decimal", "decimal", "text", "integer"
    ]  # fmt: skip
    assert [column.is_expression for column in contract.columns] == [False, False, False, False, True, True, False]
    assert contract.columns[4].sources == ("unit price",)
    assert contract.sources == ("order_id", "c", "d", "a", "unit price", "q")
    assert (contract.scale, contract.null_values, contract.timezone) == (2, ("NA",), "Europe/Paris")
    assert contract.columns[2].formats == ISO_FORMATS


def test_a_source_column_wins_over_an_expression() -> None:
    column = build_contract({**BASE, "note": "q * a"}, [*AVAILABLE, "q * a"], scale=2).columns[-1]
    assert (column.is_expression, column.sources) == (False, ("q * a",))


def test_sources_of_an_expression_are_named_once() -> None:
    contract = build_contract({**BASE, "amount": "q * a + q"}, AVAILABLE, scale=2)
    assert contract.columns[-1].sources == ("q", "a")


@pytest.mark.parametrize(("given", "formats"), [("%d.%m.%Y", ("%d.%m.%Y",)), (["%Y", "%d"], ("%Y", "%d"))])
def test_formats(given: Any, formats: tuple[str, ...]) -> None:
    contract = build_contract({**BASE, "order_date": ColumnSettings(column="d", format=given)}, AVAILABLE, scale=2)
    assert contract.columns[1].formats == formats


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({}, r"(?s)no source column for customer_id.*c, d, a.*\[columns\] customer_id"),
        ({"customer_id": "c", "order_date": "d"}, "no source column for amount"),
        (
            {**BASE, "amount": "aa"},
            r"(?s)no such source column for amount.*columns\.amount.*'aa'.*c, d, a.*did you mean 'a'",
        ),
        ({**BASE, "amount": ColumnSettings(column="zzz")}, r"(?s)no such source column for amount.*'zzz'"),
        ({**BASE, "amount": "q *"}, r"(?s)not a usable SQL expression.*columns\.amount.*q \*"),
        ({**BASE, "amount": "a; DROP TABLE x"}, "not a usable SQL expression"),
        (
            {**BASE, "amount": ColumnSettings(column="a", dtype="float")},
            r"(?s)amount has a fixed type.*columns\.amount\.dtype.*float.*decimal",
        ),
    ],
)
def test_contracts_that_cannot_be(columns: dict[str, str | ColumnSettings], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        build_contract(columns, AVAILABLE, scale=2)


@pytest.mark.parametrize("name", CONTRACT_TYPES)
def test_the_type_of_a_contract_column_may_be_repeated(name: str) -> None:
    given = ColumnSettings(column="q", dtype=CONTRACT_TYPES[name])
    assert name in build_contract({**BASE, name: given}, AVAILABLE, scale=2).names


@pytest.mark.parametrize(
    "text", ["", "SELECT 1", "(", "a = ", "__import__('os').system('x')", "(lambda: 1)()", "open('/etc/passwd')"]
)
def test_texts_that_are_no_expression(text: str) -> None:
    with pytest.raises(SettingsError, match=r"(?s)not a usable SQL expression.*here"):
        sql_expression(text, "here")


@pytest.mark.parametrize("text", ["a b", "a AS b", "quantity price"])
def test_a_forgotten_operator_is_not_taken_for_a_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"(?s)must not name its result.*here"):
        sql_expression(text, "here")


@pytest.mark.parametrize("text", ["SUM(a)", "a - AVG(a)", "COUNT(*)", "LAG(a) OVER (ORDER BY b)"])
def test_an_expression_sees_its_own_row_only(text: str) -> None:
    with pytest.raises(SettingsError, match=r"(?s)own row only.*here"):
        sql_expression(text, "here")
