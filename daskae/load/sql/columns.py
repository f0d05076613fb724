"""Arrow columns in the plain forms that every database is sent."""

import pyarrow as pa
import pyarrow.compute as pc

from daskae.errors import LoadError


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values behind a dictionary, times in microseconds."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else kind


def plain_columns(batch: pa.RecordBatch, table: str) -> list[pa.Array]:
    """Return the columns of a batch without dictionaries, times in microseconds.

    Raises
    ------
    LoadError
        When a time is finer than that.
    """
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            columns.append(column.cast(plain_type(field.type)))
        except pa.ArrowInvalid as error:
            place = f"table {table}, column {field.name}"
            raise LoadError("a time is finer than a microsecond", place, str(error)) from error
    return columns


def require_finite(column: pa.Array, place: str) -> None:
    """Refuse NaN and infinities, which many databases have no place for.

    Raises
    ------
    LoadError
        Naming the first of them.
    """
    finite = pc.is_finite(column)
    if pc.all(finite).as_py() is False:
        got = str(column.filter(pc.invert(finite))[0].as_py())
        raise LoadError("a number is not finite", where=place, got=got, allowed="a finite number or a null")
