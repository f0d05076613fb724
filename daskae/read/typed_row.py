"""One row of a typed source as JSON text: its values, those that were changed, and back to the columns' types."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from daskae.errors import SettingsError


def parse_row(text: str) -> dict[str, Any]:
    """Read a row of a typed source from its text; numbers stay as they are written.

    Raises
    ------
    ValueError
        If it is not a JSON object.
    """
    row = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row


def changed_values(old: str, new: str) -> dict[str, str | None]:
    """Return the values of a corrected row that are others than in the source, as text."""
    before = parse_row(old)
    return {name: _text(value) for name, value in parse_row(new).items() if value != before.get(name, value)}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def cast_values(values: Sequence[str | None], target: pa.DataType, name: str) -> pa.Array:
    """Read texts as values of a column's type.

    Raises
    ------
    SettingsError
        If one cannot be read so without loss.
    """
    plain = target.value_type if pa.types.is_dictionary(target) else target
    is_text = pa.types.is_string(plain) or pa.types.is_large_string(plain)
    texts = pa.array(values if is_text else [value or None for value in values], pa.string())
    try:
        return texts.cast(plain)
    except (pa.ArrowException, NotImplementedError) as error:
        raise SettingsError(
            "a corrected value does not fit its column", f"column {name}", str(error)[:120], str(plain)
        ) from None
