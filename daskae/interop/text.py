"""Imported rules as a settings file, and what could not be imported as a list to read."""

import tomllib
from collections.abc import Mapping

from daskae.interop.records import Imported
from daskae.interop.toml import toml_comment, toml_key, toml_table, toml_value


def settings_text(imported: Imported, source: str, given: str = "") -> str:
    """Write the settings file.

    Parameters
    ----------
    imported : Imported
    source : str
        What the rules come from, for the comment at the top.
    given : str
        Text of the settings that the rules were made for; it stays as it is, and the rest follows.
    """
    title = f"Rules imported from {source} ({imported.tool})."
    parts = [given.rstrip() + "\n" if given.strip() else "", toml_comment(title)]
    parts.append(_columns_text(imported, _has_columns(given)))
    parts += [toml_table("[[rules]]", rule) for rule in imported.rules]
    if imported.skipped:
        lines = [f"- {item.what}: {item.reason}" for item in imported.skipped]
        parts.append(toml_comment("\n".join(["Not imported:", *lines])))
    return "\n".join(part for part in parts if part)


def _has_columns(given: str) -> bool:
    return "columns" in tomllib.loads(given)


def _columns_text(imported: Imported, extend: bool) -> str:
    """Write new columns; a table that is there already is extended by tables of its own."""
    if extend:
        return "\n".join(
            toml_table(f"[columns.{toml_key(name)}]", entry if isinstance(entry, Mapping) else {"expression": entry})
            for name, entry in imported.columns.items()
        )
    if not imported.columns and not imported.missing:
        return ""
    lines = ["[columns]"]
    lines += [f'# {name} = "..."  # required: name its source column' for name in imported.missing]
    lines += [f"{toml_key(name)} = {toml_value(entry)}" for name, entry in imported.columns.items()]
    return "\n".join(lines) + "\n"


def summary_text(imported: Imported) -> str:
    """Say what was imported, what was not and why, and where a verdict can differ."""
    count, left = len(imported.rules), len(imported.skipped)
    lines = [f"{count} rule{'' if count == 1 else 's'} imported, {left} not imported"]
    lines += [f"  not imported: {item.what}\n    {item.reason}" for item in imported.skipped]
    lines += [f"  note: {note}" for note in imported.notes]
    if imported.missing:
        named = ", ".join(imported.missing)
        lines.append(f"  note: name the source columns of {named} in [columns] before a run")
    return "\n".join(lines)
