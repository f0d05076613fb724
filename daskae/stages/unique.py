"""The unique pass: all keys of a range of key hashes at once; every row but the first of its key is named.

Equal hashes only select candidates; the keys themselves decide.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from daskae.exchange import ExchangeWriter, commit, read_slots
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


def find_duplicates(task: UniqueTask, layout_path: Path) -> dict[str, Any]:
    """Find the rows that repeat a key of an earlier row.

    Returns
    -------
    dict
        The manifest: ``file``, the exchange file that names the rows by customer slot (columns ``part`` and ``seq``), or
        None; ``affected``, how many they are; ``checked``, how many rows have a key.
    """
    layout = Layout.load(layout_path)
    task.folder.mkdir(parents=True, exist_ok=True)
    frames, checked = _candidates(task, layout)
    repeated = frames.filter(~_is_first(frames)) if frames.height else frames
    with ExchangeWriter(task.folder, "repeated") as writer:
        if repeated.height:
            writer.append(repeated.select("part", "seq"), repeated["slot"].to_numpy())
        file = writer.finish()
    return commit(task.folder, {"file": file.name if file else None, "affected": repeated.height, "checked": checked})


def _candidates(task: UniqueTask, layout: Layout) -> tuple[pl.DataFrame, int]:
    """Rows whose key hash occurs more than once, with their keys and their places in the input."""
    paths = layout.paths(f"keys-{task.rule}")
    hashes = [
        np.asarray(table["key_hash"].combine_chunks()) if table.num_rows else np.empty(0, np.uint64)
        for _, path in paths
        for table in read_slots(path, task.first, task.last, ["key_hash"])
    ]
    if not hashes:
        return pl.DataFrame(), 0
    values = np.sort(np.concatenate(hashes))
    twice = np.unique(values[1:][values[1:] == values[:-1]])
    if not len(twice):
        return pl.DataFrame(), len(values)
    wanted = pl.Series(twice)
    found = []
    for part, path in paths:
        for table in read_slots(path, task.first, task.last):
            frame = pl.DataFrame(pl.from_arrow(table))
            frame = frame.filter(pl.col("key_hash").is_in(wanted.implode()))
            position = pl.Series(POSITION, layout.positions(part, frame["seq"]))
            found.append(frame.with_columns(position, pl.lit(part, dtype=pl.UInt32).alias("part")))
    return pl.concat(found), len(values)


def _is_first(frame: pl.DataFrame) -> pl.Series:
    keys = [name for name in frame.columns if name.startswith("key_") and name != "key_hash"]
    return frame.select(pl.col(POSITION) == pl.col(POSITION).min().over(keys)).to_series()
