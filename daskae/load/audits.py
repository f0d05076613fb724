"""Checks over the rows that are about to be published, run in the very transaction that publishes them."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from daskae.errors import SettingsError

_PLACE = re.compile(r"\{(staged|target)(?:\.([^{}]+))?\}")

Expect = Literal["no_rows", "true"]


@dataclass(frozen=True)
class LoadCheck:
    """A condition on the staged rows and the target, as SQL or as a function.

    ``{staged}`` and ``{target}`` in ``sql`` stand for the two tables of ``table``; ``{staged.NAME}`` and
    ``{target.NAME}`` for those of another output table. They are replaced by quoted names.
    """

    name: str
    sql: str = ""
    """One query."""
    function: Callable[[Any, Any], Any] | None = None
    """Called with an open SQLAlchemy connection, which it must neither commit nor roll back, and the tables by name,
    each with ``staged`` and ``target`` as ``sqlalchemy.Table``. It returns True or None when all is well, else False or
    a text that says what is wrong. What it writes is undone. Targets without savepoints, such as files, take none."""
    table: str = ""
    """Output table that ``{staged}`` and ``{target}`` mean; may be left out where a load has one table only."""
    expect: Expect = "no_rows"
    """``no_rows``: every row that the query returns is a fault. ``true``: it returns a single true."""
    on_failure: Literal["block", "warn"] = "block"
    """``block`` refuses the publish, ``warn`` publishes and says so."""
    at: Literal["before", "after"] = "before"
    """Whether it sees the target before or after the strategy was applied."""

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield each place of the query: ``staged`` or ``target``, and the name of the output table."""
        for found in _PLACE.finditer(self.sql):
            yield found[1], found[2] or self.table

    def filled(self, name: Callable[[str, str], str]) -> str:
        """Return the query with quoted names in its places."""
        return _PLACE.sub(lambda found: name(found[1], found[2] or self.table), self.sql).strip().rstrip(";")


@dataclass(frozen=True)
class Verdict:
    """How a check went."""

    check: LoadCheck
    message: str
    """What is wrong; empty when nothing is."""
    rows: int = 0
    """Rows that the query returned, where each is a fault."""

    @property
    def said(self) -> str:
        """The message with the name of the check; empty when nothing is wrong."""
        return f"{self.check.name}: {self.message}" if self.message else ""


def resolve_checks(checks: Sequence[LoadCheck], tables: Collection[str]) -> tuple[LoadCheck, ...]:
    """Check that checks can be run on tables of these names, and give each its table.

    Raises
    ------
    SettingsError
        Naming the check.
    """
    for name, count in Counter(check.name for check in checks).items():
        if count > 1:
            raise SettingsError("two checks have one name", "[[load.checks]]", repr(name))
    return tuple(_resolved(check, tables) for check in checks)


def _resolved(check: LoadCheck, tables: Collection[str]) -> LoadCheck:
    where = f"[[load.checks]] {check.name}"
    if not check.name.strip():
        raise SettingsError("a check needs a name", where)
    if bool(check.sql.strip()) == (check.function is not None):
        raise SettingsError("a check is one query or one function", where, allowed="sql, or in Python a function")
    known = ", ".join(tables)
    if check.table and check.table not in tables:
        raise SettingsError("no such output table", f"{where}, table", repr(check.table), known)
    if check.function is not None:
        return check
    only = next(iter(tables)) if len(tables) == 1 else ""
    found = LoadCheck(**{**vars(check), "table": check.table or only})
    places = list(found.places())
    if not places:
        allowed = "a query with {staged} or {target} in it"
        raise SettingsError("a check looks at no table of the load", f"{where}, sql", check.sql[:120], allowed)
    for place, name in places:
        if not name:
            hint = f'set table = "{next(iter(tables))}", or write {{{place}.{next(iter(tables))}}}'
            raise SettingsError("it is not said which table is meant", f"{where}, sql", f"{{{place}}}", known, hint)
        if name not in tables:
            raise SettingsError("no such output table", f"{where}, sql", f"{{{place}.{name}}}", known)
    return found
