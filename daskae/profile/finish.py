"""From states to what a person reads: one record a column."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from daskae.profile.shapes import ISO_DAY, ISO_TIME, rival_formats
from daskae.profile.state import ColumnState, TableState
from daskae.sketches import distinct, quantiles
from daskae.sketches.frequent import FrequentValues

MOSTLY = 0.9
"""Share of the values that must be readable as a type for the column to be called one of it."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SHOWN = 20
_NUMBERS = ("integer", "decimal", "float")
_DATE = "date "
_ERRORS = {
    "quantiles": f"within {quantiles.RELATIVE_ERROR:.2%} of the value of that rank, rounded to the column's digits",
    "distinct": f"exact below {distinct.KEPT_HASHES:,}, else a standard error of {distinct.RELATIVE_ERROR:.1%}",
    "top": "count is the least, count_at_most the most a value can occur",
}
_STORED = {"stored day": "date", "stored time": "datetime"}


@dataclass(frozen=True)
class ColumnProfile:
    """What a column holds."""

    name: str
    type: str
    """``text``, ``integer``, ``decimal``, ``float``, ``boolean``, ``date``, ``datetime`` or ``empty``."""
    stored: tuple[str, ...]
    """How the sources store it; ``text`` for CSV."""
    rows: int
    nulls: int
    """Cells that are null, empty or a null text."""
    blanks: int
    """Texts of blanks only."""
    values: int
    """Rows that are neither; all further figures are of them."""
    readable: int
    """Values that can be read as the type."""
    readings: dict[str, tuple[int, str, str]]
    """How many values can be read as each kind of number and as a date, and the smallest and largest of them."""
    distinct: int
    distinct_is_exact: bool
    minimum: str | None
    maximum: str | None
    """Of the values that can be read as the type: numbers and times."""
    mean: float | None
    quantiles: dict[str, float]
    scale: int
    """Most digits after the point."""
    formats: tuple[str, ...]
    """Formats of its dates, in the order to try them; ISO 8601 stands for all forms that need none."""
    ambiguous: bool
    """Whether day and month of some format could be the other way round."""
    length: tuple[int, float, int]
    """Shortest, mean and longest text, in characters."""
    top: tuple[dict[str, Any], ...]
    top_is_exact: bool
    shapes: tuple[dict[str, Any], ...]
    shapes_are_exact: bool
    emails: int
    long: int
    """Values too long to have a shape."""
    leading_zeros: int
    edge_blanks: int

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.nulls + self.blanks

    @property
    def is_clean(self) -> bool:
        """Whether all its values can be read as its type."""
        return self.readable == self.values > 0

    @property
    def is_unique(self) -> bool:
        """Whether no value is known to occur twice; exact, never an estimate."""
        return self.distinct_is_exact and self.distinct == self.values > 1

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def finish_table(state: TableState) -> dict[str, Any]:
    """Return the whole profile as one document."""
    return {
        "rows": state.rows,
        "broken": dict(sorted(state.broken.items())),
        "columns": [finish_column(name, column).to_json() for name, column in state.columns.items()],
        "errors": _ERRORS,
    }


def finish_column(name: str, state: ColumnState) -> ColumnProfile:
    """Decide what a column is and gather its figures."""
    counts = state.counts
    values = counts["rows"] - counts["nulls"] - counts["blanks"]
    formats, dated, ambiguous = _date_formats(state)
    kind, readable = _type(name, state, values, formats, dated)
    readings = _readings(state, formats, dated)
    _, low, high = readings.get("date" if kind == "datetime" else kind, (0, None, None))
    numeric = kind in _NUMBERS
    scale = int(state.ends["scale"][1]) if numeric and "scale" in state.ends else 0
    lengths = state.ends.get("length", ("0", "0"))
    return ColumnProfile(
        name=name,
        type=kind,
        stored=tuple(sorted(state.types)),
        rows=counts["rows"],
        nulls=counts["nulls"],
        blanks=counts["blanks"],
        values=values,
        readable=readable,
        distinct=state.distinct.estimate,
        distinct_is_exact=state.distinct.is_exact,
        readings=readings,
        minimum=low,
        maximum=high,
        mean=state.total.mean if numeric else None,
        quantiles=_quantiles(state, scale) if numeric else {},
        scale=scale,
        formats=formats,
        ambiguous=ambiguous,
        length=(int(lengths[0]), counts["length"] / values if values else 0.0, int(lengths[1])),
        top=_top(state.values),
        top_is_exact=state.values.is_exact,
        shapes=_top(state.shapes),
        shapes_are_exact=state.shapes.is_exact,
        emails=counts["email"],
        long=counts["long"],
        leading_zeros=counts["leading_zeros"],
        edge_blanks=counts["edge_blanks"],
    )


def _quantiles(state: ColumnState, scale: int) -> dict[str, float]:
    found = {f"{q:g}": state.numbers.quantile(q) for q in QUANTILES}
    return {q: round(value, scale) for q, value in found.items() if value is not None}


def _top(values: FrequentValues) -> tuple[dict[str, Any], ...]:
    return tuple({"value": v, "count": low, "count_at_most": high} for v, low, high in values.top(_SHOWN))


def _date_formats(state: ColumnState) -> tuple[tuple[str, ...], int, bool]:
    """Choose of formats for the same shapes the one that reads most, and count what all chosen ones read."""
    tried = {key.removeprefix(_DATE): n for key, n in state.counts.items() if key.startswith(_DATE)}
    chosen: list[str] = []
    ambiguous = False
    for date_format in tried:
        rivals = [rival for rival in rival_formats(date_format) if rival in tried]
        best = max(rivals, key=lambda rival: tried[rival])  # of equals the first, which has the day first
        if best not in chosen:
            chosen.append(best)
            ambiguous |= sum(tried[rival] == tried[best] for rival in rivals) > 1
    # A format with four digits of the year reads "10" as the year 10, so those with two come first.
    chosen.sort(key=lambda item: ("%y" not in item, -tried[item], item))
    return tuple(chosen), sum(tried[item] for item in chosen), ambiguous


def _type(name: str, state: ColumnState, values: int, formats: tuple[str, ...], dated: int) -> tuple[str, int]:
    """Return the type and how many values can be read as it."""
    counts = state.counts
    for key, kind in _STORED.items():
        if counts[key]:
            return ("datetime" if counts["stored time"] else kind), counts["stored day"] + counts["stored time"]
    if not values:
        return "empty", 0
    numbers = counts["float"]
    compact = all(item == "%Y%m%d" for item in formats)
    if dated >= MOSTLY * values and (numbers < dated or not compact or _sounds_like_date(name)):
        days = all(item == ISO_DAY or not any(mark in item for mark in ("%H", "%I", ISO_TIME)) for item in formats)
        return ("date" if days else "datetime"), dated
    if counts["leading_zeros"] > (1 - MOSTLY) * values:
        return "text", values  # names made of digits
    if numbers >= MOSTLY * values:
        whole, exact = counts["integer"] == numbers, counts["decimal"] >= MOSTLY * values
        kind = "integer" if whole else "decimal" if exact else "float"
        return kind, counts[kind]
    if counts["boolean"] >= MOSTLY * values:
        return "boolean", counts["boolean"]
    return "text", values


def _sounds_like_date(name: str) -> bool:
    return any(word in name.lower() for word in ("date", "day", "dt", "ymd"))


def _readings(state: ColumnState, formats: tuple[str, ...], dated: int) -> dict[str, tuple[int, str, str]]:
    """Return count and ends of everything the values can be read as."""
    found: dict[str, tuple[int, str, str]] = {}
    for kind in _NUMBERS:
        if kind in state.ends:
            low, high = (_short(end) if kind == "decimal" else end for end in state.ends[kind])
            found[kind] = (state.counts[kind], low, high)
    keys = [*_STORED, *(_DATE + item for item in formats)]
    known = [state.ends[key] for key in keys if key in state.ends]
    if known:
        number = dated + sum(state.counts[key] for key in _STORED)
        found["date"] = (number, _moment(min(low for low, _ in known)), _moment(max(high for _, high in known)))
    return found


def _short(number: str) -> str:
    """Drop zeros at the end of a decimal's text."""
    value = Decimal(number)
    return f"{value.quantize(Decimal(1)):f}" if value == value.to_integral_value() else f"{value.normalize():f}"


def _moment(text: str) -> str:
    """Drop zeros at the end of a time, and midnight."""
    return text.removesuffix(".000000").removesuffix("T00:00:00")


def read_document(document: Mapping[str, Any]) -> list[ColumnProfile]:
    """Return the columns of a document of :func:`finish_table`, also of one that was JSON in between."""
    tuples = ("stored", "formats", "length", "top", "shapes")
    return [
        ColumnProfile(
            **{
                **item,
                **{key: tuple(item[key]) for key in tuples},
                "readings": {kind: tuple(reading) for kind, reading in item["readings"].items()},
            }
        )
        for item in document["columns"]
    ]
