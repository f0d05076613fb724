"""What became of the rows in each step: counts that add up over batches and partitions."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class StepState:
    """One step's counts; ``merged`` is associative and commutative."""

    rows_in: int = 0
    rows_out: int = 0
    failed: int = 0
    """Rows that were left as they are because the step failed on them."""
    partitions: int = 0
    skipped: int = 0
    """Partitions for which the condition was not true."""
    seconds: float = 0.0
    error: str = ""
    """The first error in the order of the alphabet, so that no order of tasks shows."""

    def merged(self, other: "StepState") -> "StepState":
        """Return the state of both."""
        errors = [text for text in (self.error, other.error) if text]
        return StepState(
            self.rows_in + other.rows_in, self.rows_out + other.rows_out, self.failed + other.failed,
            self.partitions + other.partitions, self.skipped + other.skipped, self.seconds + other.seconds,
            min(errors, default=""),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def merge_states(parts: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, StepState]:
    """Add up the states that tasks left, by step.

    Raises
    ------
    TypeError
        If the data are not of this form.
    """
    result: dict[str, StepState] = {}
    for part in parts:
        for name, data in part.items():
            state = StepState(**data)
            result[name] = result[name].merged(state) if name in result else state
    return result
