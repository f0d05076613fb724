"""Money survives the way into a target: through SQLite up to 15 digits, through Parquet all 38."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Context, Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskae.errors import LoadError
from daskae.load.targets import open_sink

from .building import A, build_load

WIDE = Context(prec=80)
SCALES = st.integers(0, 30)


@st.composite
def decimals(draw: st.DrawFn, digits: int) -> tuple[int, list[Decimal | None]]:
    """A scale and values that fit it, each of at most so many significant digits; trailing zeros come on top."""
    scale = draw(SCALES)
    values = []
    for _ in range(draw(st.integers(1, 30))):
        size = draw(st.integers(1, digits))
        units = draw(st.integers(-(10**size) + 1, 10**size - 1)) * 10 ** draw(st.integers(0, 38 - size))
        values.append(Decimal(units).scaleb(-scale, WIDE))
    return scale, [*values, None]


@contextmanager
def published(values: list[Decimal | None], scale: int, target: str, exact: bool = True) -> Iterator[Path]:
    metadata = {} if exact else {"exact": "false"}
    column = pa.field("x", pa.decimal128(38, scale), metadata=metadata)
    table = pa.table([pa.array(values, column.type)], pa.schema([column]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out"
        open_sink(target.format(path)).publish(build_load(Path(folder), A, {"t": ((), table)}))
        yield path


def read(path: Path, expression: str = "x") -> list[object]:
    with closing(sqlite3.connect(path)) as database:
        return [value for (value,) in database.execute(f"SELECT {expression} FROM t ORDER BY rowid")]


@given(decimals(15))
@settings(max_examples=25, deadline=None)
def test_up_to_15_digits_come_back_from_sqlite(drawn: tuple[int, list[Decimal | None]]) -> None:
    scale, values = drawn
    with published(values, scale, "sqlite:///{}") as path:
        found = read(path)
        assert [None if value is None else Decimal(repr(value)) for value in found] == values
        texts = read(path, "printf('%.15g', x)")
        assert [Decimal(str(text)) for text in texts[:-1]] == values[:-1]
        for value, kind in zip(values, read(path, "typeof(x)"), strict=True):
            integral = value is not None and value == value.to_integral_value() and abs(value) < 2**63
            assert kind == ("null" if value is None else "integer" if integral else "real")


@given(st.integers(10**15, 10**38 - 1), SCALES)
@settings(max_examples=25, deadline=None)
def test_more_digits_are_exact_integers_or_refused(units: int, scale: int) -> None:
    value = Decimal(units).scaleb(-scale, WIDE)
    digits = len(value.normalize(WIDE).as_tuple().digits)
    integral = value == value.to_integral_value() and value < 2**63
    if integral or digits <= 15:
        with published([value], scale, "sqlite:///{}") as path:
            assert Decimal(repr(read(path)[0])) == value
    else:
        with (
            pytest.raises(LoadError, match=rf"more than 15 digits(.|\n)*table t, column x(.|\n)*{value}(.|\n)*Parquet"),
            published([Decimal(1).scaleb(-scale), value], scale, "sqlite:///{}"),
        ):
            pass


def test_sums_and_comparisons_work_in_plain_sql() -> None:
    with published([Decimal("0.1000"), Decimal("2.0000"), Decimal("-30.2500")], 4, "sqlite:///{}") as path:
        assert read(path, "(SELECT x FROM t WHERE x = 0.1)")[0] == 0.1
        assert read(path, "(SELECT count(*) FROM t WHERE x < 2)")[0] == 2
        assert read(path, "(SELECT sum(x) FROM t)")[0] == -28.15


@given(decimals(38))
@settings(max_examples=15, deadline=None)
def test_an_average_is_stored_as_the_nearest_real(drawn: tuple[int, list[Decimal | None]]) -> None:
    scale, values = drawn
    with published(values, scale, "sqlite:///{}", exact=False) as path:
        assert read(path) == [None if value is None else float(value) for value in values]
        assert set(read(path, "typeof(x)")) == {"real", "null"}
        assert read(path, "(SELECT type FROM pragma_table_info('t'))")[0] == "REAL"


@given(decimals(38))
@settings(max_examples=15, deadline=None)
def test_all_38_digits_come_back_from_parquet(drawn: tuple[int, list[Decimal | None]]) -> None:
    scale, values = drawn
    with published(values, scale, "{}") as path:
        column = pq.read_table(path / "t")["x"]
        assert column.type == pa.decimal128(38, scale)
        assert column.to_pylist() == values
