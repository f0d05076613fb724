"""A profile on the terminal: a short block for each column, then what was suggested."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from daskae.report.words import percent, visible
from daskae.units import format_bytes, format_count

_LONGEST = 28
_SHOWN = 4
_LEAST_SHARE = 0.001
"""A list is shown if its first entry has more than this share of the values."""
_ODDITIES = {
    "emails": "e-mail addresses",
    "leading_zeros": "with leading zeros",
    "edge_blanks": "with blanks at an end",
}


def render_profile(document: Mapping[str, Any], *, color: bool, width: int) -> str:
    """Return a profile as lines of text.

    Parameters
    ----------
    document : mapping
        As ``profile.json`` holds it.
    color : bool
        Use colours and bold; the words are the same without.
    width : int
        Columns of the terminal; lists of values are cut there, other lines wrapped.
    """
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=color, color_system="standard" if color else None, no_color=not color,
        width=max(width, 40), legacy_windows=False,
    )  # fmt: skip
    for line in [*_head(document), *_columns(document["columns"]), *_suggested(document)]:
        console.print(line, highlight=False, markup=False, emoji=False)
    return out.getvalue()


def _head(document: Mapping[str, Any]) -> list[Text]:
    files = document["files"]
    size = f"{format_count(files)} {'file' if files == 1 else 'files'}, {format_bytes(document['input_bytes'])}"
    lines = [Text().append(f"{format_count(document['rows'])} rows", "bold").append(f" in {size}")]
    for reason, count in document["broken"].items():
        lines.append(Text(f"  {format_count(count)} broken: {visible(reason)}", "yellow"))
    lines += [Text(f"  {visible(hint)}", "yellow") for hint in document["hints"]]
    return lines


def _columns(columns: Sequence[Mapping[str, Any]]) -> list[Text]:
    lines = []
    for item in columns:
        title = Text("\n").append(visible(item["name"], 60), "bold cyan").append(f"  {_kind(item)}")
        facts = [Text(f"  {text}", no_wrap=True, overflow="ellipsis") for text in _facts(item)]
        lines += [title, *facts]
    return lines


def _kind(item: Mapping[str, Any]) -> str:
    kind = str(item["type"])
    if item["type"] in ("date", "datetime") and item["formats"]:
        kind += f" ({' or '.join(item['formats'])}{', day and month may be swapped' if item['ambiguous'] else ''})"
    stored = [name for name in item["stored"] if name != "text"]
    return kind + (f", stored as {', '.join(stored)}" if stored else "")


def _facts(item: Mapping[str, Any]) -> list[str]:
    """Say what is worth saying of a column, a line a subject."""
    values = item["values"]
    if not values:
        return ["no values"]
    about = "" if item["distinct_is_exact"] else "about "
    facts = [f"{about}{format_count(item['distinct'])} different in {format_count(values)} values"]
    missing = item["nulls"] + item["blanks"]
    facts.append(f"{percent(missing, item['rows'])} missing" if missing else "none missing")
    if item["readable"] < values:
        facts.append(f"{format_count(values - item['readable'])} are no {item['type']}")
    lines = [", ".join(facts), _range(item), _quantiles(item), _lengths(item)]
    lines += [_listed("top", item["top"], values, item["top_is_exact"])]
    lines += [_listed("shapes", item["shapes"], values, item["shapes_are_exact"])]
    lines += [_oddities(item)]
    return [line for line in lines if line]


def _range(item: Mapping[str, Any]) -> str:
    if item["minimum"] is None:
        return ""
    mean = f", mean {item['mean']:,.6g}" if item["mean"] is not None else ""
    return f"from {item['minimum']} to {item['maximum']}{mean}"


def _quantiles(item: Mapping[str, Any]) -> str:
    found = [f"{100 * float(q):g} % {value:,.6g}" for q, value in item["quantiles"].items()]
    return "quantiles  " + "   ".join(found) if found else ""


def _lengths(item: Mapping[str, Any]) -> str:
    low, mean, high = item["length"]
    if item["type"] not in ("text", "integer"):
        return ""
    if low < high:
        return f"{low} to {high} characters, mean {mean:.1f}"
    return "1 character" if low == 1 else f"{low} characters"


def _listed(label: str, entries: Sequence[Mapping[str, Any]], values: int, exact: bool) -> str:
    """List the first values with their shares; nothing where none stands out."""
    if not entries or entries[0]["count"] <= max(1, _LEAST_SHARE * values):
        return ""
    texts = [f"{visible(entry['value'], _LONGEST)!s} {percent(entry['count'], values)}" for entry in entries[:_SHOWN]]
    return f"{label}{'' if exact else ' (at least)'}  " + "   ".join(texts)


def _oddities(item: Mapping[str, Any]) -> str:
    found = [f"{format_count(item[key])} {name}" for key, name in _ODDITIES.items() if item[key]]
    return ", ".join(found)


def _suggested(document: Mapping[str, Any]) -> list[Text]:
    found = document["suggested"]
    lines = [Text("\nSuggested settings", "bold cyan")]
    for name, entry in found["columns"].items():
        source = entry if isinstance(entry, str) else entry["column"]
        lines.append(Text(f"  {visible(name)} <- {visible(source)}"))
    rules = len(found["rules"])
    lines.append(Text(f"  {rules} {'rule, which holds' if rules == 1 else 'rules, each of which holds'} for this data"))
    for name, candidates in found["missing"].items():
        listed = ", ".join(visible(item) for item in candidates) or "none found"
        text = f"  no column could be told to be {name}, which is required; candidates: {listed}"
        lines.append(Text(text, "bold red"))
    return lines
