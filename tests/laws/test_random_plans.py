"""A plan that is accepted keeps below its projection, and that below the limit; one that is refused runs nothing."""

from pathlib import Path

import pytest

from daskae.errors import GateError
from tests.laws.limited import events_of, peaks_of, projected_by
from tests.laws.plans import random_plan
from tests.support import Child

FEW = 2
SEEDS = [*range(FEW), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(FEW, 100))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_plan_keeps_below_its_projection_or_is_refused(seed: int, tmp_path: Path) -> None:
    plan = random_plan(seed, tmp_path)
    child = Child(plan.argv, tmp_path / "output", errors=True)
    code = child.wait()
    events = events_of(next(tmp_path.glob("work/runs/*")))
    if code in (0, GateError.exit_code):  # the gate comes after all tasks: it may not like how many rows are bad
        projected = projected_by(events)
        assert projected <= plan.limit, plan.shape
        assert peaks_of(events)
        for stage, peaks in peaks_of(events).items():
            assert max(peaks) <= projected, f"{stage}: {plan.shape}"
        assert not [event for event in events if event["event"] in ("TaskRepeated", "MemoryPressure")], plan.shape
        return
    said = child.output.read_text()
    assert "a task would need more memory than a worker has" in said, f"{plan.shape}\n{said}"
    assert not [event for event in events if event["event"] in ("PlanReady", "TaskDone")], plan.shape
    assert not list(tmp_path.glob("work/maps/*/*")), plan.shape
