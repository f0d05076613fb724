"""What a built-in function knows while it is made: the columns a step finds, and where to point on an error."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import polars as pl

from daskae.config import ColumnType
from daskae.errors import SettingsError
from daskae.schema import CONTRACT_TYPES
from daskae.transform.kinds import kind_of


@dataclass(frozen=True)
class View:
    """Columns and types before a step."""

    schema: pl.Schema
    scale: int
    where: str
    """The step, for errors."""

    def kind(self, name: str) -> ColumnType:
        """Return a column's type.

        Raises
        ------
        SettingsError
            If there is no such column.
        """
        if name not in self.schema:
            near = difflib.get_close_matches(name, list(self.schema), 1)
            raise SettingsError(
                "a step names an unknown column", self.where, repr(name), ", ".join(self.schema),
                f"did you mean {near[0]!r}?" if near else "",
            )  # fmt: skip
        kind = kind_of(self.schema[name])
        assert kind is not None
        return kind

    def require(self, name: str, *kinds: ColumnType) -> ColumnType:
        """Return a column's type if it is one of some.

        Raises
        ------
        SettingsError
        """
        kind = self.kind(name)
        if kind not in kinds:
            hint = "give the column a dtype in [columns]" if kind == "text" else ""
            raise SettingsError(
                "a step does not fit its column", self.where, f"{name} is {kind}", " or ".join(kinds), hint
            )
        return kind

    def texts(self, columns: str | Sequence[str]) -> list[str]:
        """Return the names of one or several text columns."""
        names = named(columns, self.where)
        for name in names:
            self.require(name, "text")
        return names

    def require_free(self, name: str) -> None:
        """Check that a column is not one of the contract's.

        Raises
        ------
        SettingsError
        """
        self.kind(name)
        if name in CONTRACT_TYPES:
            raise SettingsError(
                "a step must not take away a column of the contract", self.where, name, "a column of your own"
            )

    def decimal(self, value: str | int | float, what: str) -> Decimal:
        """Read a number of the settings exactly as it is written.

        Raises
        ------
        SettingsError
        """
        try:
            number = Decimal(str(value))
            if number.is_finite() and len(number.as_tuple().digits) <= 18 and abs(number.adjusted()) <= 18:
                return number.normalize()
        except InvalidOperation:
            pass
        raise SettingsError(f"{what} is not a usable number", self.where, repr(value), "up to 18 digits")


def named(columns: str | Sequence[str], where: str) -> list[str]:
    """Return one or several names as a list.

    Raises
    ------
    SettingsError
        If there is none, or one twice.
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    if not names or len(set(names)) < len(names):
        raise SettingsError("a step needs columns, each once", where, ", ".join(names) or "none")
    return names
