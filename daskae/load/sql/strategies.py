"""The four strategies as statements from a staged table to its target; nothing here talks to a database.

The keys of the staged rows are unique when these statements run, and nobody else writes to the target meanwhile. So an
upsert is an UPDATE of the rows that differ and an INSERT of those that are not there: the same on every database, with
exact counts, and rows that are equal stay untouched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from daskae.load import keys
from daskae.load.base import FLAG_COLUMNS, Load, LoadOptions
from daskae.load.sql.dialect import POSITION

_ACTIVE, _SINCE = FLAG_COLUMNS
_EMPTY: dict[type[sa.types.TypeEngine[Any]], Any] = {sa.types.String: "", sa.types.Numeric: 0, sa.types.Integer: 0}


@dataclass(frozen=True)
class Pair:
    """A staged table and its target."""

    target: sa.Table
    stage: sa.Table
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    """Columns of the batch that the target takes."""
    marks: Mapping[str, sa.ColumnElement[Any]]
    """Metadata columns with their values, for every row that is written."""
    collation: str
    load: Load
    flags: bool
    """Whether the target marks rows that left the source."""
    referenced: bool = False
    """Whether rows of other tables refer to those of the target."""
    update_from: bool = True
    """Whether the database knows UPDATE over two tables and IS DISTINCT FROM."""

    @property
    def options(self) -> LoadOptions:
        """What the keys mean, and what may be touched."""
        return self.load.options


def delete_all(pair: Pair) -> sa.Executable:
    """Empty the target; unlike TRUNCATE this leaves readers the rows that they see."""
    return sa.delete(pair.target)


def delete_load(pair: Pair) -> sa.Executable:
    """Take out the rows that an earlier publish of this very load brought."""
    return sa.delete(pair.target).where(of_load(pair))


def insert_all(pair: Pair, sort: bool = False) -> sa.Executable:
    """Add all staged rows; sorted by key where an index on it is there already, which then takes half the time."""
    return _insert(pair, [], sort)


def insert_missing(pair: Pair, sort: bool = False) -> sa.Executable:
    """Add the staged rows whose keys the target does not hold."""
    return _insert(pair, [~_exists(pair.target, pair)], sort)


def update_changed(pair: Pair) -> sa.Executable | None:
    """Change the rows of the target that differ from the staged row of their key; None when no column may change."""
    columns = changing_columns(pair)
    if not columns and not pair.flags:
        return None
    target, stage = pair.target, pair.stage
    differs = [_differs(target.c[name], stage.c[name], pair) for name in columns]
    values: dict[Any, Any] = {target.c[name]: stage.c[name] for name in columns}
    if pair.flags:
        differs.append(_differs(target.c[_ACTIVE], sa.true(), pair))
    conditions = [match_keys(pair), sa.or_(*differs)]
    if newer := _newer_column(pair):
        older = sa.or_(_ordered(stage.c[newer], pair) > _ordered(target.c[newer], pair), target.c[newer].is_(None))
        conditions.append(sa.and_(older, stage.c[newer].is_not(None)))
    return _update(pair, values | _written(pair), conditions)


def update_all(pair: Pair) -> sa.Executable:
    """Make the rows of the target whose keys are staged equal to the staged ones."""
    target, stage = pair.target, pair.stage
    values: dict[Any, Any] = {target.c[name]: stage.c[name] for name in pair.columns if name not in pair.keys}
    return _update(pair, values | _written(pair), [match_keys(pair)])


def reactivate(pair: Pair) -> sa.Executable | None:
    """Mark rows as active that are in the batch again, where :func:`update_changed` left them alone."""
    if not pair.flags or not _newer_column(pair):
        return None
    active = pair.target.c[_ACTIVE]
    return _update(pair, _written(pair), [match_keys(pair), _differs(active, sa.true(), pair)])


def delete_missing(pair: Pair) -> sa.Executable:
    """Take out the rows whose keys are not staged."""
    return sa.delete(pair.target).where(~_exists(pair.stage, pair))


def flag_missing(pair: Pair, moment: sa.ColumnElement[Any]) -> sa.Executable:
    """Mark the rows whose keys are not staged, once."""
    target = pair.target
    values = {**{target.c[name]: value for name, value in pair.marks.items()}, target.c[_ACTIVE]: sa.false()}
    still = _differs(target.c[_ACTIVE], sa.false(), pair)
    return sa.update(target).values({**values, target.c[_SINCE]: moment}).where(still, ~_exists(pair.stage, pair))


def count_absent(pair: Pair) -> sa.Select[Any]:
    """Count the staged rows whose keys the target does not hold; for an append, among the rows of this load."""
    appended = [of_load(pair)] if pair.load.strategy == "append" else []
    absent = ~_exists(pair.target, pair, *appended)
    return sa.select(sa.func.count()).select_from(pair.stage).where(absent)


def losing_rows(stage: sa.Table, keys: tuple[str, ...], options: LoadOptions, collation: str) -> sa.Select[Any]:
    """Select the places of the staged rows that lose against another row of their key."""
    place = stage.c[POSITION]
    order: list[Any] = [place] if options.duplicates == "first" else [place.desc()]
    if options.duplicates not in ("first", "last"):
        column = stage.c[options.duplicates]
        order[:0] = [sa.case((column.is_(None), 1), else_=0), collated(column, collation).desc()]
    rank = sa.func.row_number().over(partition_by=[stage.c[key] for key in keys], order_by=order)
    ranked = sa.select(place, rank.label("rank")).subquery()
    return sa.select(ranked.c[POSITION]).where(ranked.c.rank > 1)


def repeated_keys(table: sa.Table, keys: tuple[str, ...], limit: int) -> sa.Select[*tuple[Any, ...]]:
    """Select the first few keys that more than one row has, as texts."""
    columns = [table.c[key] for key in keys]
    texts = [sa.cast(column, sa.Text) for column in columns]
    return sa.select(*texts).group_by(*columns).having(sa.func.count() > 1).order_by(*columns).limit(limit)


def match_keys(pair: Pair) -> sa.ColumnElement[bool]:
    """Say that a row of the target and a staged row have the same key."""
    return sa.and_(*(_equal(pair.target.c[key], pair.stage.c[key], pair) for key in pair.keys))


def changing_columns(pair: Pair) -> tuple[str, ...]:
    """Name the columns that an upsert or a merge may change in existing rows."""
    return keys.changing_columns(pair.columns, pair.keys, pair.options)


def of_load(pair: Pair) -> sa.ColumnElement[bool]:
    """Say that a row of the target came with this load; where rows do not tell, all are taken for it."""
    name = pair.load.metadata.load_id
    return pair.target.c[name] == pair.load.load_id if name is not None else sa.true()


def _insert(pair: Pair, conditions: list[sa.ColumnElement[bool]], sort: bool) -> sa.Executable:
    staged = [pair.stage.c[name] for name in pair.columns]
    marks = [value.label(name) for name, value in pair.marks.items()]
    query = sa.select(*staged, *marks).where(*conditions)
    if sort:
        query = query.order_by(*(pair.stage.c[key] for key in pair.keys))
    return sa.insert(pair.target).from_select([*pair.columns, *pair.marks], query, include_defaults=False)


def _written(pair: Pair) -> dict[Any, Any]:
    """Values that every changed row gets beside its own."""
    values: dict[Any, Any] = {pair.target.c[name]: value for name, value in pair.marks.items()}
    if pair.flags:
        values |= {pair.target.c[_ACTIVE]: sa.true(), pair.target.c[_SINCE]: sa.null()}
    return values


def _exists(table: sa.Table, pair: Pair, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    other = pair.target if table is pair.stage else pair.stage
    return sa.select(1).select_from(table).where(match_keys(pair), *conditions).correlate(other).exists()


def _update(pair: Pair, values: dict[Any, Any], conditions: list[sa.ColumnElement[bool]]) -> sa.Executable:
    """Write values of a staged row into the row of the target that the conditions join with it."""
    if pair.update_from:
        return sa.update(pair.target).values(values).where(*conditions)
    from_stage = {
        column: sa.select(value).where(match_keys(pair)).correlate(pair.target).scalar_subquery()
        for column, value in values.items()
        if isinstance(value, sa.Column)
    }
    found = sa.select(1).select_from(pair.stage).where(*conditions).correlate(pair.target).exists()
    return sa.update(pair.target).values(values | from_stage).where(found)


def _differs(left: sa.ColumnElement[Any], right: sa.ColumnElement[Any], pair: Pair) -> sa.ColumnElement[bool]:
    if pair.update_from:
        return left.is_distinct_from(right)
    if not isinstance(right, sa.Column):
        return sa.or_(left != right, left.is_(None))
    one_is_null = sa.or_(sa.and_(left.is_(None), right.is_not(None)), sa.and_(left.is_not(None), right.is_(None)))
    return sa.or_(left != right, one_is_null)


def _equal(left: sa.Column[Any], right: sa.Column[Any], pair: Pair) -> sa.ColumnElement[bool]:
    if pair.options.null_keys != "match":
        return left == right
    if not pair.update_from:
        return sa.or_(left == right, sa.and_(left.is_(None), right.is_(None)))
    same = left.is_not_distinct_from(right)
    # No database can hash "is not distinct from"; a plain equality that is true whenever that is lets it.
    for kind, empty in _EMPTY.items():
        if isinstance(left.type, kind):
            return sa.and_(sa.func.coalesce(left, empty) == sa.func.coalesce(right, empty), same)
    return same


def _newer_column(pair: Pair) -> str:
    return pair.options.only_if_newer if pair.options.only_if_newer in pair.columns else ""


def _ordered(column: sa.Column[Any], pair: Pair) -> sa.ColumnElement[Any]:
    return collated(column, pair.collation)


def collated(column: sa.Column[Any], collation: str) -> sa.ColumnElement[Any]:
    """Return a column that compares texts by their code points."""
    return sa.collate(column, collation) if collation and isinstance(column.type, sa.types.String) else column
