"""Accounts for every source row after whatever happened: it is in the target or in the quarantine, exactly once.

The amount of a customer's k-th order is 10**k in a currency without cents, so the digits of the customer's revenue tell
how often each of the orders was counted.
"""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from tests.fault_log import checked

ORDERS_EACH = 12
"""Orders of a customer; one digit of the revenue each."""
_HEADER = "order_id,customer_id,order_date,amount,quantity,note"


def numbered_orders(count: int, first: int = 0) -> bytes:
    """Make orders with ids from ``first`` on, some of which will be rejected for one reason or another."""
    lines = [_HEADER]
    for i in range(first, first + count):
        customer, place = divmod(i, ORDERS_EACH)
        day = "31.12." if i % 29 == 7 else f"2023-{i % 12 + 1:02d}-{i % 28 + 1:02d} 10:00:00"
        note = '"two\nlines"' if i % 11 == 3 else "plain"
        line = f"O{i},{'' if i % 31 == 9 else f'C{customer}'},{day},{10**place},{i % 9},{note}"
        lines.append(f"{line},more" if i % 37 == 5 else line)
    return ("\n".join(lines) + "\n").encode()


def source_ids(folder: Path) -> Counter[str]:
    """Count the ids of all rows of a folder of such files."""
    counts = sum((_ids(path.read_text()) for path in folder.glob("*.csv")), Counter[str]())
    del counts["order_id"]  # the header lines
    return counts


def _ids(text: str) -> Counter[str]:
    return Counter(row[0] for row in csv.reader(io.StringIO(text)) if row)


def counted_ids(customers: pa.Table) -> Counter[str]:
    """Read from the customers' revenues how often each order was counted."""
    counts: Counter[str] = Counter()
    for row in customers.select(["customer_id", "total_revenue"]).to_pylist():
        first = int(row["customer_id"].removeprefix("C")) * ORDERS_EACH
        for place, digit in enumerate(reversed(str(int(row["total_revenue"])))):
            counts[f"O{first + place}"] += int(digit)
    return +counts


def assert_accounted_for(folder: Path, customers: pa.Table, quarantine: list[dict[str, Any]]) -> None:
    """Check that target and quarantine together hold each source row exactly once."""
    rejected = sum((_ids(row["raw"]) for row in quarantine), Counter[str]())
    found, expected = counted_ids(customers) + rejected, source_ids(folder)
    assert found == expected, f"lost {expected - found}, doubled {found - expected}"
    checked("rows")


def fingerprint(tables: dict[str, pa.Table]) -> dict[str, str]:
    """Hash the bytes of published tables, without the columns that say when and by whom they were loaded."""
    hashes = {}
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        whole = table.combine_chunks()
        with pa.ipc.new_stream(sink, whole.schema) as writer:
            writer.write_table(whole)
        hashes[name] = xxhash.xxh3_128_hexdigest(sink.getvalue())
    return hashes
