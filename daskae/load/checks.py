"""What every sink demands of a load, whatever the target."""

from collections import Counter
from collections.abc import Iterable

from daskae.errors import LoadError
from daskae.load.base import METADATA_COLUMNS, Load, TableParts


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
    for table in load.tables:
        for name in (table.name, *table.schema.names):
            _check_text(name, table.name)
        _check_columns(table)


def check_files_strategy(load: Load) -> None:
    """Refuse what cannot be done to files that are only ever added or replaced.

    Raises
    ------
    LoadError
        For an upsert or a merge.
    """
    if load.strategy not in ("replace", "append"):
        raise LoadError(
            "a folder of Parquet files takes whole tables only",
            where="--strategy",
            got=load.strategy,
            allowed="replace, append",
            hint="load into a database, such as sqlite:///metrics.db",
        )


def _check_columns(table: TableParts) -> None:
    where = f"table {table.name}"
    if not table.schema.names:
        raise LoadError("a table needs at least one column", where=where)
    for name in _repeated((*table.schema.names, *METADATA_COLUMNS)):
        taken = name.casefold() in METADATA_COLUMNS
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
