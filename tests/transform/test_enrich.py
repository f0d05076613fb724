from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from daskae.errors import ExchangeError, SettingsError
from daskae.exchange import SLOTS
from daskae.stages.dimension import dimension_of, whole_dimension, write_dimension
from daskae.transform.apply import Runner
from daskae.transform.enrich import KEY
from daskae.transform.operations import Lookup
from daskae.transform.steps import Step

from .building import NO_PARTITION, built, orders

TEXT = 'id,country,since\nc1,NL,2020\n"c,2",,2021\n,XX,1900\nc3,"two\nlines",\n'


@pytest.fixture
def dimension(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(TEXT)
    return path


def enrich(source: Path, **parameters: Any) -> dict[str, Any]:
    return {"function": "enrich", "name": "enrich", "parameters": {"source": str(source), "on": "id", **parameters}}


def lookup_of(tmp_path: Path, step: dict[str, Any]) -> Lookup:
    (lookup,) = built(step, place=tmp_path / "work").lookups
    return lookup


def test_rows_get_the_columns_of_their_key_and_keep_their_order(dimension: Path, tmp_path: Path) -> None:
    steps = built(enrich(dimension, prefix="customer_"), place=tmp_path / "work")
    write_dimension(steps.lookups[0], "step enrich")
    table = orders(customer_id=["c3", "c1", "unknown", "c,2", "c1"])
    left, marks = Runner(NO_PARTITION, whole_dimension).run(steps.in_tasks, table)
    assert marks == []
    assert left["customer_id"].to_list() == table["customer_id"].to_list()
    assert left["customer_country"].to_list() == ["two\nlines", "NL", None, None, "NL"]
    assert left["customer_since"].to_list() == [None, "2020", None, "2021", "2020"]
    assert steps.attributes == ("customer_country", "customer_since")


def test_unknown_keys_may_reject_their_rows(dimension: Path, tmp_path: Path) -> None:
    steps = built(enrich(dimension, columns=["country"], missing="reject", key="channel"), place=tmp_path / "work")
    write_dimension(steps.lookups[0], "step enrich")
    table = orders(channel=["c1", "no", None, "c,2"])
    left, marks = Runner(NO_PARTITION, whole_dimension).run(steps.in_tasks, table)
    assert left["country"].to_list() == ["NL", None]
    assert [(name, column, mask.tolist()) for name, column, mask in marks] == [
        ("enrich", "channel", [False, True, True, False])
    ]


def test_parquet_types_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    frame = pl.DataFrame(
        {
            "id": [1, 2], "limit": [Decimal("1.50"), None], "day": [date(2024, 1, 1), None], "n": [1, None],
            "at": [datetime(2024, 1, 1, 2), None], "ok": [True, False], "tags": [["a"], []],
        }
    )  # fmt: skip
    frame.write_parquet(path)
    steps = built(
        enrich(path, key="items", columns=["limit", "day", "n", "at", "ok"]), place=tmp_path / "work"
    )  # fmt: skip
    write_dimension(steps.lookups[0], "step enrich")
    left, _ = Runner(NO_PARTITION, whole_dimension).run(steps.in_tasks, orders(items=[1, 2, 3]))
    assert left.row(0)[-5:] == (Decimal("1.50"), date(2024, 1, 1), 1, datetime(2024, 1, 1, 2), True)
    assert left["limit"].dtype == pl.Decimal(38, 2)
    assert left["ok"].to_list() == [True, False, None]
    assert "tags" not in built(enrich(path, key="items"), place=tmp_path).lookups[0].columns


def test_the_same_rows_come_slot_by_slot(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    path.write_text("id,v\n" + "".join(f"c{i},{i}\n" for i in range(3000)))
    lookup = lookup_of(tmp_path, enrich(path, broadcast_below=0))
    assert lookup.is_late
    write_dimension(lookup, "step enrich")
    wanted = pl.Series([f"c{i}" for i in range(0, 3000, 7)])
    found = pl.concat([dimension_of(lookup, first, first + 32, wanted) for first in range(0, SLOTS, 32)])
    assert sorted(found.rows()) == sorted((f"c{i}", str(i)) for i in range(0, 3000, 7))
    assert whole_dimension(lookup).height == 3000


def test_an_empty_dimension_joins_nulls(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("id,v\n")
    steps = built(enrich(path), place=tmp_path / "work")
    write_dimension(steps.lookups[0], "step enrich")
    left, _ = Runner(NO_PARTITION, whole_dimension).run(steps.in_tasks, orders())
    assert left["v"].to_list() == [None]
    assert dimension_of(steps.lookups[0], 0, SLOTS, pl.Series(["c1"])).columns == [KEY, "v"]


@pytest.mark.parametrize("below", [0, "1MiB"])
def test_a_repeated_key_is_named(below: int | str, tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("id,v\n" + "".join(f"c{i},{i}\n" for i in range(500)) + "c7,8\n")
    with pytest.raises(SettingsError, match="a key twice") as caught:
        write_dimension(lookup_of(tmp_path, enrich(path, broadcast_below=below)), "step enrich")
    assert "'c7'" in caught.value.got
    assert "step enrich" in caught.value.where


def test_another_content_is_another_definition(dimension: Path, tmp_path: Path) -> None:
    first = lookup_of(tmp_path, enrich(dimension))
    assert lookup_of(tmp_path, enrich(dimension)) == first
    dimension.write_text(TEXT.replace("NL", "BE"))
    second = lookup_of(tmp_path, enrich(dimension))
    assert (second.definition != first.definition, second.folder != first.folder) == (True, True)


def _missing(path: Path) -> None:
    path.unlink()


def _broken(path: Path) -> None:
    path.write_text("id,country,since\na,b\n")


def _float_key(path: Path) -> None:
    pl.DataFrame({"id": [1.5], "v": ["a"]}).write_parquet(path)


def _keep(path: Path) -> None: ...


@pytest.mark.parametrize(("change", "parameters", "text"), [
    (_missing, {}, "cannot be opened"),
    (_broken, {}, "cannot be read"),
    (_float_key, {}, "must be a text or an integer"),
    (_keep, {"on": "nr"}, "no such column"),
    (_keep, {"columns": ["nothing"]}, "no such column"),
    (_keep, {"columns": []}, "no column to join"),
    (_keep, {"key": "nothing"}, "unknown column"),
    (_keep, {"key": "amount"}, "amount is decimal"),
    (_keep, {"prefix": "_"}, "there already"),
    (_keep, {"broadcast_below": "many"}, "size cannot be read"),
    (_keep, {"broadcast_below": 0, "key": "channel"}, "joined by customer only"),
    (_keep, {"broadcast_below": 0, "missing": "reject"}, "cannot reject rows"),
    (_keep, {"missing": "drop"}, "another type"),
    (_keep, {"sourc": "x"}, "did you mean 'source'"),
])  # fmt: skip
def test_a_wrong_dimension_is_refused(
    dimension: Path, tmp_path: Path, change: Callable[[Path], None], parameters: dict[str, Any], text: str
) -> None:
    change(dimension)
    with pytest.raises(SettingsError, match=text) as caught:
        built(enrich(dimension, **parameters), place=tmp_path / "work")
    assert "step enrich" in caught.value.where


def test_a_name_that_is_taken_needs_a_prefix(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("id,channel\nc1,x\n")
    for below in (0, "1MiB"):
        with pytest.raises(SettingsError, match="there already"):
            built(enrich(path, broadcast_below=below), place=tmp_path)
    assert built(enrich(path, prefix="d_"), place=tmp_path).lookups[0].outputs == ("d_channel",)


@pytest.mark.parametrize("later", [
    {"function": "trim", "column": "customer_id"}, Step("mine", lambda table: table)
])  # fmt: skip
def test_customers_must_not_change_behind_a_large_dimension(dimension: Path, later: Any) -> None:
    step = enrich(dimension, broadcast_below=0)
    with pytest.raises(SettingsError, match="may change the customer") as caught:
        built(step, later)
    assert caught.value.where == "step enrich"
    built(later, step)
    built(step, {"function": "trim", "column": "channel"})
    built(enrich(dimension), later)


def test_a_dimension_value_is_not_rounded(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pl.DataFrame({"id": ["c1"], "limit": [Decimal("1.555")]}).write_parquet(path)
    with pytest.raises(SettingsError, match="does not fit"):
        write_dimension(lookup_of(tmp_path, enrich(path)), "step enrich")


def test_a_dimension_that_is_gone_is_made_again(dimension: Path, tmp_path: Path) -> None:
    lookup = lookup_of(tmp_path, enrich(dimension))
    with pytest.raises(ExchangeError, match="damaged or gone"):
        whole_dimension(lookup)
