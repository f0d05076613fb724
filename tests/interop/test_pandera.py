"""The imported rules against pandera itself: the same rows must break, on the same data."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.interop.pandera import read_schema
from daskae.interop.records import Imported
from daskae.interop.rules import import_rules

from .running import broken_rows, built

pytest.importorskip("pandera", reason="the extra 'interop' is not installed")

import pandas as pd
import pandera.pandas as pa
import pandera.polars as pap
import polars as pl

NUMBERS = [None, -1.5, 0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 100.0]
WORDS = [None, "a", "ab", "b.", "B", "aab", "é1", "it's"]

ON_NUMBERS = [
    pa.Check.gt(1), pa.Check.ge(1), pa.Check.lt(2.5), pa.Check.le(2.5), pa.Check.eq(2), pa.Check.ne(2.5),
    pa.Check.in_range(0.5, 2), pa.Check.in_range(0.5, 2, include_min=False),
    pa.Check.between(0.5, 2, include_max=False),
    pa.Check.isin([1, 2.5]), pa.Check.notin([1, -1.5]), pa.Check.gt(-1.5, ignore_na=False),
    pa.Check.notin([1], ignore_na=False),
]  # fmt: skip
ON_TEXTS = [
    pa.Check.isin(["a", "it's"]), pa.Check.isin("ab"), pa.Check.notin(["a", "it's"]), pa.Check.eq("a"),
    pa.Check.ne("it's"), pa.Check.str_matches("a|b"), pa.Check.str_matches(re.compile("B$", re.IGNORECASE)),
    pa.Check.str_contains("b[.]?$"), pa.Check.str_startswith("b."), pa.Check.str_endswith("."),
    pa.Check.str_length(2, 2), pa.Check.str_length(min_value=2), pa.Check.str_length(max_value=2), pa.Check.ge("ab"),
]  # fmt: skip


def imported(schema: Any) -> Imported:
    """Import a schema, all of it."""
    found = import_rules(read_schema(schema))
    assert found.skipped == []
    return found


def failing(schema: Any, frame: Any) -> set[int]:
    """Rows that pandera reports."""
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        return {int(index) for index in error.failure_cases["index"]}
    return set()


def breaking(schema: Any, cells: Mapping[str, Sequence[Any]]) -> set[int]:
    """Rows that break any imported rule, read from texts."""
    texts = {name: [None if value is None else str(value) for value in values] for name, values in cells.items()}
    return {row for rows in broken_rows(imported(schema), texts).values() for row in rows}


@pytest.mark.parametrize("check", ON_NUMBERS, ids=str)
@pytest.mark.parametrize("nullable", [True, False])
def test_checks_of_numbers(check: Any, nullable: bool) -> None:
    schema = pa.DataFrameSchema({"x y": pa.Column(float, check, nullable=nullable)})
    frame = pd.DataFrame({"x y": pd.Series(NUMBERS, dtype=float)})
    assert breaking(schema, {"x y": NUMBERS}) == failing(schema, frame)


@pytest.mark.parametrize("check", ON_TEXTS, ids=str)
def test_checks_of_texts(check: Any) -> None:
    schema = pa.DataFrameSchema({"x": pa.Column(str, check, nullable=True)})
    frame = pd.DataFrame({"x": pd.Series(WORDS, dtype="str")})
    assert breaking(schema, {"x": WORDS}) == failing(schema, frame)


@settings(max_examples=25)
@given(
    st.lists(st.sampled_from(ON_NUMBERS), max_size=4),
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6).map(lambda x: round(x, 6))), min_size=1, max_size=20),
    st.booleans(),
)
def test_any_checks_over_any_numbers(checks: list[Any], values: list[float | None], nullable: bool) -> None:
    schema = pa.DataFrameSchema({"x": pa.Column(float, checks, nullable=nullable)})
    assert breaking(schema, {"x": values}) == failing(schema, pd.DataFrame({"x": pd.Series(values, dtype=float)}))


@pytest.mark.parametrize(
    "check", [pap.Check.gt(1), pap.Check.in_range(0.5, 2), pap.Check.notin([1.0], ignore_na=False)], ids=str
)
def test_checks_of_numbers_in_polars(check: Any) -> None:
    schema = pap.DataFrameSchema({"x": pap.Column(pl.Float64, check, nullable=True)})
    assert breaking(schema, {"x": NUMBERS}) == failing(schema, pl.DataFrame({"x": NUMBERS}, {"x": pl.Float64}))


@pytest.mark.parametrize(
    "check", [pap.Check.str_matches("a|b"), pap.Check.str_contains("b[.]?$"), pap.Check.str_length(2, 2)], ids=str
)
def test_checks_of_texts_in_polars(check: Any) -> None:
    schema = pap.DataFrameSchema({"x": pap.Column(pl.String, check, nullable=True)})
    assert breaking(schema, {"x": WORDS}) == failing(schema, pl.DataFrame({"x": WORDS}, {"x": pl.String}))


def test_times_whole_numbers_and_truth_values() -> None:
    start, end = pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-03", tz=None)
    schema = pa.DataFrameSchema(
        {
            "t": pa.Column("datetime64[ns]", pa.Check.in_range(start, end, include_max=False)),
            "i": pa.Column("int8", [pa.Check.gt(0, name="positive"), pa.Check.lt(3)]),
            "b": pa.Column(bool, pa.Check.eq(True)),
            "c": pa.Column(pd.CategoricalDtype(["x", "y"])),
        }
    )
    cells: dict[str, list[Any]] = {
        "t": ["2023-12-31", "2024-01-01", "2024-01-02 10:00:00", "2024-01-03"], "i": [0, 1, 2, 3],
        "b": [True, True, False, True],
        "c": ["x", "y", "x", "x"],
    }  # fmt: skip
    frame = pd.DataFrame(cells).astype({"t": "datetime64[ns]", "i": "int8", "c": pd.CategoricalDtype(["x", "y"])})
    assert breaking(schema, cells) == failing(schema, frame) == {0, 2, 3}
    rules = {rule["name"]: rule for rule in imported(schema).rules}
    assert (rules["i_positive"]["min"], rules["i_between_2"]["max"]) == (1, 2)
    assert {rule["on_failure"] for rule in rules.values()} == {"block_run"}
    more = {**cells, "c": ["x", "z", "", "y"], "i": ["1", "200", "2", "2"], "b": ["true"] * 4}
    broken = broken_rows(imported(schema), more)
    assert (broken["c_values"], broken["c_not_null"], broken["i_between"]) == ([1], [2], [1])


def test_unique_alone_and_together() -> None:
    schema = pa.DataFrameSchema({"x": pa.Column(int, unique=True), "y": pa.Column(str)}, unique=["x", "y"])
    found = imported(schema)
    rules, contract = built(found, ["x", "y"])
    assert [rule.columns for rule in rules if rule.kind == "unique"] == [("x",), ("x", "y")]
    assert {column.name: column.dtype for column in contract.columns if column.name in "xy"} == {
        "x": "integer", "y": "text"
    }  # fmt: skip
    assert any("all but the first" in note for note in found.notes)


class Orders(pap.DataFrameModel):  # type: ignore[misc]
    """A model as people write them."""

    customer_id: str
    order_date: pl.Datetime
    order_amount: float = pap.Field(ge=0)
    channel: str = pap.Field(isin=["web", "shop"], nullable=True, alias="Sales channel")
    size: pl.Enum = pap.Field(dtype_kwargs={"categories": ["s", "m"]})

    @pap.check("order_amount")  # type: ignore[untyped-decorator]
    def is_even(cls, data: Any) -> Any:  # noqa: N805
        """Whatever Python can say."""
        return data.lazyframe.select(pl.col(data.key) % 2 == 0)


def test_a_model() -> None:
    found = import_rules(read_schema(Orders))
    assert found.missing == ()
    assert found.columns == {
        "customer_id": "customer_id", "order_date": "order_date", "amount": "order_amount",
        "Sales channel": {"column": "Sales channel", "dtype": "text"}, "size": {"column": "size", "dtype": "text"},
    }  # fmt: skip
    assert [item.what for item in found.skipped] == ["order_amount: is_even"]
    cells = {"order_amount": ["1", "-1", "2"], "Sales channel": ["web", "", "x"], "size": ["s", "m", "l"]}
    assert {name: rows for name, rows in broken_rows(found, cells).items() if rows} == {
        "amount_between": [1], "Sales_channel_values": [2], "size_values": [2]
    }  # fmt: skip


def test_a_nullable_typed_column_without_checks_has_a_rule_of_its_type() -> None:
    schema = pa.DataFrameSchema({"x": pa.Column(float, nullable=True)})
    assert broken_rows(imported(schema), {"x": ["1.5", "", "x"]}) == {"x_type": [2]}


def test_warnings_and_dropped_rows() -> None:
    checks = [pa.Check.gt(0, raise_warning=True), pa.Check.lt(5)]
    strict = import_rules(read_schema(pa.DataFrameSchema({"x": pa.Column(int, checks, nullable=True)})))
    assert [rule["on_failure"] for rule in strict.rules] == ["warn", "block_run"]
    lenient = pa.DataFrameSchema({"x": pa.Column(int, checks)}, drop_invalid_rows=True)
    assert [rule["on_failure"] for rule in imported(lenient).rules] == ["reject_row", "warn", "reject_row"]
    forced = import_rules(read_schema(lenient), on_failure="info")
    assert {rule["on_failure"] for rule in forced.rules} == {"info"}


def test_what_cannot_be_said_is_listed_with_its_reason() -> None:
    schema = pa.DataFrameSchema(
        {
            "x": pa.Column(float, [pa.Check(lambda x: x > 0), pa.Check.gt(0, groupby="y")], default=1.0),
            "y": pa.Column(str, [pa.Check.str_matches("(?=a)"), pa.Check.unique_values_eq(["a", "b"])]),
            "z": pa.Column("timedelta64[ns]", nullable=True),
            "w": pa.Column(None, pa.Check.ge(float("-inf"))),
            "^v": pa.Column(str, regex=True),
        },
        checks=pa.Check(lambda frame: frame["x"] > 0),
        index=pa.Index(int),
        strict=True,
    )
    found = import_rules(read_schema(schema))
    assert {item.what: item.reason.split(",")[0] for item in found.skipped} == {
        "x: default": "it changes the data",
        "x: <lambda>": "it is a function in Python; write it as a row rule or an expression",
        "x: greater_than(0)": "it looks at groups of rows",
        "y: str_matches('(?=a)')": "look-around is not known to the engine here",
        "y: unique_values_eq(['a', 'b'])": "only the part that no other value occurs is imported",
        "z: dtype timedelta64[ns]": "no type here is like it",
        "w: greater_than_or_equal_to(-inf)": "it has no bounds",
        "column ^v": "its name is a pattern",
        "schema: <lambda>": "a check of the whole table; write it as an expression or in Python",
        "schema: index": "order files have no index",
        "schema: strict": "that there are no further columns is no rule; what no rule or metric uses is not read",
    }
    assert broken_rows(found, {"w": ["", "", ""], "x": ["", "", ""], "y": ["a", "b", "c"]})["y_values"] == [2]
