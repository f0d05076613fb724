"""A settings file that fits the data it was made from: columns for the contract, and rules of which each passes.

A rule is suggested only where the profile proves it; what an estimate merely makes likely stays a comment.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daskae.profile import toml
from daskae.profile.finish import ColumnProfile
from daskae.profile.mapping import Mapped, map_columns
from daskae.profile.shapes import ISO_DAY, ISO_TIME, LONG, pattern_of
from daskae.schema import CONTRACT_TYPES, ISO_FORMATS, REQUIRED

MOST_VALUES = 20
"""A column of at most so many different values is taken for a list of them."""
MOST_SHAPES = 4
_REPEATS = 5
"""How often each value, or shape, must occur on average to be taken for one of a list."""
_LONGEST_CHOICE = 40
"""Characters; a longer text is no value of a list."""
_MOST_MISSING = 0.5
"""Share of missing values above which no completeness is asked for."""

Rule = dict[str, Any]


@dataclass(frozen=True)
class Suggestion:
    """The settings suggested."""

    mapped: Mapped
    columns: dict[str, str | dict[str, Any]]
    """The table ``[columns]``."""
    rules: tuple[Rule, ...]
    text: str
    """The file."""


@dataclass(frozen=True)
class _Target:
    """A contract column and the source column it is read from."""

    name: str
    dtype: str
    item: ColumnProfile

    @property
    def readable(self) -> tuple[int, str, str]:
        """How many values can be read as the type, and their ends."""
        kind = "date" if self.dtype in ("date", "datetime") else self.dtype
        if kind in ("text", "boolean"):
            return (self.item.values if kind == "text" else self.item.readable), "", ""
        return self.item.readings.get(kind, (0, "", ""))


def suggest_settings(
    profiles: Sequence[ColumnProfile], given: Mapping[str, Mapping[str, Any]], source: str = ""
) -> Suggestion:
    """Suggest settings.

    Parameters
    ----------
    profiles : sequence of ColumnProfile
        Columns that every source has.
    given : mapping
        Tables of the settings under which the profile was made, such as ``input``; repeated in the file.
    source : str
        Where the data is, for the first line of the file.
    """
    mapped = map_columns(profiles)
    by_name = {item.name: item for item in profiles}
    targets = [_Target(name, CONTRACT_TYPES[name], by_name[column]) for name, column in mapped.columns.items()]
    taken = {*CONTRACT_TYPES, *mapped.columns.values()}
    for item in profiles:
        if item.name not in mapped.columns.values() and item.values and not _is_special(item.name):
            targets.append(_Target(_free_name(item.name, taken), _free_type(item), item))
            taken.add(targets[-1].name)
    targets.sort(key=lambda target: [*CONTRACT_TYPES, target.name].index(target.name))
    rules = {target.name: _rules(target) for target in targets}
    used = [target for target in targets if target.name in CONTRACT_TYPES or rules[target.name]]
    columns: dict[str, str | dict[str, Any]] = {target.name: _column(target) for target in used}
    columns.update(mapped.expressions)
    columns = {name: columns[name] for name in [*CONTRACT_TYPES, *columns] if name in columns}
    flat = tuple(rule for target in used for rule in rules[target.name])
    parts = [
        _head(source),
        *(_table(name, table) for name, table in given.items() if table),
        _columns_text(mapped, columns, targets, by_name),
        _rules_text(flat, targets),
    ]
    return Suggestion(mapped, columns, flat, "\n".join(parts))


def _is_special(name: str) -> bool:
    """Whether Polars would take a name for a pattern of names."""
    return re.fullmatch(r"\^.*\$|\*", name, re.DOTALL) is not None


def _free_name(name: str, taken: set[str]) -> str:
    """Name a free column as its source, unless the contract has the name or it begins as our own columns do."""
    free = name if name and not name.startswith("_") else f"column{name}"
    while free in taken:
        free += "_source"
    return free


def _free_type(item: ColumnProfile) -> str:
    """Read a free column as what it is where that costs no row; numbers that are names stay text."""
    if not item.is_clean or item.type == "text" or item.ambiguous:
        return "text"
    if item.leading_zeros or (item.type == "integer" and _is_name(item)):
        return "text"
    return item.type


def _is_name(item: ColumnProfile) -> bool:
    """Whether a column names things: by its own name, which ends in id, number, key ..."""
    words = re.sub(r"([a-z])([A-Z])", r"\1_\2", item.name).lower()
    return re.search(r"(^|[^a-z])(id|no|nr|number|key|code|uuid|guid|sku|email)$", words) is not None


def _column(target: _Target) -> str | dict[str, Any]:
    """Write one entry of ``[columns]``."""
    entry: dict[str, Any] = {"column": target.item.name}
    if target.name not in CONTRACT_TYPES:
        entry["dtype"] = target.dtype
    if target.dtype in ("date", "datetime"):
        formats = _formats(target.item)
        if formats:
            entry["format"] = formats[0] if len(formats) == 1 else formats
    return target.item.name if entry == {"column": target.item.name} else entry


def _formats(item: ColumnProfile) -> list[str]:
    """Return the formats to give; none where those that need none do."""
    if all(name in (ISO_DAY, ISO_TIME) for name in item.formats):
        return []
    listed = [part for name in item.formats for part in (ISO_FORMATS if name == ISO_TIME else (name,))]
    return list(dict.fromkeys(listed))


def _rules(target: _Target) -> list[Rule]:
    """Return the rules that hold for a column."""
    found = [*_completeness(target), *_range(target)]
    if target.dtype == "text":
        found += _text_rules(target)
    return [{"rule": rule.pop("rule"), "column": target.name, **rule} for rule in found]


def _completeness(target: _Target) -> list[Rule]:
    """Ask for values in every row, or in as many as there are."""
    item = target.item
    missing = item.rows - target.readable[0]
    if not missing:
        # The contract itself asks for its required columns.
        return [] if target.name in REQUIRED else [{"rule": "not_null", "on_failure": "warn"}]
    share = missing / item.rows
    if share > _MOST_MISSING:
        return []
    allowed = (int(100 * share) + 1) / 100
    return [{"rule": "completeness", "max_share": allowed, "on_failure": "warn"}]


def _range(target: _Target) -> list[Rule]:
    count, low, high = target.readable
    item = target.item
    if not low or (count < item.values and (item.long or target.dtype in ("date", "datetime"))):
        return []  # a value that the profile could not read may still be read, and lie outside
    if target.dtype in ("date", "datetime"):
        return [] if item.ambiguous else [{"rule": "range", "min": low, "on_failure": "warn"}]
    ends = {"min": _number(low), "max": _number(high)}
    return [{"rule": "range", **ends, "on_failure": "warn"}]


def _number(text: str) -> int | str:
    """Write whole numbers plainly and others as text, which keeps every digit."""
    return int(text) if re.fullmatch(r"-?\d{1,15}", text) else text


def _text_rules(target: _Target) -> list[Rule]:
    item = target.item
    is_id = target.name in ("order_id", "customer_id")
    found: list[Rule] = []
    if item.is_unique and target.name != "customer_id" and (is_id or _is_name(item)):
        found.append({"rule": "unique", "on_failure": "reject_row"})
    if item.blanks and not is_id:
        return found
    few = item.top_is_exact and item.distinct_is_exact and item.distinct <= MOST_VALUES
    if few and not is_id and item.values >= _REPEATS * item.distinct and item.length[2] <= _LONGEST_CHOICE:
        values = sorted(entry["value"] for entry in item.top)
        found.append({"rule": "allowed_values", "values": values, "on_failure": "warn"})
    elif item.emails == item.values:
        found.append({"rule": "pattern", "pattern": "email", "on_failure": "warn"})
    elif _has_few_shapes(item):
        forms = [pattern_of(entry["value"]) for entry in item.shapes]
        pattern = f"^{forms[0]}$" if len(forms) == 1 else f"^({'|'.join(forms)})$"
        found.append({"rule": "pattern", "pattern": pattern, "on_failure": "warn"})
    return found


def _has_few_shapes(item: ColumnProfile) -> bool:
    shapes = [entry["value"] for entry in item.shapes]
    enough = item.values >= _REPEATS * len(shapes) and item.distinct > len(shapes)
    return enough and item.shapes_are_exact and len(shapes) <= MOST_SHAPES and LONG not in shapes


def _head(source: str) -> str:
    made = f"Suggested from {source}." if source else "Suggested from a profile."
    return toml.comment(
        f"{made}\nEvery rule here holds for the data it was made from, and only warns unless it says otherwise: set\n"
        "on_failure to reject_row or block_run where a row, or the run, should stop at it."
    ) + "\n"  # fmt: skip


def _table(name: str, table: Mapping[str, Any]) -> str:
    lines = [f"{toml.key(key)} = {toml.value(value)}" for key, value in table.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _columns_text(
    mapped: Mapped,
    columns: Mapping[str, str | dict[str, Any]],
    targets: Sequence[_Target],
    by_name: Mapping[str, ColumnProfile],
) -> str:
    lines = ["[columns]"]
    for name, candidates in mapped.candidates.items():
        listed = ", ".join(toml.quoted(item) for item in candidates) or "none found"
        lines += [toml.comment(f"{name} is required, and no column could be told to be it. Candidates: {listed}")]
        lines += [toml.comment(f"{name} = {toml.quoted(candidates[0] if candidates else '...')}")]
    for name, entry in columns.items():
        lines += [toml.comment(note) for note in _notes(name, by_name.get(mapped.columns.get(name, "")))]
        lines.append(f"{toml.key(name)} = {toml.value(entry)}")
    unused = [target for target in targets if target.name not in columns]
    if unused:
        lines.append(toml.comment("no rule was found for these; take one in by removing its mark"))
        lines += [toml.comment(f"{toml.key(t.name)} = {toml.value(_column(t))}") for t in unused]
    return "\n".join([*lines, ""])


def _notes(name: str, item: ColumnProfile | None) -> list[str]:
    """Say what a person should look at before the mapping is used."""
    if item is None:
        return []
    notes = []
    dtype = CONTRACT_TYPES.get(name, "")
    count = _Target(name, dtype, item).readable[0]
    if count < item.values:
        notes.append(f"{item.values - count:,} of {item.values:,} values cannot be read; their rows will be rejected")
    if dtype == "decimal" and count < item.values and item.scale > 0:
        notes.append(f"they have up to {item.scale} digits after the point; [money] scale says how many are read")
    if name in REQUIRED and item.missing:
        notes.append(f"{item.missing:,} of {item.rows:,} rows have none and will be rejected")
    if dtype == "datetime" and item.ambiguous:
        notes.append("day and month could be the other way round: no value tells, so look at the format")
    if name == "customer_id" and all(entry["value"].endswith(".9") for entry in item.shapes) and item.type == "decimal":
        sql = f"REPLACE({item.name}, '.0', '')"
        notes.append(f"the ids are written as decimals; an expression such as {toml.quoted(sql)} would drop the .0")
    return notes


def _rules_text(rules: Sequence[Rule], targets: Sequence[_Target]) -> str:
    blocks = []
    for rule in rules:
        lines = [f"{key} = {toml.value(item)}" for key, item in rule.items()]
        blocks.append("\n".join(["[[rules]]", *lines, ""]))
    for target in targets:
        item = target.item
        likely = not item.distinct_is_exact and abs(item.distinct / item.values - 1) < 0.05
        if likely and (target.name == "order_id" or (target.name != "customer_id" and _is_name(item))):
            name = toml.quoted(target.name)
            text = f'{name} may be unique; the profile only estimates it.\n[[rules]]\nrule = "unique"\ncolumn = {name}'
            blocks.append(toml.comment(text) + "\n")
    return "\n".join(blocks)
