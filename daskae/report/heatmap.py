"""Cohorts as rows, months since the first order as columns: the tables of retention and of lifetime value."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from daskae.report.colors import STEPS
from daskae.report.data import CohortCell
from daskae.report.words import month_name
from daskae.units import format_count

MOST_COHORTS = 60
"""Cohorts and periods shown; more would neither fit a page nor be read. The tables in the target hold all."""

_SCALE_TOPS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)


@dataclass(frozen=True)
class Cell:
    """One cell, ready to be written."""

    text: str
    css: str
    hint: str = ""


@dataclass(frozen=True)
class HeatRow:
    """One cohort; its cells end with the last known period."""

    label: str
    size: str
    cells: tuple[Cell, ...]
    unknown: int
    """Periods that lie behind the last month of the data."""


@dataclass(frozen=True)
class HeatTable:
    """A table with coloured cells."""

    periods: range
    rows: tuple[HeatRow, ...]
    overall: tuple[Cell, ...] = ()
    top: float = 0.0
    """Value of the deepest colour; 0 for a table without colours."""
    has_partial: bool = False

    @property
    def dense(self) -> bool:
        """Whether the columns are so many that they must be narrow."""
        return len(self.periods) > 30


def shown_cohorts(cells: Iterable[CohortCell]) -> list[list[CohortCell]]:
    """Group the cells by cohort, both in order; the newest cohorts and the first periods when there are too many."""
    grouped: dict[date, list[CohortCell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.cohort_month, cell.period_index)):
        if cell.period_index < MOST_COHORTS:
            grouped.setdefault(cell.cohort_month, []).append(cell)
    return list(grouped.values())[-MOST_COHORTS:]


def rate_table(
    cohorts: Sequence[Sequence[CohortCell]], rate: Callable[[CohortCell], float], overall: Sequence[float], count: bool
) -> HeatTable:
    """Lay out a retention table.

    Parameters
    ----------
    cohorts : sequence of sequence of CohortCell
        From :func:`shown_cohorts`.
    rate : callable
        The share that a cell shows.
    overall : sequence of float
        The shares over all cohorts by period; none when empty.
    count : bool
        Whether the rate is active customers over cohort size, and a cell can say so.
    """
    top = scale_top([rate(cell) for cohort in cohorts for cell in cohort if cell.period_index > 0])

    def draw(cell: CohortCell) -> Cell:
        share = rate(cell)
        shade = "h0" if cell.period_index == 0 else f"h{shade_of(share, top)}"
        hint = f"{format_count(cell.active_customers)} of {format_count(cell.cohort_size)}" if count else ""
        return Cell(rate_text(share), f"{shade} p" if cell.is_partial else shade, hint)

    table = _lay_out(cohorts, draw, top)
    summary = [Cell(rate_text(share), f"h{shade_of(share, top) if at else 0}") for at, share in enumerate(overall)]
    return HeatTable(table.periods, table.rows, tuple(summary[: len(table.periods)]), top, table.has_partial)


def value_table(cohorts: Sequence[Sequence[CohortCell]], write: Callable[[CohortCell], str]) -> HeatTable:
    """Lay out a table of plain values without colours."""
    return _lay_out(cohorts, lambda cell: Cell(write(cell), "p" if cell.is_partial else ""), 0.0)


def rate_text(share: float) -> str:
    """Write a share as a percentage without its sign, one digit: ``37.4``; exactly all is ``100``."""
    return "100" if share == 1 else f"{100 * share:.1f}"


def scale_top(rates: Iterable[float]) -> float:
    """Return the share that gets the deepest colour: a round number that all but the highest fiftieth stay below.

    Small cohorts may reach any share; they must not make all others pale.
    """
    ordered = sorted(rates)
    if not ordered or ordered[-1] <= 0:
        return 1.0
    typical = ordered[int(0.98 * (len(ordered) - 1))] or ordered[-1]
    return next((top for top in _SCALE_TOPS if top >= typical), 1.0)


def shade_of(share: float, top: float) -> int:
    """Return the number of the shade for a share, the deepest from `top` on."""
    return min(STEPS - 1, int(share / top * STEPS))


def _lay_out(cohorts: Sequence[Sequence[CohortCell]], draw: Callable[[CohortCell], Cell], top: float) -> HeatTable:
    last = max((cohort[-1].period_index for cohort in cohorts), default=-1)
    rows = []
    for cohort in cohorts:
        by_period = {cell.period_index: draw(cell) for cell in cohort}
        known = cohort[-1].period_index + 1
        cells = tuple(by_period.get(period, Cell("", "u")) for period in range(known))
        size = format_count(cohort[0].cohort_size)
        rows.append(HeatRow(month_name(cohort[0].cohort_month), size, cells, last + 1 - known))
    partial = any(cell.is_partial for cohort in cohorts for cell in cohort)
    return HeatTable(range(last + 1), tuple(rows), (), top, partial)
