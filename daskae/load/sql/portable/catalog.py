"""What SQLAlchemy finds out about the tables of a database, and which of their columns will do."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.sql.dialect import STAGE_PREFIX, Existing, FoundColumn

Kind = sa.types.TypeEngine[Any]


class Catalog:
    """Looks tables up, and remembers the types behind the texts that it shows."""

    def __init__(self, compiler: sa.Dialect) -> None:
        self._compiler = compiler
        self._types: dict[str, Kind] = {}

    def find_table(self, connection: sa.Connection, name: str) -> Existing | None:
        """Look a table up.

        Raises
        ------
        LoadError
            When the name belongs to a view.
        """
        inspector = sa.inspect(connection)
        quoted = sa.quoted_name(name, True)
        if name in inspector.get_view_names():
            raise LoadError("the name of an output table belongs to a view", f"view {name}", hint="rename or drop it")
        if not inspector.has_table(quoted):
            return None
        columns = tuple(map(self._column, inspector.get_columns(quoted)))
        return Existing(name, columns, referenced=name in _referred(connection))

    def find_stages(self, connection: sa.Connection) -> list[str]:
        """List the staged tables."""
        return [name for name in sa.inspect(connection).get_table_names() if name.startswith(STAGE_PREFIX)]

    def accepts(self, found: str, wanted: Kind) -> bool:
        """Tell whether a column is of the same kind, and has the room; what it does not hold exactly is refused."""
        if found == wanted.compile(self._compiler):
            return True
        theirs = self._types.get(found)
        if theirs is None or _kind(theirs) != _kind(wanted):
            return False
        ours, room = _digits(wanted), _digits(theirs)
        if isinstance(wanted, sa.Numeric) and ours and room:
            return room[1] >= ours[1] and room[0] - room[1] >= ours[0] - ours[1]
        return True

    def _column(self, found: Any) -> FoundColumn:
        try:
            text = found["type"].compile(self._compiler)
        except sa.exc.CompileError:
            text = str(found["type"])
        self._types[text] = found["type"]
        automatic = found.get("autoincrement") is True or found.get("identity") is not None
        required = not found["nullable"] and found.get("default") is None and not automatic
        return FoundColumn(found["name"], text, required, found.get("computed") is not None)


def _referred(connection: sa.Connection) -> Collection[str]:
    """Name the tables that foreign keys refer to, as far as the dialect can tell; looked up once, as it takes time."""
    if "referred" not in connection.info:
        try:
            every = sa.inspect(connection).get_multi_foreign_keys()
        except NotImplementedError:
            every = {}
        connection.info["referred"] = {key["referred_table"] for keys in every.values() for key in keys}
    found: Collection[str] = connection.info["referred"]
    return found


def _digits(type_: Kind) -> tuple[int, int] | None:
    digits, scale = getattr(type_, "precision", None), getattr(type_, "scale", None)
    return None if digits is None or scale is None else (digits, scale)


def _kind(type_: Kind) -> str:
    """Name the kind of a type: databases keep booleans as numbers, and days as times."""
    kinds: dict[str, tuple[type[Any], ...]] = {
        "text": (sa.types.String,),
        "whole": (sa.types.Integer, sa.types.Boolean),
        "float": (sa.types.Float,),
        "exact": (sa.types.Numeric,),
        "time": (sa.types.DateTime, sa.types.Date),
    }
    return next((name for name, types in kinds.items() if isinstance(type_, types)), "other")
