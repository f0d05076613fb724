"""Where a task looks whether it still may have the memory it has.

A stage calls :func:`checkpoint` between batches. The engine that runs the task says with :func:`guarded` what is looked
at there; without one a checkpoint does nothing. So a task that needs too much stops with an error that can be acted on,
before the operating system or a nanny kills the process and everything else it was doing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Guard(Protocol):
    """Looks after the memory of a process on behalf of a task."""

    limit: int
    """Bytes that the process may hold."""

    def __call__(self) -> None:
        """Raise a MemoryLimitError if it holds more."""

    def held(self) -> int:
        """Give back what is free, and return the bytes that the process holds then."""


_guard: ContextVar[Guard | None] = ContextVar("daskae_budget", default=None)


def checkpoint() -> None:
    """Let the engine look at this process.

    Raises
    ------
    MemoryLimitError
        If it holds more than it may.
    """
    guard = _guard.get()
    if guard is not None:
        guard()


def budget() -> tuple[int, int] | None:
    """Return the bytes that this process holds and the bytes that it may hold, None where nobody looks after them."""
    guard = _guard.get()
    return None if guard is None else (guard.held(), guard.limit)


@contextmanager
def guarded(guard: Guard) -> Iterator[None]:
    """Let ``guard`` look at every checkpoint of this thread during the block."""
    token = _guard.set(guard)
    try:
        yield
    finally:
        _guard.reset(token)
