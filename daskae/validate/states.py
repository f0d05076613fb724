"""What a part leaves of a rule: counts, the first rows that break it, time, and a table rule's own state.

States merge associatively and commutatively, and the state of a part is known by the rule's fingerprint and the part's
content, so that a part taken in twice changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from daskae.validate.rules import Rule
from daskae.validate.table_states import merge_table_states, moved_table_state

Sample = list[Any]
"""``[[segment, row], value]``: where in the task, or ``[[0, row], value]`` in the whole input; the value as text."""


@dataclass(frozen=True)
class RuleState:
    """The state of one rule over some rows."""

    checked: int = 0
    affected: int = 0
    errors: int = 0
    """Rows for which the rule itself failed; they are not affected."""
    error: str = ""
    """Type and text of such a failure."""
    samples: Sequence[Sample] = ()
    """First rows that break it, in input order."""
    table: dict[str, Any] | None = None
    seconds: float = field(default=0.0, compare=False)
    rule: str = ""
    """Fingerprint of the rule."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data without what is empty."""
        always = ("checked", "affected", "seconds")
        return {key: value for key, value in asdict(self).items() if value or key in always}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "RuleState":
        """Rebuild from :meth:`to_json`."""
        return cls(**data)


def merge_states(rule: Rule | None, one: RuleState, other: RuleState, samples: int) -> RuleState:
    """Return the state of the rows of both; no row is in both.

    Parameters
    ----------
    rule : Rule or None
        None for the reader's and the contract's own.
    one, other : RuleState
    samples : int
        How many rows are shown.
    """
    texts = [text for text in (one.error, other.error) if text]
    tables = [state for state in (one.table, other.table) if state is not None]
    table = merge_table_states(rule, tables, samples) if rule is not None and tables else None
    return RuleState(
        one.checked + other.checked, one.affected + other.affected, one.errors + other.errors,
        min(texts, default=""), first_samples([*one.samples, *other.samples], samples), table,
        round(one.seconds + other.seconds, 6), one.rule or other.rule,
    )  # fmt: skip


def first_samples(samples: Iterable[Sample], count: int) -> list[Sample]:
    """Return the first of some samples, in input order."""
    return sorted(samples, key=lambda sample: sample[0])[:count]


def moved(rule: Rule | None, state: RuleState, overall: Sequence[int]) -> RuleState:
    """Return a task's state with places counted in the whole input.

    Parameters
    ----------
    rule : Rule or None
    state : RuleState
    overall : sequence of int
        First row of each of the task's segments, counted in the whole input.
    """
    samples = [[_place(place, overall), value] for place, value in state.samples]
    table = None if state.table is None or rule is None else moved_table_state(rule, state.table, overall)
    return RuleState(
        state.checked, state.affected, state.errors, state.error, samples, table, state.seconds, state.rule
    )


def _place(place: Sequence[int], overall: Sequence[int]) -> list[int]:
    return [0, overall[place[0]] + place[1]]
