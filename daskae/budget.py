"""Where a task looks whether it still may have the memory it has.

A stage calls :func:`checkpoint` between batches. The engine that runs the task says with :func:`guarded` what is looked
at there; without one a checkpoint does nothing. So a task that needs too much stops with an error that can be acted on,
before the operating system or a nanny kills the process and everything else it was doing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Check = Callable[[], None]

_check: ContextVar[Check | None] = ContextVar("daskae_budget", default=None)


def checkpoint() -> None:
    """Let the engine look at this process.

    Raises
    ------
    MemoryLimitError
        If it holds more than it may.
    """
    check = _check.get()
    if check is not None:
        check()


@contextmanager
def guarded(check: Check) -> Iterator[None]:
    """Call ``check`` at every checkpoint of this thread during the block."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)
