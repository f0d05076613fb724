import io
import itertools
import re
import subprocess
import sys
import threading
import time

import pytest

from daskae.events import (
    Event,
    MemoryPressure,
    RunFinished,
    RunStarted,
    StageDone,
    StageStarted,
    TaskDone,
    TaskRepeated,
    Warned,
    WorkerLost,
)  # fmt: skip
from daskae.monitor.progress import TerminalProgress, is_interactive
from daskae.monitor.tally import Tally
from tests.support import until

from .scenes import FakeClock, half_a_map, task

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def visible(stream: io.StringIO) -> str:
    """What the last drawing of the bar shows."""
    return ESCAPES.sub("", stream.getvalue().split("\r")[-1]).strip()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


class TestPlainLines:
    def test_one_line_closes_a_stage(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, clock=clock)
        half_a_map(progress, clock)
        assert stream.getvalue() == ""
        progress(StageDone("map", 10.0))
        line = "map: done in 10.0 s, 2 of 8 tasks, 2,000 rows, 200 rows/s, 4 reused\n"
        assert stream.getvalue() == line

    def test_silence_is_broken_within_thirty_seconds(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, interactive=False, clock=clock)
        half_a_map(progress, clock)
        spoken = [1000.0]
        for _ in range(200):
            clock.now += 1
            before = stream.getvalue()
            progress.tick()
            if stream.getvalue() != before:
                spoken.append(clock.now)
        gaps = [later - earlier for earlier, later in itertools.pairwise(spoken)]
        assert len(gaps) >= 6
        assert max(gaps) <= 30

    def test_the_line_names_stage_progress_rate_eta_and_age(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, interactive=False, clock=clock)
        half_a_map(progress, clock)
        clock.now += 20
        progress.tick()
        assert stream.getvalue() == (
            "map: running for 30 s, 2 of 8 tasks, 2,000 rows, 67 rows/s, 4 reused, ETA 10 s, peak memory 300.0 MiB\n"
        )

    def test_a_stage_of_the_driver_alone_tells_its_age(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, interactive=False, clock=clock)
        progress(StageStarted("publish"))
        clock.now += 65
        progress.tick()
        assert stream.getvalue() == "publish: running for 1 min 05 s\n"

    def test_between_stages_there_is_a_sign_of_life(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, interactive=False, clock=clock)
        clock.now += 40
        progress.tick()
        assert stream.getvalue() == "between stages, 40 s since the start\n"

    def test_hostile_text_stays_on_its_line(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, interactive=False, clock=clock)
        progress(Warned("file \x1b[2Jevil\r\nname\u202e left out"))
        assert stream.getvalue() == "warning: file \\x1b[2Jevil\\r\\nname\\u202e left out\n"

    def test_a_terminal_of_another_encoding_is_no_error(self, clock: FakeClock) -> None:
        raw = io.BytesIO()
        progress = TerminalProgress(io.TextIOWrapper(raw, encoding="ascii"), interactive=False, clock=clock)
        progress(Warned("Zürich.csv"))
        assert raw.getvalue() == b"warning: Z\\xfcrich.csv\n"

    def test_a_closed_stream_does_not_end_the_run(self, stream: io.StringIO, clock: FakeClock) -> None:
        with TerminalProgress(stream, interactive=False, clock=clock) as progress:
            stream.close()
            progress(Warned("nobody reads this"))
            progress(RunFinished("done", 1.0))

    def test_the_timer_speaks_when_no_event_comes(self) -> None:
        said = threading.Event()

        class Spoken(io.StringIO):
            def write(self, text: str) -> int:
                written = super().write(text)
                said.set()
                return written

        stream = Spoken()
        with TerminalProgress(stream, interactive=False, silence=0.05) as progress:
            progress(StageStarted("reduce", tasks=3))
            assert said.wait(60)
        assert re.match(r"reduce: running for \d+ s, 0 of 3 tasks\n", stream.getvalue())
        assert "daskae-progress" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 100 columns with colours, whatever the tests are run from."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.usefixtures("terminal")
class TestLiveBar:
    def test_nothing_shows_for_half_a_second(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, interactive=True, clock=clock)
        progress(RunStarted("r1", ("orders/",), "x", "y"))
        progress(StageStarted("map", tasks=1))
        clock.now += 0.4
        progress.tick()
        progress(task(1))
        progress(StageDone("map", 0.4))
        progress(RunFinished("done", 0.4))
        assert stream.getvalue() == ""

    def test_the_bar_tells_everything_on_one_line(
        self, stream: io.StringIO, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "140")
        progress = TerminalProgress(stream, interactive=True, clock=clock)
        half_a_map(progress, clock)
        progress.tick()
        shown = visible(stream)
        assert re.sub(r"[━╸╺]+", "|", shown).split("  ") == [
            "map",
            "|",
            "2 of 8 tasks",
            "ETA 30 s",
            "2,000 rows",
            "200 rows/s",
            "4 reused",
            "peak 300.0 MiB",
            "10 s",
        ]
        progress.close()

    @pytest.mark.parametrize("columns", [20, 40, 60, 80, 100])
    def test_it_never_wraps(
        self, columns: int, stream: io.StringIO, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        progress = TerminalProgress(stream, interactive=True, clock=clock)
        half_a_map(progress, clock)
        progress.tick()
        shown = visible(stream)
        progress.close()
        assert "\n" not in shown
        assert len(shown) <= columns
        assert shown.startswith("map")
        assert ("ETA 30 s" in shown) == (columns >= 40)

    def test_the_bar_is_gone_at_the_end_and_the_cursor_is_back(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, interactive=True, clock=clock)
        half_a_map(progress, clock)
        progress.tick()
        progress(RunFinished("done", 11.0))
        ending = stream.getvalue()
        assert ending.rindex("\x1b[?25h") > ending.rindex("\x1b[?25l")
        assert ending.endswith("\x1b[2K")  # the line is wiped
        progress.tick()
        assert stream.getvalue() == ending

    def test_an_error_in_the_block_gives_the_terminal_back(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, interactive=True, clock=clock)

        def fail() -> None:
            with progress:
                half_a_map(progress, clock)
                progress.tick()
                raise RuntimeError("boom")

        with pytest.raises(RuntimeError, match="boom"):
            fail()
        assert stream.getvalue().endswith("\x1b[2K")
        assert "daskae-progress" not in [thread.name for thread in threading.enumerate()]

    def test_a_warning_stays_above_the_bar(self, stream: io.StringIO, clock: FakeClock) -> None:
        progress = TerminalProgress(stream, interactive=True, clock=clock)
        half_a_map(progress, clock)
        progress.tick()
        progress(Warned("[bold]two files are empty"))
        progress.close()
        assert "warning: [bold]two files are empty\n" in ESCAPES.sub("", stream.getvalue())

    def test_no_color_keeps_the_bar_without_colour(
        self, stream: io.StringIO, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NO_COLOR", "1")
        progress = TerminalProgress(stream, interactive=True, clock=clock)
        half_a_map(progress, clock)
        progress.tick()
        progress.close()
        assert "2 of 8 tasks" in stream.getvalue()
        assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;)[0-9;]*m", stream.getvalue())

    def test_the_timer_draws_it(self, stream: io.StringIO) -> None:
        with TerminalProgress(stream, interactive=True, clock=time.monotonic) as progress:
            progress(StageStarted("gate"))
            until(lambda: "gate" in stream.getvalue(), "the bar")


class TestWhichFace:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def test_a_terminal_gets_the_bar(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "xterm-256color")
        assert is_interactive(self.Terminal())

    def test_a_dumb_terminal_gets_lines(self, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
        monkeypatch.setenv("TERM", "dumb")
        stream = self.Terminal()
        progress = TerminalProgress(stream, clock=clock)
        half_a_map(progress, clock)
        progress(StageDone("map", 10.0))
        assert "map: done" in stream.getvalue()
        assert "\x1b" not in stream.getvalue()
        assert "\r" not in stream.getvalue()

    def test_a_closed_stream_gets_lines(self, stream: io.StringIO) -> None:
        stream.close()
        assert not is_interactive(stream)

    def test_plain_lines_do_not_import_rich(self) -> None:
        code = (
            "import io, sys; from daskae.monitor.progress import TerminalProgress;"
            "TerminalProgress(io.StringIO()).close(); sys.exit('rich' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    @pytest.mark.parametrize("interactive", [True, False])
    def test_quiet_shows_nothing(self, interactive: bool, stream: io.StringIO, clock: FakeClock) -> None:
        with TerminalProgress(stream, interactive=interactive, quiet=True, clock=clock) as progress:
            half_a_map(progress, clock)
            clock.now += 100
            progress.tick()
            progress(Warned("not shown"))
            progress(RunFinished("failed", 110.0))
        assert stream.getvalue() == ""


class TestEta:
    def test_bytes_count_where_the_stage_reads_input(self, clock: FakeClock) -> None:
        tally = Tally(clock)
        tally(StageStarted("map", tasks=2, total_bytes=1000))
        clock.now += 9
        tally(TaskDone("map", "large", 1, 900, 1, 9.0))
        assert tally.current is not None
        assert tally.current.eta(clock.now) == pytest.approx(1.0)

    def test_tasks_count_where_it_does_not(self, clock: FakeClock) -> None:
        tally = Tally(clock)
        tally(StageStarted("reduce", tasks=4))
        clock.now += 3
        tally(TaskDone("reduce", "b0", 1, 0, 1, 3.0))
        assert tally.current is not None
        assert tally.current.eta(clock.now) == pytest.approx(9.0)
        clock.now += 4
        assert tally.current.eta(clock.now) == pytest.approx(5.0)

    def test_there_is_none_before_the_first_task_and_after_the_estimate(self, clock: FakeClock) -> None:
        tally = Tally(clock)
        tally(StageStarted("reduce", tasks=2))
        assert tally.current is not None
        assert tally.current.eta(clock.now) is None
        clock.now += 1
        tally(TaskDone("reduce", "b0", 1, 0, 1, 1.0))
        clock.now += 5
        assert tally.current.eta(clock.now) is None

    def test_a_straggler_of_another_stage_is_not_counted(self, clock: FakeClock) -> None:
        tally = Tally(clock)
        tally(StageStarted("reduce", tasks=2))
        tally(task(1))
        assert tally.current is not None
        assert tally.current.done == 0
        assert tally.peak_bytes == 300 * 2**20


TROUBLE = [
    (
        WorkerLost("tcp://10.0.0.1:99", "memory", ("map-1-7-0",), 95, 100),
        "worker tcp://10.0.0.1:99 is lost: stopped above its memory limit, memory as last seen 95 B of 100 B, "
        "while it ran map-1-7-0",
    ),
    (MemoryPressure(1, 4, "the machine is full"), "memory is short, 1 of 4 tasks at once: the machine is full"),
    (MemoryPressure(4, 4, ""), "memory is enough again, 4 of 4 tasks at once"),
    (TaskRepeated("map", "a.csv [0:9]", 2, "too large"), "map a.csv [0:9] is cut into 2 and run alone: too large"),
    (TaskRepeated("map", "a.csv [0:9]", 1, "it died"), "map a.csv [0:9] is run again, alone: it died"),
]


@pytest.mark.parametrize(("event", "text"), TROUBLE)
def test_trouble_is_told_at_once(event: Event, text: str) -> None:
    stream = io.StringIO()
    with TerminalProgress(stream, interactive=False) as progress:
        progress(event)
    assert stream.getvalue() == f"warning: {text}\n"
