"""See every task of a stage through: what ran out of memory or died is run again alone, smaller if it can be cut.

A task that ran out of memory is cut, again and again if need be. One whose process died may be to blame or not: it is
run once more alone, then in pieces, and is given up when it has died twice like that. The others go on meanwhile, and
what is given up is raised at the very end.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from daskae.engine.base import Engine, Outcome
from daskae.errors import EngineError, IndivisibleError, MemoryLimitError
from daskae.events import Stage, TaskRepeated
from daskae.run.context import RunContext

Item = TypeVar("Item")
_LONE_TRIES = 2
"""Times that a task is run alone before it is named as the one that kills its process."""


def complete(
    engine: Engine,
    function: Callable[..., Any],
    items: Sequence[Item],
    shared: tuple[Any, ...],
    cut: Callable[[Item], Sequence[Item]],
    context: RunContext,
    stage: Stage,
    packed: Callable[[Item], bool] = lambda _: False,
) -> Iterator[tuple[Item, Outcome]]:
    """Yield each task that ended well with its outcome; one that was cut is there as its pieces.

    Parameters
    ----------
    cut : callable
        Returns smaller tasks that together do the same; none where there are none.
    packed : callable
        Whether a task is several inputs put together; they are told apart before one is given up.

    Raises
    ------
    EngineError
        When all others are done: what could not be done, and why.
    """
    troubled: deque[tuple[Item, EngineError, int]] = deque()
    failed: list[EngineError] = []
    for outcome in engine.attempt(function, items, *shared):
        if outcome.error is None:
            yield items[outcome.index], outcome
        else:
            troubled.append((items[outcome.index], outcome.error, 0))
    while troubled:
        item, error, tries = troubled.popleft()
        tries = min(tries, 1) if packed(item) else tries
        again = _again(item, error, tries, cut, engine.shares_memory)
        if not again:
            failed.append(_given_up(error, item))
            continue
        cause = f"{error.what}{f', {error.got}' if error.got else ''}{f' of {error.allowed}' if error.allowed else ''}"
        context.emit(TaskRepeated(stage, str(item), len(again), cause))
        for outcome in engine.attempt(function, again, *shared, alone=True):
            if outcome.error is None:
                yield again[outcome.index], outcome
            else:
                troubled.append(
                    (again[outcome.index], outcome.error, tries if len(again) > 1 and packed(item) else tries + 1)
                )
    if failed:
        raise failed[0]


def _again(
    item: Item, error: EngineError, tries: int, cut: Callable[[Item], Sequence[Item]], shared: bool
) -> Sequence[Item]:
    """Return what to run instead of a task that failed; nothing when it is given up."""
    if isinstance(error, MemoryLimitError):
        # Where tasks share a process, the others may have taken the memory.
        if shared and tries == 0:
            return [item]
        return () if isinstance(error, IndivisibleError) else cut(item)
    if tries == 0:
        return [item]
    return (cut(item) or [item]) if tries < _LONE_TRIES else ()


def _given_up(error: EngineError, item: object) -> EngineError:
    if isinstance(error, IndivisibleError):
        return error
    if isinstance(error, MemoryLimitError):
        return MemoryLimitError(
            "a part needs more memory than its process may have, alone, and cannot be cut smaller", str(item)[:300],
            error.got, error.allowed, "raise --memory-limit, or use fewer --workers so that each has more",
        )  # fmt: skip
    return type(error)(
        f"{error.what}, {_LONE_TRIES} times while nothing else ran", str(item)[:300], error.got, error.allowed,
        f"take this part out of the input, or {error.hint}",
    )  # fmt: skip
