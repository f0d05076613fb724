"""Functions that steps may name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from daskae.config import ColumnType
from daskae.errors import SettingsError
from daskae.transform.builtin import BUILT_IN

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Registered:
    """A function of a person's own."""

    name: str
    function: Callable[..., Any]
    frame: bool = False
    """Whether it takes and gives a pandas DataFrame."""
    reads: tuple[str, ...] | None = None
    """Source columns it needs beside the order contract's; None for all."""
    adds: Mapping[str, ColumnType] | None = None
    """Columns it makes, with their types; None to find out by calling it on an empty table."""


_KNOWN: dict[str, Registered] = {}


def register(
    name: str,
    *,
    frame: bool = False,
    reads: Sequence[str] | None = None,
    adds: Mapping[str, ColumnType] | None = None,
) -> Callable[[_Function], _Function]:
    """Make a function known to steps by a name.

    The function takes a table and the step's parameters by name, and returns the table with the same rows in the same
    order. Each row may depend on itself only. A boolean column ``_rejected`` in what it returns rejects rows.

    Parameters
    ----------
    name : str
    frame : bool
        Call it with a pandas DataFrame (Arrow types, exact decimals) instead of a Polars one.
    reads : sequence of str, optional
        Source columns it needs beside the contract's; all that every source has unless given. Fewer are faster.
    adds : mapping, optional
        Columns it makes and their types; needed where it cannot be called on an empty table.

    Raises
    ------
    SettingsError
        If a built-in or another function has the name.
    """

    def remember(function: _Function) -> _Function:
        known = _KNOWN.get(name)
        if name in BUILT_IN or (known is not None and _home(known.function) != _home(function)):
            raise SettingsError("a function's name is taken", f"register({name!r})", name, "names are unique")
        _KNOWN[name] = Registered(name, function, frame, None if reads is None else tuple(reads), adds)
        return function

    return remember


def _home(function: Callable[..., Any]) -> tuple[str, str]:
    # A script that is run again in one session registers the same function once more.
    return (function.__module__, function.__qualname__)


def registered(name: str) -> Registered | None:
    """Return a registered function, None for an unknown name."""
    return _KNOWN.get(name)


def known_names() -> tuple[str, ...]:
    """Names of all functions, built-in ones first."""
    return (*BUILT_IN, *_KNOWN)
