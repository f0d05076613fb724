"""How many tasks run at once: fewer while memory is short, more again when it is not.

Halved when pressure shows and again for every ``patience`` seconds that it lasts, raised by one for every ``rest``
seconds without it: quick to give way, slow to come back, so that it does not swing.
"""

import time
from collections.abc import Callable, Sequence

from daskae.engine.base import Emit
from daskae.events import MemoryPressure
from daskae.monitor.memory import available_memory, current_rss, process_limit
from daskae.units import format_bytes

NEAR = 0.8
"""Share of its limit from which a process counts as near it; Dask pauses its workers there too."""
ROOM = 0.05
"""Share of the machine's (or cgroup's) memory that is to stay free."""


class Throttle:
    """Keeps the number of tasks at once.

    Parameters
    ----------
    most : int
        How many run when there is enough memory.
    emit : callable
        Told of every change.
    clock : callable
        Seconds that only go up.
    patience, rest : float
        Seconds; see the module.
    """

    def __init__(
        self, most: int, emit: Emit, clock: Callable[[], float] = time.monotonic, patience: float = 2, rest: float = 5
    ) -> None:
        self._emit, self._clock, self._patience, self._rest = emit, clock, patience, rest
        self.most = self.width = most
        self._changed = clock() - patience

    @property
    def is_open(self) -> bool:
        """Whether nothing is held back."""
        return self.width >= self.most

    def resize(self, most: int) -> None:
        """Take note that workers came or went."""
        self.width = most if self.is_open else min(self.width, most)
        self.most = most

    def look(self, causes: Sequence[str]) -> None:
        """Take note of what is short now; nothing when all is well."""
        now = self._clock()
        since = now - self._changed
        if causes and self.width > 1 and since >= self._patience:
            self._change(max(1, self.width // 2), now, "; ".join(causes)[:300])
        elif causes:
            self._changed = max(self._changed, now - self._patience)
        elif not self.is_open and since >= self._rest:
            self._change(self.width + 1, now, "")

    def _change(self, width: int, now: float, cause: str) -> None:
        self.width, self._changed = width, now
        self._emit(MemoryPressure(width, self.most, cause))


def shortage(limit: int | None) -> list[str]:
    """Say what is short in this process and on its machine; empty when nothing is."""
    found = []
    if limit and (rss := current_rss()) > NEAR * limit:
        found.append(f"the process holds {format_bytes(rss)} of {format_bytes(limit)}")
    free, total = available_memory(), process_limit()
    if free < ROOM * total:
        found.append(f"{format_bytes(free)} of {format_bytes(total)} are free on the machine")
    return found
