"""A clock moved by hand, and a map stage stopped half way: what the tests of this folder look at."""

from daskae.events import Listener, RunStarted, StageStarted, TaskDone

MIB = 2**20


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def task(number: int, rows: int = 1000, input_bytes: int = 10 * MIB, peak: int = 300 * MIB) -> TaskDone:
    return TaskDone("map", f"part-{number:04}", rows, input_bytes, peak, 0.5)


def half_a_map(listener: Listener, clock: FakeClock) -> None:
    """Two of eight tasks are done after ten seconds; four more were reused."""
    listener(RunStarted("r1", ("orders/",), "sqlite:///m.db", "runs/r1"))
    listener(StageStarted("map", tasks=8, reused=4, total_bytes=80 * MIB))
    for number in (1, 2):
        clock.now += 5
        listener(task(number))
