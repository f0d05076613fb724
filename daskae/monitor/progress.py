"""Progress for whoever watches: a live bar on a terminal, plain lines in a log, nothing when quiet.

Lines hold no carriage return and no escape code, and a long silence is broken by a line that names the running stage
and its age, so the output of a batch system always tells whether a job is alive. Progress is a courtesy: when its
stream breaks it falls silent, and the run goes on.

Not covered: two runs that report to the same terminal at once.
"""

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

from daskae.events import Event, Noted, RunFinished, StageDone, StillRunning
from daskae.monitor import lines
from daskae.monitor.tally import Clock, Tally

SILENCE_SECONDS = 30.0
"""Longest time without a line when the output is not a terminal."""


class Face(Protocol):
    """One way to show a tally."""

    period: float
    """Seconds between two ticks."""

    def before(self, event: Event) -> None:
        """Look at the tally before it counts the event."""

    def tick(self) -> None:
        """Time has passed."""

    def close(self) -> None:
        """Take away what must not stay on the screen."""


class PlainLines:
    """One line at the end of a stage, and one whenever `silence` seconds have passed without any."""

    def __init__(self, stream: TextIO, tally: Tally, silence: float) -> None:
        self.period = min(1.0, silence / 10)
        self._stream, self._tally = stream, tally
        # A line is due one tick early, or the gap would be as long as the silence and a tick.
        self._patience = silence - self.period
        self._last = tally.clock()
        self._lock = threading.Lock()

    def before(self, event: Event) -> None:
        """Write the line that ends a stage, or a warning."""
        stage = self._tally.current
        if (text := lines.warning(event)) is not None:
            self._write(f"warning: {text}")
        elif isinstance(event, Noted):
            self._write(event.message)
        elif isinstance(event, StillRunning):
            self._write(lines.still_waiting(event))
        elif isinstance(event, StageDone) and stage is not None and stage.stage == event.stage:
            self._write(lines.stage_done(stage, event.seconds, self._tally.clock()))

    def tick(self) -> None:
        """Break a silence that has lasted too long."""
        if self._tally.clock() - self._last >= self._patience:
            self._write(lines.still_running(self._tally))

    def close(self) -> None:
        """Leave everything; lines stay."""

    def _write(self, text: str) -> None:
        line = lines.one_line(text)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        line = line.encode(encoding, "backslashreplace").decode(encoding)
        with self._lock:
            self._last = self._tally.clock()
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                self._patience = float("inf")


class TerminalProgress:
    """Listener and context manager that shows a run on `stream`.

    Parameters
    ----------
    stream : text stream
        Where to write, normally ``sys.stderr``.
    interactive : bool, optional
        A live bar (True) or plain lines (False); looked up from the stream and ``TERM`` when not given.
    quiet : bool
        Show nothing at all.
    clock : callable
        Seconds that only go up.
    silence : float
        Longest time without a line when not interactive.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        interactive: bool | None = None,
        quiet: bool = False,
        clock: Clock = time.monotonic,
        silence: float = SILENCE_SECONDS,
    ) -> None:
        self._tally = Tally(clock)
        self._face = None if quiet else _choose_face(stream, self._tally, interactive, silence)
        self._timer: Timer | None = None

    def __call__(self, event: Event) -> None:
        """Take one event; the bar goes away when the run is finished."""
        if self._face is not None:
            self._face.before(event)
        self._tally(event)
        if isinstance(event, RunFinished):
            self.close()

    def tick(self) -> None:
        """Show what time alone has changed; the timer thread calls it, a test may."""
        if self._face is not None:
            self._face.tick()

    def __enter__(self) -> Self:
        if self._face is not None:
            self._timer = Timer(self._face.period, self.tick)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the timer thread and remove the bar; may be called again."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._face is not None:
            self._face.close()


class Timer:
    """A daemon thread that calls `action` every `period` seconds until stopped."""

    def __init__(self, period: float, action: Callable[[], None]) -> None:
        self._stop = threading.Event()
        self._period, self._action = period, action
        self._thread = threading.Thread(target=self._run, name="daskae-progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Return when the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period):
            self._action()


def is_interactive(stream: TextIO) -> bool:
    """Tell whether a live bar works on the stream: a terminal that can move its cursor."""
    try:
        return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
    except ValueError:
        return False


def _choose_face(stream: TextIO, tally: Tally, interactive: bool | None, silence: float) -> Face:
    if is_interactive(stream) if interactive is None else interactive:
        # Rich is needed on a terminal only, and takes longer to import than a small run may last.
        from daskae.monitor.bar import LiveBar

        return LiveBar(stream, tally)
    return PlainLines(stream, tally, silence)
