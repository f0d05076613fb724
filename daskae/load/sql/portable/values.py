"""How Arrow values are stored where only SQLAlchemy knows the database: in generic types, and proven to be the same.

Databases round, cut and pad in their own ways: a time to milliseconds, an empty text to a null, a decimal to a double.
So every batch is read back and compared, and a value that is not stored as it is makes the load fail.
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from daskae.errors import LoadError
from daskae.load.sql.columns import TypeNames

KEY_LENGTH = 255
_DIGITS = 38


def sql_type(field: pa.Field, table: str, indexed: bool, decimals: bool) -> sa.types.TypeEngine[Any]:
    """Return the declared type of a column; ``decimals`` says whether the driver has decimals.

    Raises
    ------
    LoadError
        When there is no place for the type.
    """
    text = sa.Unicode(KEY_LENGTH) if indexed else sa.UnicodeText()
    numeric = partial(sa.Numeric, asdecimal=decimals)
    names = TypeNames(
        "the portable path", text, sa.Double(), sa.DateTime(), sa.Boolean(), sa.BigInteger(), sa.Date(), numeric
    )
    return names.declared(field, table)


def require_same(schema: pa.Schema, table: str, sent: Sequence[tuple[Any, ...]], found: Sequence[Any]) -> None:
    """Compare the rows that were sent with those that are stored, in order.

    Raises
    ------
    LoadError
        Naming the first value that is another one.
    """
    if len(sent) != len(found):
        raise LoadError("the database does not hold the rows that were sent", f"table {table}", f"{len(found)} rows",
            f"{len(sent)} rows")  # fmt: skip
    for ours, theirs in zip(sent, found, strict=True):
        for name, one, other in zip(schema.names, ours, theirs, strict=True):
            if not _same(one, other):
                raise LoadError(
                    "the database does not store a value as it is",
                    where=f"table {table}, column {name}",
                    got=repr(other),
                    allowed=repr(one),
                    hint="write to Parquet, or to SQLite, PostgreSQL, MariaDB or DuckDB",
                )


def _same(sent: Any, found: Any) -> bool:
    if sent is None or found is None:
        return sent is found
    if isinstance(sent, bool):
        return bool(found) == sent
    if isinstance(sent, float):
        return repr(float(found)) == repr(sent)
    if isinstance(sent, Decimal | int):
        return Decimal(repr(found) if isinstance(found, float) else found) == sent
    return bool(found == sent)
