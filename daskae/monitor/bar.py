"""The live bar on a terminal: one line that never wraps, drawn by rich and gone when the run ends."""

import sys
import threading
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from daskae.events import Event, Noted
from daskae.monitor import lines
from daskae.monitor.tally import StageTally, Tally
from daskae.units import format_bytes

PATIENCE_SECONDS = 0.5
"""A run that ends sooner shows no bar, so that small ones do not flicker."""
_WIDEST_BAR, _NARROWEST_BAR = 24, 8


class LiveBar:
    """Stage, bar, n of m, rows, rows/s, ETA, highest memory, elapsed; what does not fit is left out from the right.

    ``NO_COLOR`` is honoured by rich itself.
    """

    period = 0.125

    def __init__(self, stream: TextIO, tally: Tally) -> None:
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._own_stderr = stream is sys.stderr
        self._tally = tally
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._closed = False

    def before(self, event: Event) -> None:
        """Write a warning above the bar."""
        if (warning := lines.warning(event)) is not None:
            text = Text("warning: ", style="yellow").append(lines.one_line(warning), style="default")
            self._quietly(self._console.print, text)
        elif isinstance(event, Noted):
            self._quietly(self._console.print, Text(lines.one_line(event.message)))

    def tick(self) -> None:
        """Draw the bar, once the run has lasted long enough to be watched."""
        with self._lock:
            if self._closed or self._tally.elapsed < PATIENCE_SECONDS:
                return
            if self._live is None:
                self._live = Live(
                    get_renderable=self._render,
                    console=self._console,
                    auto_refresh=False,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=self._own_stderr,
                )
                self._quietly(self._live.start)
            self._quietly(self._live.refresh)

    def close(self) -> None:
        """Remove the bar and give the cursor back."""
        with self._lock:
            self._closed = True
            if self._live is not None:
                self._quietly(self._live.stop)
                self._live = None

    def _quietly(self, action: Callable[..., object], *args: object) -> None:
        try:
            action(*args)
        except (OSError, ValueError):
            self._closed = True

    # Rich calls this while it holds the console's lock, so it must not wait for another: it only reads.
    def _render(self) -> RenderableType:
        stage = self._tally.current
        if stage is None:
            return Group()
        return _line(stage, self._tally, self._console.width)


def _line(stage: StageTally, tally: Tally, width: int) -> Table:
    now = tally.clock()
    facts = [Text(fact) for fact in lines.stage_facts(stage, now)]
    eta = stage.eta(now)
    if eta is not None:
        facts.insert(1, Text(f"ETA {lines.whole_seconds(eta)}", style="bold"))
    if tally.peak_bytes:
        facts.append(Text(f"peak {format_bytes(tally.peak_bytes)}"))
    facts.append(Text(lines.whole_seconds(tally.elapsed), style="dim"))
    name = Text(stage.stage, style="bold")
    while facts and _room(name, facts, width) < _NARROWEST_BAR:
        facts.pop()
    bar = ProgressBar(
        total=1.0,
        completed=stage.fraction,
        width=max(_NARROWEST_BAR, min(_room(name, facts, width), _WIDEST_BAR)),
        pulse=stage.tasks == 0,
        animation_time=now,
        complete_style="cyan",
        finished_style="cyan",
        pulse_style="cyan",
    )
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(name, bar, *facts)
    return grid


def _room(name: Text, facts: list[Text], width: int) -> int:
    """Return the columns left for the bar; every cell but the last is followed by two blanks."""
    return width - name.cell_len - sum(fact.cell_len for fact in facts) - 2 * (len(facts) + 1)
