"""Settings as TOML text. The standard library reads TOML but does not write it."""

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
_TO_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f\ud800-\udfff]')


def toml_key(name: str) -> str:
    """Write a key, in quotes where it needs them."""
    return name if _BARE.fullmatch(name) else _text(name)


def toml_value(value: Any) -> str:
    """Write one value; a table is written on one line.

    Raises
    ------
    TypeError
        For a value that TOML has no form for.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    raise TypeError(f"no TOML for {type(value).__name__}")


def toml_table(header: str, entries: Mapping[str, Any]) -> str:
    """Write a table under its header line, such as ``[columns]`` or ``[[rules]]``."""
    return "\n".join([header, *(f"{toml_key(key)} = {toml_value(value)}" for key, value in entries.items())]) + "\n"


def toml_comment(text: str) -> str:
    """Write a text as comment lines; what may not stand in a comment is left out."""
    lines = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", " ", text).split("\n")
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _text(value: str) -> str:
    return '"' + _TO_ESCAPE.sub(lambda found: _escaped(found.group()), value) + '"'


def _escaped(letter: str) -> str:
    if "\ud800" <= letter <= "\udfff":  # half a letter, which no file can hold
        return "\\uFFFD"
    return _SHORT.get(letter) or f"\\u{ord(letter):04X}"
