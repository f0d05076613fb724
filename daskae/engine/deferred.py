"""An engine that starts with its first task: a run that finds everything done pays for no cluster."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from daskae.engine.base import Engine, Outcome, Show, cores, succeeding
from daskae.engine.deadline import Deadline


class DeferredEngine:
    """Stands in for an engine until there is something to run; see :class:`daskae.engine.base.Engine`.

    Parameters
    ----------
    name : str
        That engine's name.
    make : callable
        Returns the engine, not entered yet.
    slots : int, optional
        Tasks that it is expected to run at once; by default one a core.
    shown : bool
        Whether it is wanted for its dashboard too, and so from the beginning.
    """

    def __init__(self, name: str, make: Callable[[], Engine], slots: int | None = None, shown: bool = False) -> None:
        self.name = name
        self.deadline: Deadline | None = None
        self._make, self._slots, self._shown = make, slots or cores(), shown
        self._engine: Engine | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine = None
        self._stack.__exit__(kind, error, trace)

    @property
    def slots(self) -> int:
        """Tasks that run at the same time."""
        return self._slots if self._engine is None else self._engine.slots

    @property
    def shares_memory(self) -> bool:
        """Whether several of them share a process."""
        return self.start().shares_memory

    def start(self) -> Engine:
        """Return the engine, started.

        Raises
        ------
        DaskaeError
            If it cannot be.
        """
        if self._engine is None:
            self._engine = self._stack.enter_context(self._make())
            self._engine.deadline = self.deadline
        return self._engine

    def show(self) -> Show | None:
        """Return how to show the run on a dashboard, if that was asked for."""
        return self.start().show() if self._shown else None

    def run(self, function: Callable[..., Any], items: Sequence[Any], *shared: Any) -> Iterator[Outcome]:
        """Run tasks; without any, nothing is started."""
        return succeeding(self.attempt(function, items, *shared))

    def attempt(
        self, function: Callable[..., Any], items: Sequence[Any], *shared: Any, alone: bool = False
    ) -> Iterator[Outcome]:
        """Run tasks; one that runs out of memory or kills its workers has an outcome with an error."""
        if items:
            yield from self.start().attempt(function, items, *shared, alone=alone)
