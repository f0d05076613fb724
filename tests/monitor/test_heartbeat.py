from daskae.events import Event, StageDone, StageStarted, StillRunning, TaskDone
from daskae.monitor.heartbeat import Heartbeat
from daskae.monitor.lines import describe
from daskae.monitor.tally import Tally

from .scenes import FakeClock, task


def test_a_silence_is_broken_and_names_the_oldest_tasks() -> None:
    clock, told, pending = FakeClock(), list[Event](), [f"a.csv [{i}]" for i in range(5)]
    heartbeat = Heartbeat(told.append, lambda: pending, 25, clock)
    heartbeat(StageStarted("map", tasks=5))
    clock.now += 24
    heartbeat.tick()
    assert told == []
    clock.now += 1
    heartbeat.tick()
    (event,) = told
    assert isinstance(event, StillRunning)
    assert (event.stage, event.seconds, event.tasks, event.others) == (
        "map", 25, ("a.csv [0]", "a.csv [1]", "a.csv [2]"), 2
    )  # fmt: skip
    assert describe(event, Tally(clock)) == (
        "map: nothing has ended for 25 s; waiting for a.csv [0], a.csv [1], a.csv [2] and 2 more"
    )


def test_it_is_broken_again_and_again_until_something_ends() -> None:
    clock, told = FakeClock(), list[Event]()
    heartbeat = Heartbeat(told.append, list, 10, clock)
    heartbeat(StageStarted("publish"))
    for _ in range(3):
        clock.now += 10
        heartbeat.tick()
        heartbeat(told[-1])
    assert [event.seconds for event in told if isinstance(event, StillRunning)] == [10, 20, 30]
    heartbeat(StageDone("publish", 30))
    clock.now += 10
    heartbeat.tick()
    assert describe(told[-1], Tally(clock)) == "between stages: nothing has ended for 10 s"


def test_an_event_puts_it_off() -> None:
    clock, told = FakeClock(), list[Event]()
    heartbeat = Heartbeat(told.append, list, 10, clock)
    for event in (StageStarted("map", tasks=2), task(1), task(2)):
        assert isinstance(event, StageStarted | TaskDone)
        heartbeat(event)
        clock.now += 9
        heartbeat.tick()
    assert told == []
