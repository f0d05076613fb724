"""Take customers out of the files of a table: those without them stay, the others are written anew under new names."""

import re
from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from daskae.load.parquet.older import Older
from daskae.load.parquet.writing import Put, row_groups
from daskae.load.purged import CUSTOMER

_TIMES = 5
"""Digits behind the number of a file that say how often it was written anew; numbers of loads are never so long."""
_NUMBER = re.compile(rf"-(\d{{5,}}?)(\d{{{_TIMES}}})?\.parquet$")


def find_rows(tables: Mapping[str, Older], customers: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the rows of customers by file in each table that has a column for them, without files that hold none."""
    wanted = pa.array(customers, pa.string())
    found: dict[str, dict[str, int]] = {}
    for table, older in tables.items():
        for name in (name for name in older.names if CUSTOMER in older.schema(name).names):
            rows = pc.sum(pc.is_in(older.read(name, [CUSTOMER])[CUSTOMER], value_set=wanted)).as_py()
            found.setdefault(table, {}).update({name: rows} if rows else {})
    return found


def count_rows(found: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Add up rows by table."""
    return {table: sum(files.values()) for table, files in found.items()}


def rewrite(older: Older, names: Collection[str], customers: Sequence[str], put: Put) -> list[str]:
    """Write these files anew without rows of customers; return all files of the table as it is then."""
    files = [name for name in older.names if name not in names]
    wanted = pa.array(customers, pa.string())
    for name in names:
        table = older.read(name)
        rest = table.filter(pc.invert(pc.is_in(table[CUSTOMER], value_set=wanted)))
        if rest.num_rows:
            files.append(_next_name(name))
            put(files[-1], rest.schema, row_groups(rest))
    if not files:
        files.append(_next_name(older.names[0]).rpartition("/")[2])
        put(files[-1], older.schema(older.names[0]), ())  # tells readers the columns
    return files


def _next_name(name: str) -> str:
    """Return a name between that of a file and the next one, so that the order of the rows stays."""
    found = _NUMBER.search(name)
    assert found is not None, name  # nothing else gets into a table
    times = int(found[2] or 0) + 1
    return f"{name[: found.start()]}-{found[1]}{times:0{_TIMES}d}.parquet"
