"""Keys that a column's values must be among: distinct, sorted by hash, in one file that workers map into memory.

A value is looked up by its 64-bit hash and then compared itself, so equal hashes of different keys do no harm. Only the
pages that are touched are read.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from daskae.durable import replacing
from daskae.errors import ExchangeError
from daskae.hashing import U64, digest_bytes, digest_texts, hash_text


def distinct_keys(values: pl.Series) -> pl.DataFrame:
    """Return the distinct texts of a column, without nulls, sorted by (hash, text)."""
    keys = values.drop_nulls().unique()
    return pl.DataFrame({"hash": pl.Series(hash_text(keys), dtype=pl.UInt64), "key": keys}).sort("hash", "key")


def keys_digest(keys: pl.DataFrame) -> str:
    """Return the identity of a set of keys."""
    arrow = keys["key"].rechunk().to_arrow()
    if not len(arrow):
        return digest_texts("no keys")
    offsets = np.frombuffer(arrow.buffers()[1], np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    data = memoryview(arrow.buffers()[2])[int(offsets[0]) : int(offsets[-1])]
    return digest_texts(digest_bytes(offsets - offsets[0]), digest_bytes(data))


def write_keys(keys: pl.DataFrame, path: Path) -> None:
    """Write keys whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"hash": keys["hash"].to_arrow(), "key": keys["key"].to_arrow()}).combine_chunks()
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


@lru_cache(maxsize=16)
def _open(path: Path) -> tuple[U64, pl.Series]:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
    except (OSError, pa.ArrowInvalid) as error:
        raise ExchangeError("the keys of a reference cannot be read", str(path), str(error)[:200]) from None
    hashes: Any = table["hash"].to_numpy()
    return hashes, pl.Series("key", pl.from_arrow(table["key"]), dtype=pl.String)


def is_missing(values: pl.Series, path: Path) -> pl.Series:
    """Say which values are not among the keys; a null is never missing.

    Parameters
    ----------
    values : Series of String or of an integer type
    path : Path
        What :func:`write_keys` wrote.
    """
    texts = values.cast(pl.String)
    wanted = texts.drop_nulls().unique()
    lacking = wanted.filter(pl.Series(~_found(wanted, *_open(path))))
    if not len(lacking):
        return pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
    return texts.is_in(lacking.implode()).fill_null(False)


def _found(wanted: pl.Series, hashes: U64, keys: pl.Series) -> NDArray[np.bool_]:
    """Say which texts are among the keys; where several keys share a hash, each is compared."""
    own = hash_text(wanted)
    place = np.searchsorted(hashes, own)
    found = np.zeros(len(wanted), bool)
    open_ = np.arange(len(wanted))
    while len(open_):
        inside = place[open_] < len(hashes)
        open_ = open_[inside]
        open_ = open_[hashes[place[open_]] == own[open_]]
        if not len(open_):
            break
        same = (keys.gather(place[open_]) == wanted.gather(open_)).to_numpy()
        found[open_[same]] = True
        open_ = open_[~same]
        place[open_] += 1
    return found
