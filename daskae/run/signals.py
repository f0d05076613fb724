"""SIGTERM, which batch systems and containers send, and Ctrl-C: the first ends a run in order, the second at once."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from daskae.monitor.processes import kill_descendants

HOW_TO_GO_ON = "finished parts are kept, run the same command again to go on"
_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_Handler = Callable[[int, FrameType | None], Any] | int | None


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def terminate_like_interrupt() -> Iterator[None]:
    """Turn the first signal into an exception; let the second end this process and all below it at once.

    Ending in order takes a while: tasks that run in this process are not cut short, workers are asked to leave, jobs of
    a batch system are cancelled. After a second signal such jobs end by themselves when they miss the scheduler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            _end_now(number)
        if number == signal.SIGTERM:
            raise Terminated
        raise KeyboardInterrupt

    before: dict[signal.Signals, _Handler] = {number: signal.signal(number, interrupt) for number in _NUMBERS}
    try:
        yield
    finally:
        # On its way out a process keeps them: a second signal may come until it is gone.
        if not seen:
            for number, handler in before.items():
                signal.signal(number, handler)


def _end_now(number: int) -> None:
    kill_descendants()
    # No buffer of Python's is touched: the first signal may have come in the middle of writing to it.
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\nstopped at once; {HOW_TO_GO_ON}\n".encode())
    os._exit(128 + number)
