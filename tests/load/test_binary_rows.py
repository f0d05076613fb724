"""Rows arrive in PostgreSQL the same in binary form as in CSV, whose values the server itself reads from text."""

from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from daskae.load.sql.postgresql.binary import HEADER, TRAILER, fits, to_binary
from daskae.load.sql.postgresql.values import to_csv

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
KINDS: dict[pa.DataType, tuple[str, st.SearchStrategy[Any]]] = {
    pa.string(): ("text", TEXTS),
    pa.large_string(): ("varchar", TEXTS),
    pa.int16(): ("bigint", st.integers(-(2**15), 2**15 - 1)),
    pa.int64(): ("bigint", st.integers(-(2**63), 2**63 - 1)),
    pa.uint64(): ("numeric(20)", st.integers(0, 2**64 - 1)),
    pa.bool_(): ("boolean", st.booleans()),
    pa.float64(): ("double precision", st.floats()),
    pa.date32(): ("date", st.dates()),
    pa.timestamp("us"): ("timestamp", st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))),
    pa.decimal128(38, 0): ("numeric(38, 0)", st.decimals(-(10**37), 10**37, places=0)),
    pa.decimal128(18, 2): ("numeric(38, 2)", st.decimals(-(10**15), 10**15, places=2)),
    pa.decimal128(38, 4): ("numeric(38, 4)", st.decimals(-(10**33), 10**33, places=4)),
    pa.decimal128(38, 7): ("numeric(38, 7)", st.decimals(-(10**9), 10**9, places=7)),
    pa.decimal128(38, 16): ("numeric(38, 16)", st.decimals(-10, 10, places=16)),
}


@st.composite
def columns(draw: st.DrawFn) -> list[pa.Array]:
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=5))
    height, skipped = draw(st.integers(1, 12)), draw(st.integers(0, 3))
    size = height + skipped
    made = []
    for kind in kinds:
        values = draw(st.lists(st.none() | KINDS[kind][1], min_size=size, max_size=size))
        made.append(pa.array(values, kind).slice(skipped))
    return made


@pytest.fixture(scope="module")
def connection(postgresql_url: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with closing(psycopg.connect(postgresql_url, autocommit=True, prepare_threshold=None)) as found:
        yield found


@given(data=columns())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_both_forms_give_the_same_rows(connection: psycopg.Connection[tuple[Any, ...]], data: list[pa.Array]) -> None:
    declared = ", ".join(f"c{i} {KINDS[column.type][0]}" for i, column in enumerate(data))
    found = []
    forms: list[tuple[str, list[bytes | memoryview]]] = [
        ("binary", [HEADER, to_binary(data), TRAILER]),
        ("csv", [to_csv(data)]),
    ]
    for form, blocks in forms:
        connection.execute(f"CREATE TEMPORARY TABLE sent_{form} ({declared})".encode())
        try:
            copying = sql.SQL("COPY {} FROM STDIN (FORMAT {})").format(sql.Identifier(f"sent_{form}"), sql.SQL(form))
            with connection.cursor() as cursor, cursor.copy(copying) as copy:
                for block in blocks:
                    copy.write(block)
            rows = connection.execute(f"SELECT * FROM sent_{form}".encode())
            assert rows.description is not None
            assert all(fits(a.type, b.type_code) for a, b in zip(data, rows.description, strict=True))
            texts = connection.execute(f"SELECT sent_{form}::text FROM sent_{form}".encode()).fetchall()
            found.append((repr(rows.fetchall()), texts))
        finally:
            connection.execute(f"DROP TABLE sent_{form}".encode())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("kind", "oid"),
    [(pa.int64(), 23), (pa.int64(), 1700), (pa.float64(), 700), (pa.string(), 2950), (pa.decimal128(38, 17), 1700)],
)
def test_other_types_are_sent_as_text(kind: pa.DataType, oid: int) -> None:
    assert not fits(kind, oid)


def test_days_and_times_count_from_2000() -> None:
    days = bytes(to_binary([pa.array([date(2000, 1, 2)])]))
    assert days == bytes.fromhex("0001 00000004 00000001")
    times = bytes(to_binary([pa.array([datetime(1999, 12, 31, 23, 59, 59, 999_999), None], pa.timestamp("us"))]))
    assert times == bytes.fromhex("0001 00000008 ffffffffffffffff 0001 ffffffff")
