"""Dimensions in the work directory: written once by the driver, by slot of their key, and read by the tasks.

The folder is named by the file's content and the columns asked for, so what is there is right whoever wrote it.
"""

from functools import lru_cache
from pathlib import Path

import polars as pl

from daskae.errors import ExchangeError, SettingsError
from daskae.exchange import SLOTS, ExchangeWriter, commit_files, load_manifest, read_slots, slots_of
from daskae.hashing import hash_text
from daskae.transform.dimensions import open_dimension
from daskae.transform.enrich import KEY, require_once
from daskae.transform.operations import Lookup

_HELD = 8


def write_dimension(lookup: Lookup, where: str) -> None:
    """Write a dimension's rows by slot, in pieces, and check that no key is there twice.

    Raises
    ------
    SettingsError
        If it cannot be read, has a key twice, or a value that does not fit its column's type exactly.
    """
    folder = Path(lookup.folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = 0
    with ExchangeWriter(folder, "dimension") as writer:
        for piece in open_dimension(lookup, where).pieces(list(lookup.columns)):
            typed = _typed(piece, lookup, where)
            if typed.height:
                writer.append(typed, slots_of(hash_text(typed[KEY])))
                rows += typed.height
        file = writer.finish()
    name = None if file is None else file.name
    if name is not None:
        for slot in range(SLOTS):
            keys = [table.column(KEY) for table in read_slots(folder / name, slot, slot + 1, [KEY])]
            if keys:
                together = pl.concat([pl.Series(KEY, pl.from_arrow(part), dtype=pl.String) for part in keys])
                require_once(together, where, lookup.source)
    commit_files(folder, {"file": name, "rows": rows}, [name])


def _typed(piece: pl.DataFrame, lookup: Lookup, where: str) -> pl.DataFrame:
    """Bring the columns to the types they are kept as; nothing is rounded."""
    values = [piece[KEY]]
    for name, given in lookup.columns.items():
        value, wanted = piece[name], lookup.dtypes[given]
        cast = value.cast(wanted, strict=False)
        kept = cast.is_null() == value.is_null()
        if isinstance(value.dtype, pl.Decimal | pl.Datetime):
            kept &= (cast.cast(value.dtype, strict=False) == value).fill_null(True)
        if not kept.all():
            raise SettingsError(
                "a dimension has a value that does not fit", f"{where}, {lookup.source}",
                f"{name}: {value.filter(~kept)[0]}", str(wanted), "raise money.scale, or leave the column out",
            )  # fmt: skip
        values.append(cast)
    return pl.DataFrame(values)


def whole_dimension(lookup: Lookup) -> pl.DataFrame:
    """Return all rows of a dimension; a process reads it once."""
    found = _whole(lookup.folder)
    return found if found.width else empty_dimension(lookup)


@lru_cache(maxsize=_HELD)
def _whole(folder: str) -> pl.DataFrame:
    path = _file(folder)
    tables = [] if path is None else list(read_slots(path, 0, SLOTS))
    return pl.concat([pl.DataFrame(pl.from_arrow(table)) for table in tables]) if tables else pl.DataFrame()


def dimension_of(lookup: Lookup, first: int, last: int, keys: pl.Series) -> pl.DataFrame:
    """Return a dimension's rows of some keys, whose slots are ``[first, last)``; piece by piece, so few are held."""
    path = _file(lookup.folder)
    frames = [empty_dimension(lookup)]
    for table in [] if path is None else read_slots(path, first, last):
        frame = pl.DataFrame(pl.from_arrow(table))
        frames.append(frame.filter(pl.col(KEY).is_in(keys.implode())))
    return pl.concat(frames)


def empty_dimension(lookup: Lookup) -> pl.DataFrame:
    """Return a dimension without rows."""
    return pl.DataFrame(schema={KEY: pl.String(), **{old: lookup.dtypes[new] for old, new in lookup.columns.items()}})


def _file(folder: str) -> Path | None:
    manifest = load_manifest(Path(folder))
    if manifest is None:
        raise ExchangeError("an intermediate file is damaged or gone", f"{folder}/manifest.json")
    return None if manifest["file"] is None else Path(folder) / manifest["file"]
