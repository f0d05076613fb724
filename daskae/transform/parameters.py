"""Check a step's parameters against the signature of its function, before anything runs."""

import difflib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from daskae.errors import SettingsError


def require_parameters(function: Callable[..., Any], given: Mapping[str, Any], where: str) -> None:
    """Check names, presence and, where the function is annotated, types.

    Parameters
    ----------
    function : callable
        Its first parameter is the table and not looked at.
    given : mapping
    where : str

    Raises
    ------
    SettingsError
    """
    _, *rest = inspect.signature(function).parameters.values()
    known = {item.name: item for item in rest if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)}
    allowed = ", ".join(known) or "none"
    if not any(item.kind is item.VAR_KEYWORD for item in rest):
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else ""
                raise SettingsError("a step's function has no such parameter", where, name, allowed, hint)
    for name, item in known.items():
        if name not in given and item.default is item.empty:
            raise SettingsError("a step lacks a parameter", where, f"no {name}", allowed, f"set parameters.{name}")
    hints = _hints(function)
    for name, value in given.items():
        if name in hints and not fits(value, hints[name]):
            raise SettingsError("a step's parameter is of another type", f"{where}, {name}", repr(value)[:120],
                                _shown(hints[name]))  # fmt: skip


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError):  # names that only a checker knows
        return {}


def fits(value: object, hint: Any) -> bool:
    """Whether a value of a settings file is of an annotated type; what is not understood is let through."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, item) for item in arguments)
    if origin is Literal:
        return value in arguments
    if hint is type(None):
        return value is None
    if origin is list and isinstance(value, list | tuple):
        return not arguments or all(fits(item, arguments[0]) for item in value)
    if origin is dict and isinstance(value, Mapping):
        return not arguments or all(fits(item, arguments[1]) for item in value.values())
    plain = origin or hint
    if plain is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if plain is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, plain) if plain in (str, bool, list, dict) else True


def _shown(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_shown(item) for item in arguments)
    if origin is Literal:
        return ", ".join(map(repr, arguments))
    return {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}.get(
        getattr(hint, "__name__", ""), str(hint).replace("typing.", "")
    )
