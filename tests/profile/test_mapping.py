import tomllib

import pytest

from daskae.profile import toml
from daskae.profile.finish import finish_column
from daskae.profile.hints import reading_hints
from daskae.profile.mapping import Mapped, map_columns, product
from daskae.profile.scan import profile_chunk
from daskae.profile.suggest import Suggestion, suggest_settings
from daskae.schema import sql_expression
from tests.profile.building import frame

DATES = [f"2024-01-{day:02d}" for day in range(1, 29)]
NUMBERS = [f"{i}.50" for i in range(28)]
NAMES = [f"C{i % 9}" for i in range(28)]


def suggest(table: dict[str, list[str]]) -> Suggestion:
    state = profile_chunk(frame({**table}))
    return suggest_settings([finish_column(name, item) for name, item in state.columns.items()], {}, "data/")


def mapped(table: dict[str, list[str]]) -> Mapped:
    state = profile_chunk(frame({**table}))
    return map_columns([finish_column(name, item) for name, item in state.columns.items()])


@pytest.mark.parametrize(
    "names",
    [
        ("order_id", "customer_id", "order_date", "amount"),
        ("InvoiceNo", "CustomerID", "InvoiceDate", "Total"),
        ("Order Number", "client-id", "Created At", "order amount"),
        ("TransactionID", "user_id", "timestamp", "Revenue"),
    ],
)
def test_columns_are_known_by_their_names(names: tuple[str, str, str, str]) -> None:
    found = mapped(dict(zip(names, (NAMES, NAMES, DATES, NUMBERS), strict=True)))
    assert found.columns == dict(zip(("order_id", "customer_id", "order_date", "amount"), names, strict=True))
    assert found.is_complete


def test_a_name_is_not_enough() -> None:
    found = mapped({"customer_id": NAMES, "date": NAMES, "amount": DATES, "total": NUMBERS, "day": DATES})
    assert found.columns == {"customer_id": "customer_id", "order_date": "day", "amount": "total"}


def test_the_only_dates_are_the_order_date() -> None:
    assert mapped({"customer": NAMES, "when": DATES, "value": NUMBERS}).columns["order_date"] == "when"


def test_an_amount_is_made_of_quantity_and_price() -> None:
    found = mapped({"customer": NAMES, "date": DATES, "Qty": NUMBERS, "Unit Price": NUMBERS})
    assert found.expressions == {"amount": '"Qty" * "Unit Price"'}


@pytest.mark.parametrize(
    "names", [("a", "b"), ("Qty", "Unit Price"), ("select", "from"), ('q"x', "1st"), ("größe", "p")]
)
def test_a_product_refers_to_its_columns(names: tuple[str, str]) -> None:
    assert set(sql_expression(product(*names), "").meta.root_names()) == set(names)


def test_what_cannot_be_told_is_said_with_candidates() -> None:
    found = suggest({"who": NAMES, "bought": NAMES, "sum": NUMBERS, "note": [""] * 28})
    assert found.mapped.candidates == {
        "customer_id": ("who", "bought"), "order_date": (), "amount": ("sum",),
    }  # fmt: skip
    assert '# customer_id is required, and no column could be told to be it. Candidates: "who", "bought"' in found.text
    assert "# order_date is required, and no column could be told to be it. Candidates: none found" in found.text
    assert tomllib.loads(found.text)["columns"]["sum"] == {"column": "sum", "dtype": "decimal"}


def test_rules_follow_from_the_values() -> None:
    table = {
        "order_id": [f"O-{i:04d}" for i in range(28)],
        "customer_id": [*NAMES[:-3], "", " ", ""],
        "order_date": DATES,
        "amount": NUMBERS,
        "email": [f"a{i}@b.com" for i in range(28)],
        "status": ["new", "done"] * 14,
        "sku": [f"{i:03d}" for i in range(14)] * 2,
        "text": [f"{i} {'x' * i}" for i in range(28)],
    }
    found = suggest(table)
    rules = {f"{rule['rule']} {rule['column']}": rule for rule in found.rules}
    assert rules["unique order_id"]["on_failure"] == "reject_row"
    assert rules["pattern order_id"]["pattern"] == "^[A-Z]-[0-9]{4}$"
    assert rules["completeness customer_id"]["max_share"] == 0.11
    assert rules["range order_date"] == {
        "rule": "range", "column": "order_date", "min": "2024-01-01", "on_failure": "warn",
    }  # fmt: skip
    assert (rules["range amount"]["min"], rules["range amount"]["max"]) == ("0.5", "27.5")
    assert rules["pattern email"]["pattern"] == "email"
    assert rules["allowed_values status"]["values"] == ["done", "new"]
    assert rules["pattern sku"]["pattern"] == "^[0-9]{3}$"
    assert "unique sku" not in rules
    assert {rule["rule"] for name, rule in rules.items() if name.endswith(" text")} == {"not_null"}
    read = tomllib.loads(found.text)
    assert read["rules"] == list(found.rules)
    assert read["columns"] == found.columns


def test_what_is_doubtful_is_noted() -> None:
    many = [str(i) for i in range(6000)]
    dates = [f"0{i % 9 + 1}/02/2024" for i in range(6000)]
    found = suggest({"order_id": many, "customer_id": ["17850.0", *many[1:]], "order_date": dates, "amount": many})
    assert "day and month could be the other way round" in found.text
    assert '# "order_id" may be unique; the profile only estimates it.' in found.text
    assert not [rule for rule in found.rules if rule["rule"] == "unique"]
    assert not [rule for rule in found.rules if rule["rule"] == "range" and rule["column"] == "order_date"]


def test_names_of_columns_can_be_anything() -> None:
    names = ["a b", 'q"uo"te', "new\nline", "rules", "price", "_load_id", "x.y", "\x7f", "ß", "", "amount_source"]
    table = {name: ["x", "y"] * 10 for name in names}
    found = suggest({"customer_id": NAMES[:20], "order_date": DATES[:20], "amount": NUMBERS[:20], **table})
    read = tomllib.loads(found.text)
    sources = [entry["column"] for entry in read["columns"].values() if isinstance(entry, dict)]
    assert sorted(sources) == sorted(names)
    assert read["columns"]["price_source"] == {"column": "price", "dtype": "text"}
    assert read["columns"]["column_load_id"] == {"column": "_load_id", "dtype": "text"}


@pytest.mark.parametrize("item", ["", 'a"b\\c\n\t\x00\x7f', "ü…", 1, -2.5, True, ["a", 1], {"a b": {"c": "d"}}])
def test_toml_is_read_as_it_was_written(item: object) -> None:
    assert tomllib.loads(f"{toml.key('x y')} = {toml.value(item)}")["x y"] == item


def test_toml_has_no_null() -> None:
    with pytest.raises(TypeError, match="no TOML for NoneType"):
        toml.value(None)


@pytest.mark.parametrize(
    ("columns", "broken", "expected"),
    [
        (["a;b;c"], {}, "delimiter = ';'"),
        (["a\tb"], {"wrong_field_count": 9}, "delimiter = '\\t'"),
        (["a", "b"], {"invalid_encoding": 2}, "encoding"),
        (["a", "b"], {"wrong_field_count": 60}, "another number of fields"),
    ],
)
def test_hints(columns: list[str], broken: dict[str, int], expected: str) -> None:
    assert expected in " ".join(reading_hints(columns, 100, broken))
    assert reading_hints(["a", "b;c"], 100, {"invalid_encoding": 1, "wrong_field_count": 3}) == []
