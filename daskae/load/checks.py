"""What every sink demands of a load, whatever the target."""

from collections import Counter
from collections.abc import Iterable

from daskae.errors import LoadError
from daskae.load.base import Load, TableParts
from daskae.load.shape import Drift, Metadata

_SHOWN_COLUMNS = 8


def check_load(load: Load) -> None:
    """Refuse a load that no target can hold, before anything is written.

    Names are compared without regard to case, as SQL does.

    Raises
    ------
    LoadError
        For two tables of one name, a table without columns, a key that is not a column, a column named like a metadata
        column, or a name that is empty or holds a NUL or an unpaired surrogate.
    """
    for name in _repeated(table.name for table in load.tables):
        raise LoadError("two tables of this load have the same name", where=f"table {name}")
    if load.strategy == "append" and load.metadata.load_id is None:
        raise LoadError(
            "an append needs the column that says which load brought a row",
            where="[load] metadata",
            got=", ".join(load.metadata.names) or "no columns",
            allowed="_load_id among them, under any name",
            hint="without it the same load could be added twice; or use the strategy replace, upsert or merge",
        )
    for table in load.tables:
        for name in (table.name, *table.schema.names, *load.metadata.names):
            _check_text(name, table.name)
        _check_columns(table, load.metadata)


def check_files_settings(load: Load) -> None:
    """Refuse settings that only a database can follow.

    Raises
    ------
    LoadError
        Naming the first of them.
    """
    named = {
        "on_drift or drift": load.drift != Drift(),
    }
    for setting in (name for name, given in named.items() if given):
        raise LoadError(
            "a folder of Parquet files does not take this setting",
            where=f"[load] {setting}",
            hint="leave it out, or load into a database, such as sqlite:///metrics.db",
        )


def check_options(load: Load) -> None:
    """Refuse options that fit no table of the load.

    Raises
    ------
    LoadError
        For a table without keys where they are needed, or a column that no table has.
    """
    options = load.options
    if load.strategy in ("upsert", "merge"):
        for parts in load.tables:
            if not parts.keys:
                what = f"an {load.strategy}" if load.strategy == "upsert" else f"a {load.strategy}"
                raise LoadError(f"{what} needs keys, and a table has none", f"table {parts.name}")
    names = dict.fromkeys(name for parts in load.tables for name in parts.schema.names)
    keys = {key for parts in load.tables for key in parts.keys}
    allowed = ", ".join(list(names)[:_SHOWN_COLUMNS]) + (" ..." if len(names) > _SHOWN_COLUMNS else "")
    for column in options.update_columns:
        if column not in names or column in keys:
            raise LoadError(
                "a column to update is not a column of any table, or is a key", "[load] update_columns", column, allowed
            )
    if options.only_if_newer and options.only_if_newer not in names:
        raise LoadError("no table has the column", "[load] only_if_newer", options.only_if_newer, allowed)
    if options.duplicates not in ("error", "first", "last") and options.duplicates not in names:
        raise LoadError(
            "no table has the column", "[load] duplicates", options.duplicates, f"error, first, last, {allowed}"
        )


def wants_flags(load: Load) -> bool:
    """Tell whether a load marks rows that left the source."""
    return load.strategy == "merge" and load.options.on_missing == "flag"


def _check_columns(table: TableParts, metadata: Metadata) -> None:
    where = f"table {table.name}"
    if not table.schema.names:
        raise LoadError("a table needs at least one column", where=where)
    for name in _repeated((*table.schema.names, *metadata.names)):
        taken = name.casefold() in map(str.casefold, metadata.names)
        what = "a column has the name of a metadata column" if taken else "two columns have the same name"
        raise LoadError(what, where=f"{where}, column {name}", hint="rename the column")
    if missing := [key for key in table.keys if key not in table.schema.names]:
        raise LoadError("a key is not a column of its table", where=where, got=", ".join(missing))


def _check_text(name: str, table: str) -> None:
    if not name or "\0" in name or not _encodes(name):
        raise LoadError(
            "a name cannot be used in a target",
            where=f"table {table!r}",
            got=repr(name),
            allowed="a text that is not empty, without NUL and unpaired surrogates",
        )


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _repeated(names: Iterable[str]) -> list[str]:
    names = list(names)
    counts = Counter(name.casefold() for name in names)
    return [name for name in dict.fromkeys(names) if counts[name.casefold()] > 1]
