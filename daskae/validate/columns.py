"""What rules may refer to, and how their parameters are read as a column's type."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from daskae.errors import SettingsError
from daskae.schema import Column, Contract

NUMBERS = ("decimal", "integer", "float")
TIMES = ("datetime", "date")


@dataclass(frozen=True)
class Columns:
    """Contract columns with their types, else source columns as text."""

    contract: Contract
    available: tuple[str, ...]

    def dtype(self, name: str, where: str) -> str:
        """Return a column's type, or fail naming what there is."""
        column = self.of_contract(name)
        if column is not None:
            return column.dtype
        if name in self.available:
            return "text"
        raise SettingsError(
            "a rule names an unknown column", where, repr(name), ", ".join([*self.contract.names, *self.available])
        )

    def of_contract(self, name: str) -> Column | None:
        """Return the contract's column of a name, if there is one."""
        return next((column for column in self.contract.columns if column.name == name), None)

    def of_type(self, name: str, where: str, rule: str, allowed: Sequence[str]) -> str:
        """Return a column's type, which must be one of some."""
        dtype = self.dtype(name, where)
        if dtype not in allowed:
            either = "number or date" if set(allowed) == {*NUMBERS, *TIMES} else " or ".join(allowed)
            hint = "give the column a dtype in [columns]" if dtype == "text" else ""
            raise SettingsError(f"rule {rule} needs a {either} column", where, dtype, hint=hint)
        return dtype


def read_bound(value: Any, dtype: str, where: str) -> Any:
    """Read a bound as the column's type: a Decimal, float, datetime or date.

    Raises
    ------
    SettingsError
    """
    try:
        if dtype in NUMBERS:
            number = Decimal(str(value))
            if not number.is_finite():
                raise ValueError(value)
            return float(number) if dtype == "float" else number
        if dtype in TIMES:
            moment = datetime.fromisoformat(str(value))
            if moment.tzinfo is not None:
                raise ValueError(value)
            return moment if dtype == "datetime" else moment.date()
    except (ValueError, InvalidOperation):
        raise SettingsError("a bound is not of the column's type", where, repr(value), dtype) from None
    raise SettingsError("a column of this type cannot be bound", where, dtype, ", ".join([*NUMBERS, *TIMES]))


def read_bounds(low: Any, high: Any, dtype: str, rule: str, where: str) -> tuple[Any, Any]:
    """Read both ends of a range, one of which may be None.

    Raises
    ------
    SettingsError
        If there is no end at all, or nothing can be between them.
    """
    if low is None and high is None:
        raise SettingsError(f"rule {rule} needs min or max", where)
    least, most = (None if bound is None else read_bound(bound, dtype, where) for bound in (low, high))
    if least is not None and most is not None and least > most:
        raise SettingsError("no value can be in this range", where, f"min {low}, max {high}", "min <= max")
    return least, most
