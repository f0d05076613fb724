"""Memory of people's own code."""

import logging
import threading
import time

import pytest

from daskae.monitor import memory_monitor, own_code
from daskae.monitor.memory import current_rss
from tests.support import until

BLOCK = 80 << 20


def hold(seconds: float = 0.05) -> int:
    data = b"x" * BLOCK
    time.sleep(seconds)
    return len(data)


def test_a_block_has_a_peak_an_average_and_samples() -> None:
    before = current_rss()
    with memory_monitor(interval=0.01) as memory:
        first = memory.samples[0]
        hold()
        until(lambda: len(memory.samples) > 3, "some samples")
    assert before + BLOCK * 0.9 < memory.peak < before + BLOCK + (30 << 20)
    assert before * 0.9 < memory.average <= memory.peak
    assert memory.samples[0] == first
    assert memory.samples == sorted(memory.samples)
    assert not memory.exceeded
    assert not [thread for thread in threading.enumerate() if thread.name == "daskae-memory-monitor"]


def test_a_peak_between_two_samples_is_seen() -> None:
    before = current_rss()
    with memory_monitor(interval=60) as memory:
        hold(0)
    assert memory.peak > before + BLOCK * 0.9


def test_a_limit_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    told: list[int] = []
    with caplog.at_level(logging.WARNING, "daskae"), memory_monitor("1MB", 0.01, told.append) as memory:
        hold()
    assert memory.exceeded
    assert len(told) == 1
    assert [record.message.split(",")[1] for record in caplog.records] == [" above the limit of 976.6 KiB"]


def test_a_function_keeps_what_its_last_call_took() -> None:
    @memory_monitor(interval=0.01)
    def work(seconds: float) -> int:
        """Work."""
        return hold(seconds)

    assert (work.__name__, work.__doc__) == ("work", "Work.")
    assert work(0.1) == BLOCK
    first = work.memory  # type: ignore[attr-defined]
    assert work(0.0) == BLOCK
    assert first.samples[-1][0] > 0.1
    assert work.memory is not first  # type: ignore[attr-defined]


def test_an_error_comes_through() -> None:
    with pytest.raises(ValueError, match="no"), memory_monitor() as memory:
        raise ValueError("no")
    assert len(memory.samples) == 2


def test_samples_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "_MOST_SAMPLES", 8)
    with memory_monitor(interval=0.002) as memory:
        first = memory.samples[0]
        until(lambda: memory.samples[-1][0] > 0.2, "a hundred samples' time")
    assert len(memory.samples) <= 9
    assert memory.samples[0] == first
