"""What the report shows beside the summary, as plain Python; the pipeline fills it.

Every figure is given, none is worked out again here: the report cannot disagree with the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal


@dataclass(frozen=True)
class CohortCell:
    """One row of ``cohort_metrics``."""

    cohort_month: date
    period_index: int
    cohort_size: int
    active_customers: int
    retention: float
    """Share between 0 and 1."""
    rolling_retention: float
    revenue: Decimal
    cumulative_revenue: Decimal
    cumulative_ltv: float
    is_partial: bool
    """The month of this cell is the last of the data and may not be complete."""


@dataclass(frozen=True)
class MonthTotal:
    """One calendar month over all customers."""

    month: date
    orders: int
    active_customers: int
    new_customers: int
    """Customers whose first order is in this month; they are active too."""
    revenue: Decimal
    is_partial: bool = False


@dataclass(frozen=True)
class SegmentTotal:
    """All customers of one segment."""

    customers: int
    revenue: Decimal


@dataclass(frozen=True)
class TopCustomer:
    """One of the customers with the highest revenue."""

    customer_id: str
    revenue: Decimal
    orders: int


@dataclass(frozen=True)
class RejectedSample:
    """One rejected row, to recognise what is wrong with its kind."""

    file: str
    row_number: int
    text: str
    """The raw row; the report shortens it."""


@dataclass(frozen=True)
class ReportData:
    """Everything the report is drawn from, apart from the summary.

    A part that is empty is left out of the report or told as "none".
    """

    title: str = "Customer metrics"
    first_order: date | None = None
    last_order: date | None = None
    currency: str = ""
    """Written behind amounts where there is room; empty when the data names none."""
    money_digits: int = 2
    """Digits after the point of amounts shown; the tables hold the exact values."""
    cohorts: tuple[CohortCell, ...] = ()
    overall_retention: tuple[float, ...] = ()
    """By period, over the cohorts old enough to have it: sum of active over sum of sizes, not a mean of rates."""
    overall_rolling_retention: tuple[float, ...] = ()
    months: tuple[MonthTotal, ...] = ()
    rfm: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Customers with score 1 to 5, by ``recency``, ``frequency`` and ``monetary``."""
    segments: Mapping[str, SegmentTotal] = field(default_factory=dict)
    top_customers: tuple[TopCustomer, ...] = ()
    samples: Mapping[str, tuple[RejectedSample, ...]] = field(default_factory=dict)
    """By the name of the rule, as in ``rejected_by_rule``."""
    mask_customers: bool = False
    """Leave out what can name a person: customer ids and the raw text of rejected rows."""
    definitions: tuple[tuple[str, str], ...] = ()
    """Term and the sentence that says what it is and what it is divided by."""
    settings: str = ""
    """The effective settings as text, secrets masked by the caller."""
    versions: Mapping[str, str] = field(default_factory=dict)
