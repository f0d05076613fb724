"""Turn what was found in another tool into settings, each rule of which has been tried."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from daskae.config import ColumnSettings, OnFailure, RuleSettings, Settings
from daskae.errors import SettingsError
from daskae.interop.columns import ColumnBook, source_columns
from daskae.interop.makers import Place, rule_parameters
from daskae.interop.records import Check, Imported, NotExpressibleError, Suite
from daskae.schema import CONTRACT_TYPES, Contract, build_contract, sql_expression
from daskae.validate.build import build_rules, require_boolean
from daskae.validate.rules import RESERVED

_TYPES: Mapping[str, pl.DataType] = {
    "text": pl.String(), "integer": pl.Int64(), "float": pl.Float64(), "datetime": pl.Datetime("us"), "date": pl.Date(),
    "boolean": pl.Boolean(),
}  # fmt: skip


def import_rules(suite: Suite, settings: Settings | None = None, on_failure: OnFailure | None = None) -> Imported:
    """Make settings of a suite's checks.

    Parameters
    ----------
    suite : Suite
    settings : Settings, optional
        Settings that the rules will go with; their columns are referred to, their rules' names left alone.
    on_failure : str, optional
        What every rule does on failure, instead of what the tool would do.
    """
    settings = settings or Settings()
    book = ColumnBook(suite, settings.columns)
    names = {*RESERVED, *(rule.name for rule in settings.rules if rule.name)}
    rules: list[dict[str, Any]] = []
    # Types are looked at last, when it is known which columns have one here for another reason.
    for check in sorted(_without_needless(suite), key=lambda check: check.kind == "type"):
        if _is_enforced(check, book):
            continue
        before = dict(book.entries)
        try:
            rule = _rule(check, book, names, on_failure)
            _try(rule, suite, book, settings)
        except (NotExpressibleError, SettingsError) as error:
            book.entries = before
            suite.skip(check.origin, _reason(error))
            continue
        names.add(rule["name"])
        rules.append(rule)
    columns = {name: _entry(name, entry) for name, entry in book.added.items()}
    _note_rejects(suite, columns)
    if any(rule["rule"] in ("row_count", "distribution") for rule in rules):
        suite.note("counts and statistics of the table are of the accepted rows here, of all rows there")
    return Imported(suite.tool, columns, book.missing, rules, suite.skipped, suite.notes)


def _without_needless(suite: Suite) -> list[Check]:
    """Leave out that a column exists where another check reads it, as then it must."""
    read = {column for check in suite.checks if check.kind != "exists" for column in check.columns}
    kept: list[Check] = []
    for check in suite.checks:
        if check.kind != "exists" or not set(check.columns) <= read:
            kept.append(check)
            read.update(check.columns)
    return kept


def _is_enforced(check: Check, book: ColumnBook) -> bool:
    """Whether ``[columns]`` says a type already, so that other cells are rejected rows."""
    given = check.arguments
    return (
        check.kind == "type"
        and check.max_share is None
        and book.enforces(check.columns[0], given["dtype"], given.get("format"))
    )


def _rule(check: Check, book: ColumnBook, taken: Collection[str], on_failure: OnFailure | None) -> dict[str, Any]:
    places = [book.place(column, check.need) for column in check.columns]
    parameters = rule_parameters(check, places)
    rule: dict[str, Any] = {"name": _name(check, places, taken), **parameters, "on_failure": check.on_failure}
    if on_failure is not None:
        rule["on_failure"] = on_failure
        if on_failure == "reject_row" and parameters["rule"] in ("row_count", "distribution"):
            rule["on_failure"] = "block_run"  # it names no row that could be rejected
    if check.severity is not None and rule["on_failure"] == check.on_failure:
        rule["severity"] = check.severity
    if check.max_share is not None:
        rule["max_share"] = check.max_share
    rule["description"] = check.description or check.origin
    return rule


def _name(check: Check, places: list[Place], taken: Collection[str]) -> str:
    given = check.name or "_".join([*(place.name for place in places), check.kind])
    base = re.sub(r"[\W_]+", "_", given).strip("_") or check.kind
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    return name


def _try(rule: dict[str, Any], suite: Suite, book: ColumnBook, settings: Settings) -> None:
    """Build a rule as a run would, so that what is written is accepted."""
    contract = _contract(suite, book, settings)
    types = {**_TYPES, "decimal": pl.Decimal(38, contract.scale)}
    sample = pl.DataFrame(schema={column.name: types[column.dtype] for column in contract.columns})
    available = source_columns(suite, book.entries)
    sample = sample.with_columns(
        pl.lit(None, pl.String).alias(name) for name in available if name not in sample.columns
    )
    require_boolean(build_rules([RuleSettings(**rule)], contract, available), sample.clear())


def _contract(suite: Suite, book: ColumnBook, settings: Settings) -> Contract:
    """Build the contract of the settings as they will be; required columns that are still to be named are made up."""
    entries = {**book.entries, **{name: ColumnSettings(column=name) for name in book.missing}}
    available = [*source_columns(suite, book.entries), *book.missing]
    for name, entry in entries.items():
        expression = entry if isinstance(entry, str) else entry.expression
        if expression is not None and expression not in suite.types:
            available += _columns_of(expression, name)
    return build_contract(entries, list(dict.fromkeys(available)), scale=settings.money.scale)


def _columns_of(text: str, name: str) -> list[str]:
    """Return the source columns of an entry, which may be a name that is no expression."""
    try:
        return sql_expression(text, f"columns.{name}").meta.root_names()
    except SettingsError:
        return [text]


def _entry(name: str, entry: str | ColumnSettings) -> str | dict[str, Any]:
    """Write an entry of ``[columns]`` as short as it can be."""
    if isinstance(entry, str):
        return entry if entry.isidentifier() else {"column": entry}
    fixed = {"dtype"} if name in CONTRACT_TYPES else set()
    fixed |= set() if entry.personal else {"personal"}
    return entry.model_dump(exclude_none=True, exclude=fixed)


def _note_rejects(suite: Suite, columns: Mapping[str, Any]) -> None:
    typed = [
        name for name, entry in columns.items() if isinstance(entry, dict) and entry.get("dtype", "text") != "text"
    ]
    if typed:
        suite.note(f"cells that cannot be read as the type given in [columns] are rejected rows: {', '.join(typed)}")


def _reason(error: NotExpressibleError | SettingsError) -> str:
    if isinstance(error, SettingsError):
        return ": ".join(part for part in (error.what, error.got, error.hint) if part)
    return str(error)
