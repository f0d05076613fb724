"""The moment after which an engine begins no more tasks."""

import time
from dataclasses import dataclass

from daskae.errors import TimeLimitError


@dataclass(frozen=True)
class Deadline:
    """Two moments of the monotonic clock."""

    stop: float
    """No task is begun after it."""
    leave: float
    """No task is waited for after it."""
    reason: str

    def has_come(self) -> bool:
        """Whether no more tasks may begin."""
        return time.monotonic() >= self.stop

    def over(self) -> TimeLimitError:
        """Return the error that says so."""
        return TimeLimitError(
            "the time is over before the work", self.reason, hint="run the same command again to go on; finished "
            "parts are kept",
        )  # fmt: skip
