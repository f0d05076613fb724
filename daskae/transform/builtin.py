"""Names of the built-in functions.

``dedupe`` and ``enrich`` are not here: the one needs all rows at once, the other a file; :mod:`daskae.transform.build`
makes them.
"""

from collections.abc import Callable, Mapping

from daskae.transform.arithmetic import add, multiply, round_half_even
from daskae.transform.operations import Expressions
from daskae.transform.tables import derive, drop, fill_null, keep_where, rename
from daskae.transform.texts import (
    collapse_blanks,
    date_format,
    lower,
    map_values,
    replace,
    standardize_email,
    title,
    trim,
    upper,
)

BUILDERS: Mapping[str, Callable[..., Expressions]] = {
    "standardize_email": standardize_email,
    "trim": trim,
    "collapse_blanks": collapse_blanks,
    "lower": lower,
    "upper": upper,
    "title": title,
    "date_format": date_format,
    "replace": replace,
    "map_values": map_values,
    "multiply": multiply,
    "add": add,
    "round": round_half_even,
    "derive": derive,
    "fill_null": fill_null,
    "rename": rename,
    "drop": drop,
    "filter": keep_where,
}

DEDUPE, ENRICH = "dedupe", "enrich"
BUILT_IN = (*BUILDERS, DEDUPE, ENRICH)
"""Names that nobody may register."""
