"""Whether a person's function gives the same values again: it is called twice with a few rows.

Results are kept for later runs and made again after a crash, so a function that draws lots, looks at the clock or at
other rows would make two runs over the same input differ. The second call is given the first rows alone, so a function
for which it matters which rows stand beside them is found out, too.

Not covered: what is the same within a process and differs between processes, such as the order of a set of texts; only
where a part is run twice does :func:`daskae.exchange.commit` see it.
"""

import polars as pl

from daskae.errors import DaskaeError

SAMPLE_ROWS = 200
_TOLERANCE = 1e-9
"""Floats may differ in their last digits with the number of rows that are computed at once."""


def require_same_values(first: pl.DataFrame, again: pl.DataFrame, where: str) -> None:
    """Compare what a function gave for some rows with what it gives for them alone.

    Parameters
    ----------
    first : DataFrame
        The result for all rows.
    again : DataFrame
        The result for the first ``again.height`` of them.
    where : str
        The function in words.

    Raises
    ------
    DaskaeError
        Naming the first column whose values differ. Values are not shown; they may be personal.
    """
    for name in first.columns:
        one = first[name].head(again.height)
        if name not in again.columns or not _are_same(one, again[name]):
            raise DaskaeError(
                "a function gives other values when it is called again with the same rows", where,
                f"column {name}", "values that depend on their own row only",
                "take random numbers, the clock and other rows out of it; validation.check_determinism = false goes on",
            )  # fmt: skip


def _are_same(one: pl.Series, other: pl.Series) -> bool:
    if one.dtype != other.dtype:
        # Of fewer rows a type may be found out to be another one; values count.
        other = other.cast(one.dtype, strict=False)
    if one.dtype.is_float():
        far = ((one - other).abs() > _TOLERANCE * one.abs()).fill_null(False)
        numbers = one.is_nan().fill_null(False).equals(other.is_nan().fill_null(False))
        return numbers and one.is_null().equals(other.is_null()) and not far.any()
    return one.equals(other, null_equal=True)
