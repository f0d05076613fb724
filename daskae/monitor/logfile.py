"""``run.log``: what a person greps when a run went wrong, through the standard library's logging."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from daskae.events import Event, RunFinished
from daskae.monitor.lines import describe, one_line, warning
from daskae.monitor.tally import Clock, Tally

LOGGER = logging.getLogger("daskae")
FORMAT = "%(asctime)s %(levelname)s %(message)s"
DATE_FORMAT = "%Y-%m-%dT%H:%M:%S"


@contextmanager
def attach_log_file(path: Path, level: int = logging.INFO) -> Iterator[None]:
    """Write the records of the ``daskae`` logger to a file while the block runs; an old file is continued.

    The logger lets records of `level` through while attached, so handlers that the application has put on the root
    logger see them too, unless they have a level of their own.
    """
    with _attached(logging.FileHandler(path, encoding="utf-8", errors="backslashreplace"), level):
        yield


@contextmanager
def attach_log_stream(stream: TextIO, level: int = logging.INFO) -> Iterator[None]:
    """Write the records of the ``daskae`` logger to an open stream while the block runs; the stream stays open."""
    with _attached(logging.StreamHandler(stream), level):
        yield


@contextmanager
def _attached(handler: logging.Handler, level: int) -> Iterator[None]:
    handler.setFormatter(logging.Formatter(FORMAT, DATE_FORMAT))
    handler.setLevel(level)
    before = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(min(level, LOGGER.getEffectiveLevel()))
    try:
        yield
    finally:
        LOGGER.setLevel(before)
        LOGGER.removeHandler(handler)
        handler.close()


class LogEvents:
    """Listener that logs every event as one readable line.

    Parameters
    ----------
    logger : logging.Logger
        Where the lines go.
    clock : callable
        Seconds that only go up.
    """

    def __init__(self, logger: logging.Logger = LOGGER, clock: Clock = time.monotonic) -> None:
        self._logger = logger
        self._tally = Tally(clock)
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Log one event: warnings as such, the end of a failed run as an error."""
        with self._lock:
            self._tally(event)
            text = one_line(describe(event, self._tally))
        self._logger.log(_level(event), "%s", text)


def _level(event: Event) -> int:
    if warning(event) is not None:
        return logging.WARNING
    failed = isinstance(event, RunFinished) and event.status in ("failed", "refused", "interrupted")
    return logging.ERROR if failed else logging.INFO
