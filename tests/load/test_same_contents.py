"""The same batches leave the same contents in every database and in Parquet, and in a model of a few lines."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskae.errors import LoadError
from daskae.load.base import Load, LoadOptions, Receipt, Strategy
from daskae.load.parquet import tables, writing

from .building import MONEY, write_parts
from .databases import Database, Folder, Target, database_of_its_own, plain_value, schema_of_its_own

SCHEMA = pa.schema(
    [
        ("k", pa.string()), ("n", pa.int64()), ("money", MONEY), ("text", pa.string()), ("at", pa.timestamp("us")),
        ("day", pa.date32()), ("yes", pa.bool_()), ("x", pa.float64()),
    ]
)  # fmt: skip
TEXTS = st.none() | st.sampled_from(["", "a", "B", "b", "ä", "\\.", '"', "a,b\r\nc", "NULL", "\\N", "😀", "%(x)s :y"])
ROWS = st.fixed_dictionaries(
    {
        "k": st.sampled_from(["a", "A", "b", "ä", ""]) | st.none(),
        "n": st.integers(0, 1) | st.none(),
        "money": st.none() | st.integers(-(10**9), 10**9).map(lambda units: Decimal(units).scaleb(-4)),
        "text": TEXTS,
        "at": st.none() | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),
        "day": st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
        "yes": st.none() | st.booleans(),
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False).map(lambda x: x + 0.0),
    }
)
OPTIONS = st.builds(
    LoadOptions,
    duplicates=st.sampled_from(["first", "last", "text", "money", "at", "error"]),
    null_keys=st.sampled_from(["reject", "match"]),
    update_columns=st.sampled_from([(), ("text",), ("money", "x")]),
    on_missing=st.sampled_from(["keep", "delete", "flag"]),
    only_if_newer=st.sampled_from(["", "", "at", "text"]),
)
STRATEGIES = st.sampled_from(["replace", "upsert", "merge"])
BATCHES = st.lists(st.tuples(st.lists(ROWS, max_size=8), STRATEGIES, OPTIONS), min_size=1, max_size=4)
_numbers = count()

Row = dict[str, Any]
Key = tuple[Any, ...]


class Model:
    """A table as a dictionary."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.flags = False

    def publish(self, batch: list[Row], strategy: str, options: LoadOptions, keys: tuple[str, ...]) -> bool:
        """Apply a batch; False when it is refused."""
        kept = [row for row in batch if options.null_keys == "match" or None not in (row[key] for key in keys)]
        staged: dict[Key, Row] = {}
        for row in kept:
            key = tuple(row[name] for name in keys)
            if key in staged and options.duplicates == "error":
                return False
            if key not in staged or self._wins(row, staged[key], options.duplicates):
                staged[key] = row
        if strategy == "replace":
            self.rows = {}
        self.flags |= strategy == "merge" and options.on_missing == "flag"
        columns = options.update_columns or tuple(name for name in SCHEMA.names if name not in keys)
        for key, row in staged.items():
            self._put(key, row, columns, options.only_if_newer)
        for key in self.rows.keys() - staged.keys() if strategy == "merge" else ():
            if options.on_missing == "delete":
                del self.rows[key]
            elif options.on_missing == "flag":
                self.rows[key]["_is_active"] = False
        return True

    @staticmethod
    def _wins(new: Row, old: Row, rule: str) -> bool:
        if rule in ("first", "last"):
            return rule == "last"
        return old[rule] is None or (new[rule] is not None and new[rule] >= old[rule])

    def _put(self, key: Key, row: Row, columns: tuple[str, ...], newer: str) -> None:
        old = self.rows.setdefault(key, {**row, "_is_active": True})
        old["_is_active"] = True
        if not newer or (row[newer] is not None and (old[newer] is None or row[newer] > old[newer])):
            old.update({name: row[name] for name in columns})


def publish(target: Target, load: Load) -> Receipt | None:
    try:
        return target.sink().publish(load)
    except LoadError as error:
        if "more than once" in error.what:
            return None
        raise


@contextmanager
def empty_targets(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[list[Target]]:
    """What is compared with SQLite; the second of two folders gets another layout with every load."""
    number = f"same_{os.getpid()}_{next(_numbers)}"
    if name == "postgresql":
        with schema_of_its_own(request.getfixturevalue("postgresql_url"), number) as database:
            yield [database]
    elif name == "mariadb":
        with database_of_its_own(request.getfixturevalue("mariadb_url"), number) as database:
            yield [database]
    elif name == "parquet":
        with small_files():
            yield [Folder(f"{folder}/out"), Folder(f"{folder}/split")]
    else:
        scheme = {"portable": "portable+sqlite"}.get(name, name)
        yield [Database(name, f"{scheme}:///{folder}/other.db", f"sqlite:///{folder}/other.db")]


NAMES = ("postgresql", "mariadb", "duckdb", "portable", "parquet")
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
Batches = list[tuple[list[Row], str, LoadOptions]]


@pytest.mark.parametrize("name", NAMES)
@given(batches=BATCHES, keys=st.sampled_from([("k",), ("k", "n")]))
@settings(max_examples=5, suppress_health_check=CHECKS)
def test_the_same_batches_leave_the_same_contents(
    name: str, request: pytest.FixtureRequest, batches: Batches, keys: tuple[str, ...]
) -> None:
    publish_all(name, request, batches, keys)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@given(batches=BATCHES, keys=st.sampled_from([("k",), ("k", "n")]))
@settings(max_examples=60, suppress_health_check=CHECKS)
def test_many_more_batches(name: str, request: pytest.FixtureRequest, batches: Batches, keys: tuple[str, ...]) -> None:
    publish_all(name, request, batches, keys)


def publish_all(name: str, request: pytest.FixtureRequest, batches: Batches, keys: tuple[str, ...]) -> None:
    model = Model()
    with tempfile.TemporaryDirectory() as place, empty_targets(name, request, Path(place)) as others:
        folder = Path(place)
        url = f"sqlite:///{folder / 'metrics.db'}"
        targets = [Database("sqlite", url, url), *others]
        for number, (rows, strategy, options) in enumerate(batches):
            # A table that took null keys once has columns for them; one that did not has none.
            options = replace(options, null_keys=batches[0][2].null_keys)
            table = pa.Table.from_pylist(rows, SCHEMA)
            parts = write_parts(folder / str(number), "t", keys, table, cuts=[len(rows) // 2])
            load = Load(
                f"{number:064x}", "run", cast(Strategy, strategy), len(rows), datetime(2026, 1, 1 + number), (parts,),
                options, folder / "left_out",
            )  # fmt: skip
            found = [publish(target, layout(target, load, number)) for target in targets]
            accepted = model.publish(rows, strategy, options, keys)
            assert [receipt is not None for receipt in found] == [accepted] * len(targets)
            told = [(receipt.changes, receipt.rows) for receipt in found if receipt]
            assert told == told[:1] * len(told)
            for changes, _ in told:
                done = changes["t"]
                assert done.inserted + done.updated + done.unchanged + done.rejected + done.duplicates == len(rows)
        if "t" in others[0].names():
            contents = [target.rows("t", metadata=True) for target in targets]
            assert contents[1:] == contents[:1] * len(others)
            flags = ("_is_active",) if model.flags else ()
            assert {key_of(row, keys): cells(row, flags) for row in contents[0]} == {
                key_of(plain(row), keys): cells(plain(row), flags) for row in model.rows.values()
            }


@pytest.mark.parametrize("name", NAMES)
@given(
    batches=st.lists(st.tuples(st.lists(ROWS, max_size=8), OPTIONS), min_size=1, max_size=3),
    keys=st.sampled_from([("k",), ("k", "n")]),
)
@settings(max_examples=4, suppress_health_check=CHECKS)
def test_appended_batches_are_all_there(
    name: str, request: pytest.FixtureRequest, batches: list[tuple[list[Row], LoadOptions]], keys: tuple[str, ...]
) -> None:
    """Each load of an append is a table of its own: keys are unique within it."""
    expected: list[str] = []
    with tempfile.TemporaryDirectory() as place, empty_targets(name, request, Path(place)) as others:
        folder = Path(place)
        url = f"sqlite:///{folder / 'metrics.db'}"
        targets = [Database("sqlite", url, url), *others]
        for number, (rows, options) in enumerate(batches):
            options = replace(options, null_keys=batches[0][1].null_keys)
            parts = write_parts(
                folder / str(number), "t", keys, pa.Table.from_pylist(rows, SCHEMA), cuts=[len(rows) // 2]
            )
            load = Load(
                f"{number:064x}", "run", "append", len(rows), datetime(2026, 1, 1 + number), (parts,), options,
                folder / "left_out",
            )  # fmt: skip
            model = Model()
            accepted = model.publish(rows, "append", options, keys)
            for target in targets:
                assert (publish(target, layout(target, load, number)) is not None) == accepted
                if accepted:
                    assert target.sink().publish(layout(target, load, number)).already_published
            if accepted:
                expected += map(text_of, model.rows.values())
        for target in targets if "t" in targets[0].names() else ():
            assert sorted(map(text_of, target.rows("t"))) == sorted(expected)


def text_of(row: Row) -> str:
    """Write a row so that equal ones look alike, whatever kinds of numbers they have."""
    return repr(cells(plain(plain(row)), ()))


@contextmanager
def small_files() -> Iterator[None]:
    """Files of two rows, so that a table has many, and few of them may be small."""
    with pytest.MonkeyPatch.context() as small:
        small.setattr(writing, "FILE_ROWS", 2)
        small.setattr(tables, "FILE_ROWS", 8)
        small.setattr(tables, "_MOST_SMALL", 2)
        yield


def layout(target: Target, load: Load, number: int) -> Load:
    """Give one of the folders another layout with every load."""
    if not target.url.endswith("split"):
        return load
    columns = [("text",), ("yes", "k"), (), ("money",)][number % 4]
    return replace(load, tables=tuple(replace(parts, partition_by=columns) for parts in load.tables))


def plain(row: Row) -> Row:
    return {name: plain_value(value) for name, value in row.items()}


def key_of(row: Row, keys: tuple[str, ...]) -> Key:
    return tuple(row[name] for name in keys)


def cells(row: Row, flags: tuple[str, ...]) -> Row:
    return {name: row[name] for name in (*SCHEMA.names, *flags)}
