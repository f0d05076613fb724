"""Whatever drifts and whatever the policies: both databases take the same loads and come to hold the same."""

import tempfile
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskae.errors import LoadError
from daskae.load.base import Load, Strategy
from daskae.load.shape import POLICIES, Drift, Shaping

from .building import MONEY, write_parts
from .databases import Database, schema_of_its_own

VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "text": (pa.string(), ["x", None, ""]),
    "whole": (pa.int64(), [7, None, -(2**40)]),
    "money": (MONEY, [Decimal("2.5"), None, Decimal(7)]),
    "float": (pa.float64(), [0.5, None, 3.0]),
    "day": (pa.date32(), [date(2011, 12, 1), None, date(1999, 1, 1)]),
    "time": (pa.timestamp("us"), [datetime(2011, 12, 1, 8, 30), None, datetime(1999, 1, 1)]),
    "boolean": (pa.bool_(), [True, None, False]),
}
COLUMNS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(list(VALUES)), max_size=3)
BATCHES = st.lists(
    st.tuples(
        COLUMNS,
        st.lists(st.sampled_from("pqrs"), min_size=1, max_size=3, unique=True),
        st.sampled_from(["replace", "append", "upsert", "merge"]),
        st.builds(
            Drift,
            st.sampled_from(POLICIES),
            st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(POLICIES)),
        ),
    ),
    min_size=2,
    max_size=4,
)
_numbers = count()


def batch(columns: dict[str, str], ids: list[str]) -> pa.Table:
    cells = {name: pa.array(VALUES[kind][1][: len(ids)], VALUES[kind][0]) for name, kind in sorted(columns.items())}
    return pa.table({"id": ids, **cells})


def publish(database: Database, load: Load) -> tuple[Any, ...]:
    """Say what became of a load; what is refused is refused before the run and changes nothing."""
    sink = database.sink()
    assert isinstance(sink, Shaping)
    try:
        if held := sink.preflight(load):
            return ("held", held.rows)
        planned = [(change.change, len(change.notes)) for change in sink.plan_changes(load)]
    except LoadError as error:
        return ("refused", error.what)
    try:
        return ("done", sink.publish(load).changes, planned)
    except LoadError as error:
        if "several rows of a key" not in error.what:  # the one thing that no look at columns can tell
            raise
        return ("late", error.what)


@given(BATCHES)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_both_databases_drift_alike(
    postgresql_url: str, batches: list[tuple[dict[str, str], list[str], str, Drift]]
) -> None:
    with tempfile.TemporaryDirectory() as name, schema_of_its_own(postgresql_url, f"drift_{next(_numbers)}") as other:
        folder = Path(name)
        url = f"sqlite:///{folder / 'metrics.db'}"
        databases = [Database("sqlite", url, url), other]
        for number, (columns, ids, strategy, drift) in enumerate(batches):
            parts = write_parts(folder / str(number), "t", ("id",), batch(columns, ids))
            load = Load(
                f"{number:064x}", "run", cast(Strategy, strategy), len(ids), datetime(2026, 1, 1 + number), (parts,)
            )
            found = [publish(database, replace(load, drift=drift)) for database in databases]
            assert found[0] == found[1]
            if "t" in other.names():
                contents = [database.rows("t", metadata=True) for database in databases]
                assert contents[0] == contents[1]
