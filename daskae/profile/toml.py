"""Just as much TOML as a settings file needs."""

import json
from collections.abc import Mapping, Sequence


def quoted(text: str) -> str:
    """Write a text as a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def key(name: str) -> str:
    """Write a key, with quotes where it needs them."""
    plain = name.replace("_", "").replace("-", "")
    return name if plain.isascii() and plain.isalnum() else quoted(name)


def value(item: object) -> str:
    """Write a text, number, truth value, list or table.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(item, str):
        return quoted(item)
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int | float):
        return repr(item)
    if isinstance(item, Mapping):
        return "{ " + ", ".join(f"{key(name)} = {value(part)}" for name, part in item.items()) + " }"
    if isinstance(item, Sequence):
        return "[" + ", ".join(value(part) for part in item) + "]"
    raise TypeError(f"no TOML for {type(item).__name__}")


def comment(text: str) -> str:
    """Write a text as comment lines; what would end a line or cannot stand in a comment is escaped."""
    return "\n".join("# " + "".join(map(_visible, line)) for line in text.split("\n"))


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
