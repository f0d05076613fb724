from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.load.base import Load, Strategy, TableParts
from daskae.load.ledger import Entry, add_entry, find_held, iso_text, short_id

from .building import LOADED_AT, A, B


def load(load_id: str, strategy: Strategy, *tables: str) -> Load:
    parts = tuple(TableParts(name, (), pa.schema([("n", pa.int64())]), (), len(name)) for name in tables)
    return Load(load_id, "run", strategy, 10, LOADED_AT, parts)


def test_an_entry_survives_its_json() -> None:
    (entry,) = add_entry([], load(A, "append", "t", "ü\u2028\n"))
    line = entry.to_json()
    assert line.splitlines() == [line]
    assert Entry.from_json(line) == entry


LOADS = st.builds(
    lambda load_id, strategy, tables: load(load_id, strategy, *sorted(tables)),
    st.sampled_from("abc").map(lambda letter: letter * 64),
    st.sampled_from(["replace", "append"]),
    st.sets(st.sampled_from(["x", "y", "z"]), min_size=1),
)


@given(st.lists(LOADS, max_size=12))
@settings(deadline=None)
def test_the_ledger_agrees_with_a_model_of_the_rows(history: list[Load]) -> None:
    """Play a history on sets of (load, table) and compare what they hold with what the ledger says."""
    entries: list[Entry] = []
    rows: dict[str, set[str]] = {"x": set(), "y": set(), "z": set()}
    for step in history:
        names = [parts.name for parts in step.tables]
        held = find_held(entries, step)
        if held is not None:
            assert all(step.load_id in rows[name] for name in names)
            assert step.strategy == "append" or all(rows[name] == {step.load_id} for name in names)
            continue
        entries = add_entry(entries, step)
        for name in names:
            rows[name] = ({step.load_id} | rows[name]) if step.strategy == "append" else {step.load_id}
        assert find_held(entries, step) == entries[-1]
        assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
        published = [entry for entry in entries if entry.status == "published"]
        assert len({entry.load_id for entry in published}) == len(published)
        assert all(entry.load_id in rows[name] for entry in published for name in entry.tables)


def test_short_ids_stay_what_they_were_and_never_meet() -> None:
    ids = ["12345678" + 56 * digit for digit in "abc"] + ["a load", "another load"]
    entries: list[Entry] = []
    first = {}
    for load_id in ids:
        first[load_id] = short_id(load_id, entries)
        entries = add_entry(entries, load(load_id, "append", "t"))
    assert len(set(first.values())) == len(ids)
    assert {load_id: short_id(load_id, entries) for load_id in ids} == first
    assert short_id(B) == "b" * 8


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2011, 12, 1, 8, 26), "2011-12-01 08:26:00"),
        (datetime(2011, 12, 1, 8, 26, 0, 5, tzinfo=UTC), "2011-12-01 08:26:00.000005"),
        (datetime(2011, 12, 1, 8, 26, tzinfo=timezone(timedelta(hours=2))), "2011-12-01 06:26:00"),
    ],
)
def test_moments_are_written_in_utc(moment: datetime, text: str) -> None:
    assert iso_text(moment) == text
    assert add_entry([], replace(load(A, "replace", "t"), loaded_at=moment))[0].loaded_at == text
