"""The unique pass: all keys of a range of key hashes at once; every row but the first of its key is named.

Equal hashes only select candidates; the keys themselves decide.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from daskae.exchange import ExchangeWriter, commit_files, read_slots
from daskae.stages.layout import Layout

POSITION = "_position"


@dataclass(frozen=True)
class UniqueTask:
    """One range of key hashes of one rule."""

    rule: int
    """Index among the keyed rules."""
    first: int
    last: int
    folder: Path
    samples: int = 5
    """Repeated rows to show."""


def find_duplicates(task: UniqueTask, layout_path: Path) -> dict[str, Any]:
    """Find the rows that repeat a key of an earlier row.

    Returns
    -------
    dict
        The manifest: ``file``, the exchange file that names the rows by customer slot (columns ``part`` and ``seq``),
        or
        None; ``affected``, how many they are; ``checked``, how many rows have a key; ``samples``, place in the input
        and key of the first of them.
    """
    layout = Layout.load(layout_path)
    task.folder.mkdir(parents=True, exist_ok=True)
    frames, checked = _candidates(task, layout)
    repeated = frames.filter(~_is_first(frames)) if frames.height else frames
    with ExchangeWriter(task.folder, "repeated") as writer:
        if repeated.height:
            writer.append(repeated.select("part", "seq"), repeated["slot"].to_numpy())
        file = writer.finish()
    name = file.name if file else None
    manifest = {"file": name, "affected": repeated.height, "checked": checked}
    return commit_files(task.folder, {**manifest, "samples": _first(repeated, task.samples)}, [name])


def _first(repeated: pl.DataFrame, count: int) -> list[list[Any]]:
    """Place in the input and key of the first rows."""
    if not repeated.height:
        return []
    keys = [name for name in repeated.columns if name.startswith("key_") and name != "key_hash"]
    rows = repeated.sort(POSITION).head(count).select(POSITION, pl.concat_str(keys, separator=", ").str.head(200))
    return [list(row) for row in rows.rows()]


def _candidates(task: UniqueTask, layout: Layout) -> tuple[pl.DataFrame, int]:
    """Rows whose key hash occurs more than once, with their keys and their places in the input."""
    paths = layout.paths(f"keys-{task.rule}")
    tables = [table for _, path in paths for table in read_slots(path, task.first, task.last, ["key_hash"])]
    if not tables:
        return pl.DataFrame(), 0
    hashes = pl.Series(pl.from_arrow(pa.concat_tables(tables)["key_hash"]))
    wanted = repeated_values(hashes)
    if not len(wanted):
        return pl.DataFrame(), len(hashes)
    found = []
    for part, path in paths:
        rows = list(read_slots(path, task.first, task.last))
        if not rows:
            continue
        table = pa.concat_tables(rows)
        # Picked out before Polars sees them: its texts are copies, and repeated keys are few.
        repeated = pl.Series(pl.from_arrow(table["key_hash"])).is_in(wanted.implode()).arg_true()
        frame = pl.DataFrame(pl.from_arrow(table.take(repeated.to_arrow())))
        position = pl.Series(POSITION, layout.positions(part, frame["seq"]))
        found.append(frame.with_columns(position, pl.lit(part, dtype=pl.UInt32).alias("part")))
    return pl.concat(found), len(hashes)


def _is_first(frame: pl.DataFrame) -> pl.Series:
    keys = [name for name in frame.columns if name.startswith("key_") and name != "key_hash"]
    return frame.select(pl.col(POSITION) == pl.col(POSITION).min().over(keys)).to_series()


def repeated_values(values: pl.Series) -> pl.Series:
    """Return the values that occur more than once; sorting is the fastest way where that is rare."""
    ordered = values.sort()
    return ordered.filter(ordered == ordered.shift(1)).unique()
