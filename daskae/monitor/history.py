"""The events of a run as JSON lines: what happened can be read years later, without a server.

Each event is one whole line. Lines survive the death of the process at once, and the death of the machine from the end
of the run on. A line torn by a full disk is taken back; one torn by a power cut is cut off at the next opening.

Not covered: two processes that write the same file.
"""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from daskae.events import Event, RunFinished


class EventLog:
    """Listener and context manager that appends every event to a file.

    Parameters
    ----------
    path : Path
        The file, usually ``events.jsonl`` in the run folder; made when missing, else continued.

    Raises
    ------
    OSError
        When a line cannot be written: a run whose evidence is lost should not look well.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _cut_torn_line(path)
        self._file = path.open("ab", buffering=0)
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Append one event."""
        text = json.dumps(event.to_json(), ensure_ascii=False, separators=(",", ":"), default=str)
        # A file name that is not UTF-8 holds lone surrogates; written with a backslash they are valid JSON.
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            self._append(line)
            if isinstance(event, RunFinished):
                os.fsync(self._file.fileno())

    def _append(self, line: bytes) -> None:
        size = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError:
            self._file.truncate(size)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a file in order, without a last line that is torn."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
