"""Which column here a check's column is: one of the contract, one that the settings have already, or a new one."""

from collections.abc import Iterable, Mapping, Sequence

from daskae.config import ColumnSettings, ColumnType
from daskae.interop.makers import Place
from daskae.interop.records import FITTING, NUMBERS, TIMES, Check, Need, Suite
from daskae.interop.values import need_of
from daskae.schema import CONTRACT_TYPES, REQUIRED, name_columns

Entry = str | ColumnSettings
_TYPED: tuple[Need, ...] = ("number", "time", "boolean")


class ColumnBook:
    """The ``[columns]`` table as it grows with what the checks need.

    Every column that a check reads has an entry, as only then a blank cell is a null, as it is in the other tools.

    Parameters
    ----------
    suite : Suite
    given : mapping
        ``[columns]`` of the settings that the rules will go with; empty if there are none.
    """

    def __init__(self, suite: Suite, given: Mapping[str, Entry]) -> None:
        self._suite = suite
        self._needs = _needs(suite.checks, suite.types)
        self.given = dict(given)
        self.entries: dict[str, Entry] = dict(given) if given else self._by_name()

    def _by_name(self) -> dict[str, Entry]:
        """Take the columns that are named as the contract, with the form of their dates where it is known."""
        named = name_columns(list(self._suite.types))
        forms = self._suite.formats
        return {
            name: ColumnSettings(column=entry, format=forms[entry])
            if isinstance(entry, str) and entry in forms and CONTRACT_TYPES[name] in TIMES
            else entry
            for name, entry in named.items()
        }

    @property
    def added(self) -> dict[str, Entry]:
        """Entries that the given settings do not have."""
        return {name: entry for name, entry in self.entries.items() if name not in self.given}

    @property
    def missing(self) -> tuple[str, ...]:
        """Required columns without an entry."""
        return tuple(name for name in REQUIRED if name not in self.entries)

    def place(self, source: str, need: Need) -> Place:
        """Return the column to refer to for a need, after adding it if there is none."""
        if need == "stated":
            need = need_of(self._suite.types.get(source), [])
        for name, entry in self.entries.items():
            dtype = _dtype(name, entry)
            if _source(entry) == source and dtype in FITTING[need]:
                return Place(name, dtype)
        dtype = self._wanted(source, need)
        name = source
        if name in self.entries or CONTRACT_TYPES.get(name, dtype) != dtype:
            name = f"{source}_{dtype}"
        while name in self.entries:
            name += "_"
        form = self._suite.formats.get(source) if dtype in TIMES else None
        self.entries[name] = ColumnSettings(column=source, dtype=dtype, format=form)
        return Place(name, dtype)

    def _wanted(self, source: str, need: Need) -> ColumnType:
        """Choose the type of a new column: the stated one where it fits, else one that fits the most."""
        stated = self._suite.types.get(source)
        if need == "any":
            needs = self._needs.get(source, set())
            need = next((item for item in _TYPED if item in needs), "text")
        if stated is not None and stated in FITTING[need]:
            return stated
        defaults: Mapping[Need, ColumnType] = {"number": "float", "time": "datetime", "boolean": "boolean"}
        return defaults.get(need, "text")

    def enforces(self, source: str, dtype: ColumnType, form: str | None) -> bool:
        """Whether an entry for a source column refuses what is not of a type, and dates that are not of a form."""
        read: Mapping[ColumnType, Sequence[ColumnType]] = {
            "float": NUMBERS, "decimal": ("integer", "decimal"), "datetime": TIMES
        }  # fmt: skip
        return any(
            _source(entry) == source
            and _dtype(name, entry) in read.get(dtype, (dtype,))
            and (form is None or (isinstance(entry, ColumnSettings) and entry.format == form))
            for name, entry in self.entries.items()
        )


def _needs(checks: Iterable[Check], types: Mapping[str, ColumnType | None]) -> dict[str, set[Need]]:
    needs: dict[str, set[Need]] = {}
    for check in checks:
        for column in check.columns:
            need = need_of(types.get(column), []) if check.need == "stated" else check.need
            needs.setdefault(column, set()).add(need)
    return needs


def _source(entry: Entry) -> str | None:
    """Return the source column of an entry; a text may be an expression, which then is the name of none."""
    return entry if isinstance(entry, str) else entry.column


def _dtype(name: str, entry: Entry) -> ColumnType:
    stated = entry.dtype if isinstance(entry, ColumnSettings) else None
    return stated or CONTRACT_TYPES.get(name, "text")


def source_columns(suite: Suite, entries: Mapping[str, Entry]) -> Sequence[str]:
    """Return all source columns that are known of."""
    named = [source for entry in entries.values() if (source := _source(entry)) is not None]
    return list(dict.fromkeys([*suite.types, *named]))
