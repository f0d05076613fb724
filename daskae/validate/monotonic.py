"""Whether a column only rises, or only falls, in input order, found out from pieces that are seen in any order.

A piece is a run of rows seen together: its first and last value, and how many of its rows break the order. Pieces are
put into input order at the end; where one begins, its first row may break the order too.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

State = dict[str, Any]


def observe_order(
    column: pl.Series,
    segments: NDArray[np.int64],
    rows: NDArray[np.int64],
    parameters: Mapping[str, Any],
    samples: int,
) -> State:
    """Return one piece for each segment; rows without a value are passed over.

    A piece is ``[[segment, row], first, last, rows, breaks, text of the first]``.
    """
    known = column.is_not_null().to_numpy()
    values, segments, rows = column.filter(pl.Series(known)), segments[known], rows[known]
    pieces: list[list[Any]] = []
    shown: list[list[Any]] = []
    changes = np.flatnonzero(segments[1:] != segments[:-1]) + 1
    for start, stop in pairwise([0, *changes.tolist(), len(segments)] if len(segments) else []):
        piece = values[start:stop]
        plain = _plain(piece)
        breaks = np.flatnonzero(_breaks(plain[:-1], plain[1:], parameters)) + 1
        place = [int(segments[start]), int(rows[start])]
        pieces.append([place, _json(plain[0]), _json(plain[-1]), len(piece), len(breaks), _text(piece, 0)])
        first = breaks[:samples].tolist()
        shown += [[[int(segments[start + i]), int(rows[start + i])], _text(piece, i)] for i in first]
    return {"pieces": pieces, "samples": shown[:samples]}


def merge_pieces(one: State, other: State, samples: int) -> State:
    """Return the pieces of both in input order; a piece that is in both is there once."""
    pieces = {tuple(piece[0]): piece for piece in [*one["pieces"], *other["pieces"]]}
    shown = {tuple(sample[0]): sample for sample in [*one["samples"], *other["samples"]]}
    return {
        "pieces": [pieces[place] for place in sorted(pieces)],
        "samples": [shown[place] for place in sorted(shown)][:samples],
    }


def moved_pieces(state: State, overall: Sequence[int]) -> State:
    """Return the state with places counted in the whole input."""

    def placed(item: list[Any]) -> list[Any]:
        (segment, row), *rest = item
        return [[0, overall[segment] + row], *rest]

    return {key: [placed(item) for item in state[key]] for key in ("pieces", "samples")}


def settle(state: State, parameters: Mapping[str, Any], samples: int) -> tuple[int, int, list[list[Any]]]:
    """Return the rows that have a value, those that break the order, and the first of these."""
    pieces = sorted(state["pieces"], key=lambda piece: piece[0])
    checked, broken = sum(piece[3] for piece in pieces), sum(piece[4] for piece in pieces)
    shown = list(state["samples"])
    for before, piece in pairwise(pieces):
        if _pair_breaks(before[2], piece[1], parameters):
            broken += 1
            shown.append([piece[0], piece[5]])
    return checked, broken, sorted(shown, key=lambda sample: sample[0])[:samples]


def _plain(values: pl.Series) -> Any:
    """Return values as numbers or texts that sort as they do."""
    if values.dtype == pl.String:
        return np.array(values.to_list(), dtype=object)
    return values.to_physical().to_numpy() if not isinstance(values.dtype, pl.Decimal) else _units(values)


def _units(values: pl.Series) -> Any:
    return values.to_physical().cast(pl.Int64).to_numpy()


def _breaks(before: Any, after: Any, parameters: Mapping[str, Any]) -> Any:
    if parameters["direction"] == "decreasing":
        before, after = after, before
    return np.asarray(after <= before if parameters["strict"] else after < before, dtype=bool)


def _pair_breaks(before: Any, after: Any, parameters: Mapping[str, Any]) -> bool:
    if parameters["direction"] == "decreasing":
        before, after = after, before
    return bool(after <= before if parameters["strict"] else after < before)


def _json(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _text(values: pl.Series, index: int) -> str:
    return str(values[index])[:200]
