"""Fewer tasks at once while memory is short, as many as before when it is not."""

import pytest

from daskae.engine import throttle as module
from daskae.engine.inline import InlineEngine
from daskae.engine.throttle import Throttle, shortage
from daskae.events import Event, MemoryPressure


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def scene() -> tuple[Throttle, Clock, list[Event]]:
    events: list[Event] = []
    clock = Clock()
    return Throttle(8, events.append, clock), clock, events


def at_once(events: list[Event]) -> list[tuple[int, int, str]]:
    assert all(isinstance(event, MemoryPressure) for event in events)
    return [(event.at_once, event.of, event.cause) for event in events if isinstance(event, MemoryPressure)]


def test_pressure_halves_and_its_end_raises_by_one(scene: tuple[Throttle, Clock, list[Event]]) -> None:
    throttle, clock, events = scene
    throttle.look(["full"])
    clock.now += 2
    throttle.look(["full"])
    clock.now += 2
    throttle.look(["full", "still"])
    for _ in range(8):
        clock.now += 5
        throttle.look([])
    down = [(4, 8, "full"), (2, 8, "full"), (1, 8, "full; still")]
    assert at_once(events) == [*down, *((width, 8, "") for width in range(2, 9))]
    assert throttle.is_open


def test_it_does_not_swing(scene: tuple[Throttle, Clock, list[Event]]) -> None:
    throttle, clock, events = scene
    throttle.look(["full"])
    for _ in range(30):
        clock.now += 0.1
        throttle.look(["full"] if clock.now < 101.5 else [])
    assert at_once(events) == [(4, 8, "full")]


def test_one_task_always_runs(scene: tuple[Throttle, Clock, list[Event]]) -> None:
    throttle, clock, events = scene
    for _ in range(9):
        throttle.look(["full"])
        clock.now += 10
    assert throttle.width == 1
    assert len(events) == 3


def test_workers_come_and_go(scene: tuple[Throttle, Clock, list[Event]]) -> None:
    throttle, _, _ = scene
    throttle.resize(16)
    assert (throttle.width, throttle.is_open) == (16, True)
    throttle.look(["full"])
    throttle.resize(12)
    assert (throttle.width, throttle.most) == (8, 12)
    throttle.resize(4)
    assert (throttle.width, throttle.most) == (4, 4)
    throttle.resize(16)
    assert (throttle.width, throttle.is_open) == (16, True)


def test_what_is_short_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "current_rss", lambda: 900)
    monkeypatch.setattr(module, "available_memory", lambda: 40)
    monkeypatch.setattr(module, "process_limit", lambda: 1000)
    assert shortage(1000) == ["the process holds 900 B of 1000 B", "40 B of 1000 B are free on the machine"]
    assert shortage(None) == ["40 B of 1000 B are free on the machine"]
    monkeypatch.setattr(module, "available_memory", lambda: 50)
    assert shortage(1125) == []


def test_the_inline_engine_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    monkeypatch.setattr("daskae.engine.inline.shortage", lambda limit: ["full"])
    with InlineEngine(4, None, events.append) as engine:
        assert sorted(outcome.value for outcome in engine.run(abs, range(-40, 0))) == list(range(1, 41))
    assert at_once(events)[0] == (2, 4, "full")
